"""The fast path of input-independent weights: what it must not make, how seldom it computes, and that it is exact.

Legend: B batch, n frames, D model dim, H heads.
"""

import copy
from functools import partial

import pytest
import torch
from s3prl_attention.upstream.encoder import Encoder, EncoderOptions
from s3prl_attention.upstream.kernels.input_independent import InputIndependentAttention, mix
from s3prl_attention.upstream.kernels.reference import attend_input_independent
from s3prl_attention.upstream.synthesizer_random.attention import Attention
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH, FRAMES, HEADS, DIM = 8, 48, 8, 32


class Watch(TorchDispatchMode):
    """Sees every operator: the largest memory behind a result, in elements, and how many softmaxes there were."""

    def __init__(self):
        super().__init__()
        self.largest = 0
        self.num_softmaxes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.num_softmaxes += func is torch.ops.aten._softmax.default
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.largest = max(self.largest, leaf.untyped_storage().nbytes() // leaf.element_size())
        return out


def core(num_frames=FRAMES, dropout=0.0, spread=1.0):
    return InputIndependentAttention(
        spread * torch.randn(HEADS, num_frames, num_frames), hidden_dim=DIM, dropout=dropout
    )


def mask(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


# --- no tensor of B x H x n x n


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "reference"])
def test_no_tensor_of_batch_times_maps_is_made(fast, backward, padded):
    attention, x = core(), torch.randn(BATCH, FRAMES, DIM, requires_grad=True)
    keep = mask(FRAMES, *range(20, 20 + BATCH - 1)) if padded else None
    with Watch() as watch, torch.set_grad_enabled(backward):
        out = attention(x, keep) if fast else attend_input_independent(attention, x, keep)
        if backward:
            out.sum().backward()
    forbidden = BATCH * HEADS * FRAMES * FRAMES
    if fast:
        assert watch.largest <= max(HEADS * FRAMES * FRAMES, 3 * BATCH * FRAMES * DIM)
        assert watch.largest < forbidden / 4
    else:
        assert watch.largest >= forbidden, "the watch must see what the plain form makes"


def test_an_encoder_in_training_makes_none_either():
    encoder = sharing(True, num_layers=2).train()
    frames, keep = torch.randn(BATCH, FRAMES, 12), mask(FRAMES, *range(20, 20 + BATCH - 1))
    with Watch() as watch:
        encoder(frames, keep)[-1].sum().backward()
    assert watch.largest < BATCH * HEADS * FRAMES * FRAMES / 2


# --- one softmax


def sharing(shared_layers, num_layers=3, max_frames=FRAMES):
    options = EncoderOptions(
        hidden_dim=DIM, num_heads=HEADS, num_layers=num_layers, max_frames=max_frames, shared_layers=shared_layers,
        dropout=0.0, stack=1, num_mels=12,
    )  # fmt: skip
    return Encoder(options, lambda: Attention(hidden_dim=DIM, num_heads=HEADS, max_frames=max_frames))


def softmaxes(encoder, frames, backward=False):
    with Watch() as watch:
        out = encoder(frames, None)[-1]
        if backward:
            out.sum().backward()
    return watch.num_softmaxes


@pytest.mark.parametrize(("shared_layers", "count"), [(True, 1), (False, 3)])
def test_training_computes_one_softmax_for_each_distinct_layer(shared_layers, count):
    encoder, frames = sharing(shared_layers).train(), torch.randn(2, 20, 12)
    assert softmaxes(encoder, frames) == count
    assert softmaxes(encoder, frames, backward=True) == count, "every forward computes it anew"
    assert softmaxes(encoder, frames, backward=True) == count


@pytest.mark.parametrize(("shared_layers", "count"), [(True, 1), (False, 3)])
def test_evaluation_keeps_the_softmax(shared_layers, count):
    encoder, frames = sharing(shared_layers).eval(), torch.randn(2, 20, 12)
    with torch.no_grad():
        assert softmaxes(encoder, frames) == count
        assert softmaxes(encoder, frames) == 0
        assert softmaxes(encoder, torch.randn(5, 20, 12)) == 0, "it does not depend on the batch"
        assert softmaxes(encoder, frames[:, :19]) == count, "another length is another softmax"


def optimiser_step(encoder):
    for parameter in encoder.parameters():
        parameter.grad = torch.randn_like(parameter)
    torch.optim.SGD(encoder.parameters(), lr=1.0).step()


@torch.no_grad()
def in_place(encoder):
    for parameter in encoder.parameters():
        parameter.add_(torch.randn_like(parameter))


def new_state(encoder):
    encoder.load_state_dict({name: torch.randn_like(tensor) for name, tensor in encoder.state_dict().items()})


def new_data(encoder):
    for parameter in encoder.parameters():
        parameter.data = torch.randn_like(parameter)


@pytest.mark.parametrize(
    "change", [in_place, new_state, optimiser_step, new_data, lambda encoder: encoder.train().eval(), nn.Module.double]
)
def test_what_evaluation_keeps_is_dropped_when_the_weights_change(change):
    encoder, frames = sharing(True).eval(), torch.randn(2, 20, 12)
    with torch.no_grad():
        encoder(frames, None)
    change(encoder)
    frames = frames.to(encoder.input.weight.dtype)
    with torch.no_grad():
        assert softmaxes(encoder, frames) == 1
        kept = encoder(frames, None)[-1]
        fresh = copy.deepcopy(encoder).train()(frames, None)[-1]
    torch.testing.assert_close(kept, fresh)


def test_gradients_of_shared_layers_are_those_of_the_reference():
    torch.manual_seed(0)
    encoder, frames = sharing(True).train(), torch.randn(2, 20, 12)
    plain = copy.deepcopy(encoder)
    attention = plain.layers[0].attention
    attention.forward = lambda x, keep: attend_input_independent(attention.core, x, keep)
    for each in (encoder, plain):
        (each(frames, None)[-1] * torch.linspace(-1, 1, DIM)).sum().backward()
    for (name, fast), slow in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(fast.grad, slow.grad, atol=1e-4, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def test_a_forward_that_fails_leaves_no_softmax_behind():
    encoder, frames = sharing(True).train(), torch.randn(2, 20, 12)
    with pytest.raises(RuntimeError):
        encoder(frames, torch.ones(2, 7, dtype=torch.bool) & torch.tensor([[True], [False]]))
    in_place(encoder)
    assert softmaxes_of_one_layer(encoder) == 1
    assert softmaxes(encoder, frames) == 1


def test_a_forward_leaves_no_softmax_behind_for_a_layer_called_by_itself():
    encoder = sharing(True).train()
    for _ in range(2):
        softmaxes(encoder, torch.randn(2, 20, 12), backward=True)
        assert softmaxes_of_one_layer(encoder) == 1


def softmaxes_of_one_layer(encoder):
    with Watch() as watch:
        encoder.layers[0].attention(torch.randn(2, 20, DIM), None).sum().backward()
    return watch.num_softmaxes


def test_gradients_flow_in_evaluation_after_a_forward_without_them():
    attention, x = core().eval(), torch.randn(2, 20, DIM)
    with torch.no_grad():
        attention(x, None)
    attention(x, None).sum().backward()
    assert attention.logits.grad is not None
    assert attention.logits.grad[:, :20, :20].any()


def test_inference_mode_and_no_grad_share_what_is_kept():
    attention, x = core().eval(), torch.randn(2, 20, DIM)
    with torch.inference_mode():
        first = attention(x, None)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, None), first)


def test_a_module_built_in_inference_mode_works():
    with torch.inference_mode():
        attention, x = core().eval(), torch.randn(2, 20, DIM)
        torch.testing.assert_close(attention(x, None), attend_input_independent(attention, x, None))


def test_a_module_built_in_inference_mode_sees_that_its_weights_change():
    with torch.inference_mode():
        attention, x = core().eval(), torch.randn(2, 20, DIM)
        attention(x, None)
        attention.logits.add_(torch.randn_like(attention.logits))
        torch.testing.assert_close(attention(x, None), attend_input_independent(attention, x, None))


class Interrupted(InputIndependentAttention):
    """One that another thread asks for another length whenever it has kept a softmax, or is about to compute one."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "_kept" and value is not None and value[0][0] != 7:
            self.softmax(7)

    def _logits(self, num_frames):
        self._shared = None  # the other thread's forward has ended
        return super()._logits(num_frames)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_threads_that_encode_other_lengths_do_not_meet(mode):
    attention = Interrupted(torch.randn(HEADS, FRAMES, FRAMES), hidden_dim=DIM, dropout=0.0).train(mode)
    with torch.set_grad_enabled(mode), attention.one_forward():
        got = attention.softmax(20)
    torch.testing.assert_close(got, attention.logits[:, :20, :20].softmax(-1))


# --- exact with padding


@pytest.mark.parametrize(("gap", "quotient"), [(0, True), (30, True), (60, False), (200, False)])
def test_a_query_whose_weight_lies_on_padding_is_exact(gap, quotient):
    """``gap``: how far the logits of the padding keys of utterance 2 lie above the others."""
    torch.manual_seed(0)
    lengths = (20, 13, 0)
    attention, keep = core(20).train(), mask(*lengths)
    with torch.no_grad():
        attention.logits[:, :13, 13:] += gap
    x = torch.randn(3, 20, DIM)
    values = attention.value(x).unflatten(-1, (HEADS, -1))
    _, lost = mix(attention.softmax(20), values, keep, torch.nn.Identity())
    assert (lost is None) == quotient, "the case must take the path it is for"
    compare_with_reference(attention, x, keep)
    alone = attention(x[1:2, :13], None)
    torch.testing.assert_close(attention(x, keep)[1, :13], alone[0], atol=1e-5, rtol=1e-5)
    assert not attention(x, keep)[2].any()


@torch.no_grad()
def test_in_fp16_a_short_utterance_does_not_slow_its_batch_mates():
    torch.manual_seed(0)
    attention, keep, x = core(20).eval(), mask(20, 2, 13, 19), torch.randn(4, 20, DIM)
    attention.logits[:, :2, 2:] += 8
    want = attend_input_independent(attention, x, keep)
    with Watch() as watch, torch.autocast("cpu", dtype=torch.float16):
        got = attention(x, keep)
    assert watch.num_softmaxes == 2, "one for all, and one for the utterance of two frames"
    torch.testing.assert_close(got.float(), want, atol=5e-3, rtol=0)


def compare_with_reference(attention, x, keep, tolerance=1e-5):
    results = []
    for run in (attention, partial(attend_input_independent, attention)):
        attention.zero_grad()
        leaf = x.clone().requires_grad_()
        out = run(leaf, keep)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)).sum().backward()
        results.append({"out": out.detach(), "x": leaf.grad, **{k: p.grad for k, p in attention.named_parameters()}})
    for name, fast in results[0].items():
        slow = results[1][name]
        assert torch.isfinite(fast).all(), name
        assert slow.abs().max() > 1e-3, f"{name}: nothing to compare"
        scale = max(1.0, float(slow.abs().max()))
        torch.testing.assert_close(
            fast / scale, slow / scale, atol=tolerance, rtol=0, msg=lambda t, n=name: f"{n}: {t}"
        )


@pytest.mark.parametrize("gap", [0, 200, 900])
def test_float64_is_exact_to_its_own_digits(gap):
    torch.manual_seed(0)
    attention, keep = core(20).double(), mask(20, 13)
    with torch.no_grad():
        attention.logits[:, :13, 13:] += gap
    x = torch.randn(2, 20, DIM, dtype=torch.float64)
    compare_with_reference(attention, x, keep, tolerance=1e-12)


def test_padding_needs_no_right_end():
    """Masks with holes are masks too."""
    torch.manual_seed(0)
    keep = torch.rand(3, 20) < 0.5
    compare_with_reference(core(20), torch.randn(3, 20, DIM), keep)


def test_weights_are_the_softmax_over_valid_keys():
    attention, keep = core(20), mask(20, 7)
    weights = attention.weights(torch.randn(2, 20, DIM), keep)
    torch.testing.assert_close(weights[0], attention.logits.softmax(-1))
    torch.testing.assert_close(weights[1, :, :7, :7], attention.logits[:, :7, :7].softmax(-1))
    assert not weights[1, :, 7:].any()


def test_too_long_an_input_names_both_cures():
    with pytest.raises(ValueError, match=r"21 stacked frames are more than max_frames=20.*long_input=windows"):
        core(20)(torch.randn(1, 21, DIM), None)


# --- dropout of attention weights


def test_attention_dropout_scales_and_spares_evaluation():
    torch.manual_seed(0)
    attention, x = core(20, dropout=0.5), torch.randn(4, 20, DIM)
    assert not torch.equal(attention.train()(x, None), attention(x, None))
    torch.testing.assert_close(attention.eval()(x, None), attend_input_independent(attention, x, None))
    with torch.no_grad():
        many = torch.stack([attention.train()(x, None) for _ in range(3000)]).mean(0)
    torch.testing.assert_close(many, attend_input_independent(attention, x, None), atol=0.05, rtol=0)


def test_attention_dropout_does_not_depend_on_the_padding_of_batch_mates():
    torch.manual_seed(0)
    attention, x = core(20, dropout=0.5).train(), torch.randn(2, 20, DIM)
    outs = []
    for keep in (None, mask(20, 13)):
        torch.manual_seed(1)
        outs.append(attention(x, keep)[0])
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-5)


def test_attention_dropout_also_applies_to_utterances_of_one_frame():
    torch.manual_seed(0)
    attention, x, keep = core(20, dropout=0.5).train(), torch.randn(2, 20, DIM), mask(20, 1)
    evaluated = attention.eval()(x, keep)
    outs = [attention.train()(x, keep)[0] for _ in range(20)]
    assert not any(torch.allclose(out, evaluated[0], atol=1e-5) for out in outs), "a forward in training had no dropout"


def test_attention_dropout_applies_where_the_weight_lies_on_padding():
    torch.manual_seed(0)
    attention, keep, x = core(20, dropout=0.5), mask(20, 13), torch.randn(2, 20, DIM)
    with torch.no_grad():
        attention.logits[:, :13, 13:] += 200
        draws = torch.stack([attention.train()(x, keep) for _ in range(1000)])
        exact = attention.eval()(x, keep)
    assert (draws.std(0)[keep] > 0.01).all()
    torch.testing.assert_close(draws.mean(0), exact, atol=0.1, rtol=0)
