"""The post-LN encoder against its formula, shared layers against unshared ones, and the sizes it refuses."""

import math

import pytest
import torch
from s3prl.pretrain.mockingjay.task import fast_position_encoding
from s3prl_attention.upstream import load, names
from s3prl_attention.upstream.encoder import EncoderLayer, EncoderOptions, sinusoid
from torch.nn import LayerNorm, functional

SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 3, "max_frames": 12, "stack": 1, "num_mels": 6, "dropout": 0.0}


def encoder(name, **options):
    torch.manual_seed(0)
    return load(name, **{**SIZES, **options}).encoder


@pytest.mark.parametrize("name", names())
def test_shared_layers_have_the_parameters_of_one(name):
    shared, one = encoder(name, shared_layers=True), encoder(name, num_layers=1)
    assert {n: p.shape for n, p in shared.named_parameters()} == {n: p.shape for n, p in one.named_parameters()}
    assert len(shared(torch.randn(1, 5, 6), None)) == 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", names())
def test_shared_layers_equal_layers_of_the_same_weights(name, training):
    shared, apart = encoder(name, shared_layers=True).train(training), encoder(name).train(training)
    weights = shared.state_dict()
    layers = {
        key.replace("layers.0.", f"layers.{index}."): weights[key]
        for key in weights if key.startswith("layers.0.") for index in range(3)
    }  # fmt: skip
    apart.load_state_dict({**weights, **layers})
    frames, keep = torch.randn(2, 9, 6), torch.arange(9) < torch.tensor([[9], [4]])
    with torch.set_grad_enabled(training):
        for index, (got, want) in enumerate(zip(shared(frames, keep), apart(frames, keep), strict=True)):
            torch.testing.assert_close(got, want, msg=lambda text, i=index: f"state {i}: {text}")


def test_without_sharing_every_layer_has_its_own_weights():
    first, *others = [dict(layer.named_parameters()) for layer in encoder("self_attention").layers]
    assert len(others) == 2
    assert not any(torch.equal(first["ffn_in.weight"], other["ffn_in.weight"]) for other in others)


@pytest.mark.parametrize("name", names())
def test_states_are_those_of_the_post_ln_formula(name):
    subject, frames = encoder(name, num_layers=2).eval(), torch.randn(2, 9, 6)
    for parameter in subject.parameters():  # biases and norms too, which start at 0 and 1
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    dim = SIZES["hidden_dim"]

    def norm(x, module):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * module.weight + module.bias

    x = norm(frames @ subject.input.weight.T + subject.input.bias + positions(9, dim), subject.input_norm)
    want = [x]
    for layer in subject.layers:
        x = norm(x + layer.attention(x, None), layer.attention_norm)
        inner = x @ layer.ffn_in.weight.T + layer.ffn_in.bias
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + inner @ layer.ffn_out.weight.T + layer.ffn_out.bias, layer.ffn_norm)
        want.append(x)
    for got, expected in zip(subject(frames, None), want, strict=True):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def positions(num_frames, dim):
    table = torch.zeros(num_frames, dim, dtype=torch.float64)
    for frame in range(num_frames):
        for k in range(dim // 2):
            angle = frame / 10_000 ** (2 * k / dim)
            table[frame, k], table[frame, dim // 2 + k] = math.sin(angle), math.cos(angle)
    return table.float()


def test_sinusoid_is_that_of_vaswani():
    torch.testing.assert_close(sinusoid(300, 16), positions(300, 16), atol=1e-6, rtol=0)


def test_interleaved_positions_are_s3prls():
    torch.testing.assert_close(sinusoid(2000, 48, "interleaved"), fast_position_encoding(2000, 48), atol=1e-6, rtol=0)
    torch.testing.assert_close(sinusoid(300, 16, "interleaved")[:, 0::2], positions(300, 16)[:, :8])


def test_positions_keep_their_order_when_they_grow():
    short, long = (encoder("self_attention", max_frames=n, positions="interleaved").eval() for n in (5, 50))
    frames = torch.randn(2, 23, 6)
    assert torch.equal(short(frames, None)[0], long(frames, None)[0])
    assert not torch.equal(long(frames, None)[0], encoder("self_attention").eval()(frames, None)[0])


def test_every_norm_has_the_eps_asked_for():
    norms = [module for module in encoder("self_attention", norm_eps=1e-9).modules() if isinstance(module, LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-9] * 7


def test_self_attention_goes_beyond_max_frames():
    short, long = encoder("self_attention", max_frames=5).eval(), encoder("self_attention", max_frames=50).eval()
    long.load_state_dict(short.state_dict())
    for num_frames in (23, 31, 4):  # grows, grows again, and then a shorter one
        frames = torch.randn(2, num_frames, 6)
        torch.testing.assert_close(short(frames, None)[-1], long(frames, None)[-1])
    assert short.state_dict().keys() == long.state_dict().keys()
    assert "positions" not in short.state_dict()


def test_a_sinusoid_that_grew_keeps_the_type():
    subject = encoder("self_attention", max_frames=5).double()
    assert subject(torch.randn(1, 9, 6, dtype=torch.float64), None)[-1].dtype == torch.float64


def test_a_mask_that_keeps_all_is_no_mask():
    subject, frames = encoder("fixed_init").eval(), torch.randn(2, 9, 6)
    masked = subject(frames, torch.ones(2, 9, dtype=torch.bool))
    assert all(torch.equal(got, want) for got, want in zip(masked, subject(frames, None), strict=True))


@pytest.mark.parametrize("name", names())
def test_dropout_acts_in_training_only(name):
    subject, frames = encoder(name, dropout=0.5), torch.randn(2, 9, 6)
    assert not torch.equal(subject.train()(frames, None)[-1], subject(frames, None)[-1])
    assert torch.equal(subject.eval()(frames, None)[-1], subject(frames, None)[-1])


def test_the_layer_passes_the_mask_on():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, keep):
            seen.append(keep)
            return torch.zeros_like(x)

    layer, keep = EncoderLayer(Spy(), hidden_dim=4, ffn_dim=8, dropout=0.0), torch.tensor([[True, False]])
    x = torch.randn(1, 2, 4)
    with torch.no_grad():
        layer.ffn_out.weight.zero_()
        layer.ffn_out.bias.zero_()
    twice = functional.layer_norm(functional.layer_norm(x, (4,)), (4,))
    torch.testing.assert_close(layer(x, keep), twice)
    assert seen == [keep]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            ({name: 0}, f"{name} must be at least 1, got 0")
            for name in ("hidden_dim", "num_heads", "num_layers", "ffn_ratio", "max_frames", "stack", "num_mels")
        ],
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"attention_dropout": 1.0}, "attention_dropout must be"),
        ({"hidden_dim": 20, "num_heads": 8}, "a multiple of num_heads, got hidden_dim=20 and num_heads=8"),
        ({"hidden_dim": 21, "num_heads": 7}, "must be even"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0 and finite, got 0.0"),
        ({"norm_eps": math.inf}, "norm_eps must be above 0"),
        ({"positions": "halved"}, "positions must be one of halves, interleaved, got 'halved'"),
        ({"num_layers": -2}, "num_layers must be at least 1, got -2"),
    ],
)
def test_sizes_that_no_encoder_can_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EncoderOptions(**options)
    with pytest.raises(ValueError, match=message):
        load("self_attention", **options)


def test_the_input_is_as_wide_as_its_stacked_mel_bands():
    assert EncoderOptions(stack=3, num_mels=40).input_dim == 120
    assert encoder("self_attention", stack=2, num_mels=5).input.in_features == 10


@pytest.mark.parametrize(("weight_init", "inside"), [("unit", 256**-0.5), ("bert", 0.02), ("mixed", 0.02)])
def test_linear_weights_start_as_asked(weight_init, inside):
    encoder = load("self_attention", hidden_dim=256, num_layers=1, weight_init=weight_init).encoder
    assert float(encoder.layers[0].ffn_in.weight.detach().std()) == pytest.approx(inside, rel=0.05)
    assert float(encoder.input.weight.detach().std()) == pytest.approx(
        0.02 if weight_init == "bert" else 240**-0.5, rel=0.05
    )
    assert not encoder.layers[0].ffn_in.bias.any()


def test_an_unknown_start_is_told():
    with pytest.raises(ValueError, match="weight_init must be one of unit, bert, mixed, got 'brt'"):
        load("self_attention", weight_init="brt")
