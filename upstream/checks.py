"""The conformance suite: what every upstream must do, each rule a function with a message.

    python -m s3prl_attention.upstream check fixed_init

Legend: B batch, n stacked frames, D model dim, H heads.
"""

import inspect
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .contract import UPSTREAMS, Entry, entry
from .findings import close, finding, refuse_broken

LENGTHS = (1, 2, 5, 31, 32, 33, 63, 100, 301)  # bfloat16 counts to 256
MAX_FRAMES = 304
ORDERS = ("n", "n log n", "n^1.5", "n^2")
CHECKS: dict[str, Callable[[Entry], None]] = {}


def check_upstream(name: str) -> None:
    """Run every check; raises ``AssertionError`` with a line for each rule that is broken."""
    refuse_broken(name, run_checks(name))


def run_checks(name: str) -> dict[str, str]:
    """Check -> what is wrong, empty where nothing is; checks of a variant are called ``check[variant]``.

    The global random state is left as it was, on every device.
    """
    with torch.random.fork_rng(devices=[]):
        return {
            f"{check}[{found.variant}]" if found.variant else check: finding(run, found)
            for found in entry(name).variants()
            for check, run in CHECKS.items()
        }


def _check(run: Callable[[Entry], None]) -> Callable[[Entry], None]:
    CHECKS[run.__name__] = run
    return run


@_check
def facts(found: Entry) -> None:
    """What stands beside the class is complete."""
    info = found.info
    for field in ("title", "paper", "family"):
        assert getattr(info, field), f"INFO.{field} is empty"
    order = info.order_with(found.own)
    assert order in ORDERS, f"INFO says that the order is {order!r}; it must be one of {ORDERS}"
    frozen = vars(found.options)["__dataclass_params__"].frozen
    assert frozen, "Options must be a frozen dataclass: @dataclass(frozen=True)"
    arguments = inspect.signature(found.attention).parameters.values()
    loose = [a.name for a in arguments if a.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert not loose, f"Attention takes keyword-only arguments; {', '.join(loose)} can be given by position"
    assert (UPSTREAMS.folder(found.name) / "README.md").is_file(), "the folder has no README.md"


@_check
def shapes(found: Entry) -> None:
    """L + 1 finite hidden states (B, n, D) at every length."""
    expert = _expert(found).eval()
    for num_frames in LENGTHS:
        states = expert.encoder(torch.randn(2, num_frames, expert.options.input_dim), None)
        want = (2, num_frames, expert.options.hidden_dim)
        got = [tuple(state.shape) for state in states]
        assert got == [want] * (expert.options.num_layers + 1), f"hidden states at n={num_frames}: {got}"
        assert all(torch.isfinite(state).all() for state in states), f"a hidden state is not finite at n={num_frames}"


@_check
def padding(found: Entry) -> None:
    """An utterance gives the same frames alone and padded."""
    attention, dim = _attention(found)
    x, keep = _batch(dim, (100, 33, 5, 1))
    batch = attention(x, keep)
    for row, length in enumerate((100, 33, 5, 1)):
        alone = attention(x[row : row + 1, :length], None)
        close(batch[row, :length], alone[0], f"padding changes an utterance of n={length}")
        assert not batch[row, length:].any(), "padding must come out as zero"


@_check
def batch_mates(found: Entry) -> None:
    """An utterance gives the same frames whatever else is in the batch."""
    attention, dim = _attention(found)
    x, keep = _batch(dim, (63, 63, 31))
    other = torch.cat([x[:1], 3 * torch.randn_like(x[1:])])
    close(attention(x, keep)[0], attention(other, keep)[0], "an utterance depends on its batch mates")
    loud = torch.where(keep[..., None], x, 1e4)
    close(attention(x, keep), attention(loud, keep), "what stands in the padding changes the result")


@_check
def no_valid_frame(found: Entry) -> None:
    """An utterance without a valid frame gives zeros, and finite gradients."""
    attention, dim = _attention(found)
    x, keep = _batch(dim, (31, 0))
    x.requires_grad_()
    out = attention(x, keep)
    assert torch.isfinite(out).all(), "an utterance without a valid frame must give zeros, not NaN"
    assert not out[1].any(), "an utterance without a valid frame must give zeros"
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all(), "an utterance without a valid frame makes gradients NaN"


@_check
def gradients(found: Entry) -> None:
    """The loss reaches every parameter, in train mode, at batch 1 too."""
    for batch in (3, 1):
        expert = _expert(found).train()
        states = expert.encoder(torch.randn(batch, MAX_FRAMES, expert.options.input_dim), None)
        (states[-1] * torch.randn_like(states[-1])).sum().backward()
        dead = [name for name, p in expert.encoder.named_parameters() if p.grad is None or not p.grad.any()]
        assert not dead, f"no gradient reaches {', '.join(dead)} (batch {batch})"


@_check
def determinism(found: Entry) -> None:
    """In evaluation the result depends on input and parameters alone, not on the global random state."""
    attention, dim = _attention(found)
    x, keep = _batch(dim, (63, 40))
    torch.default_generator.manual_seed(1)
    before = torch.get_rng_state()
    first = attention(x, keep)
    assert torch.equal(before, torch.get_rng_state()), "evaluation draws from the global random state"
    torch.default_generator.manual_seed(2)
    assert torch.equal(first, attention(x, keep)), "two evaluations of one input differ"


@_check
def seeding(found: Entry) -> None:
    """The global seed decides the weights at the start."""
    weights = []
    for _ in range(2):
        torch.default_generator.manual_seed(3)
        weights.append(_attention(found)[0].state_dict())
    differing = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert not differing, f"torch.manual_seed does not decide {', '.join(differing)}"


@_check
def modes(found: Entry) -> None:
    """Without dropout train and eval agree, also after the parameters have changed."""
    attention, dim = _attention(found)
    x, _ = _batch(dim, (33,))
    for moment in ("at the start", "after parameters have changed in place"):
        with torch.no_grad():
            trained = attention.train()(x, None)
            evaluated = attention.eval()(x, None)
            close(evaluated, trained, f"eval differs from train {moment}")
            for parameter in attention.parameters():
                parameter.add_(torch.randn_like(parameter))
            changed = attention(x, None)
            assert not torch.equal(changed, evaluated), "eval does not see that parameters have changed"


@_check
def reference(found: Entry) -> None:
    """The fast path equals the plain one, gradients included, and in bfloat16 within its rounding."""
    for lengths in (*((n,) for n in LENGTHS), (100, 33, 5), (32, 31, 2), "with gaps"):
        attention, dim = _attention(found)
        x, keep = _batch(dim, lengths) if isinstance(lengths, tuple) else _batch(dim, (100, 63))
        mask = None if len(lengths) == 1 else keep
        if lengths == "with gaps":
            mask = keep & (torch.rand(keep.shape) < 0.7)
        plain = _bound(found.attend, attention)
        fast, slow = (_with_gradients(attention, run, x, mask) for run in (attention, plain))
        close(fast[0], slow[0], f"differs from the reference at n={lengths}")
        for name, grad in slow[1].items():
            told = f"the gradient of {name} differs from the reference's at n={lengths}"
            close(fast[1][name], grad, told, tolerance=5e-5)  # a sum over all frames rounds more than one frame does
        with torch.no_grad():
            half = attention.to(torch.bfloat16)(x.to(torch.bfloat16), mask).float()
            # keys picked by rank change with the rounding: then the reference must have rounded alike
            want = plain(x.to(torch.bfloat16), mask).float() if found.info.selects_keys else slow[0]
        close(half, want, f"bfloat16 differs from the reference at n={lengths}", tolerance=0.1)


@_check
def maps(found: Entry) -> None:
    """``weights`` gives maps that sum to 1 over valid keys and that fit ``input_dependent``."""
    attention, dim = _attention(found)
    x, keep = _batch(dim, (33, 20))
    weights = attention.weights(x, keep)
    want = (2, attention_heads(found), 33, 33)
    assert tuple(weights.shape) == want, f"weights are {tuple(weights.shape)}, not (B, H, n, n) = {want}"
    close(
        weights.sum(-1), keep[:, None].expand(weights.shape[:3]).float(), "rows of weights must sum to 1, padding to 0"
    )
    assert not weights[1, :, :, 20:].any(), "weights give padding a share"
    same = torch.allclose(weights[:1], attention.weights(2 * x.roll(1, 1), keep)[:1], atol=1e-6)
    assert same != found.info.input_dependent, f"weights contradict INFO.input_dependent={found.info.input_dependent}"


@_check
def cost(found: Entry) -> None:
    """The closed form counts the products that are computed."""
    for num_frames in (64, 100):
        attention, dim = _attention(found, max_frames=num_frames)
        x, _ = _batch(dim, (num_frames,))
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _counter() as counter:
            attention(x, None)
        declared = found.info.macs(num_frames, dim, attention_heads(found), **found.own)
        counted = counter.get_total_flops() // 2
        assert declared == counted, f"INFO.macs says {declared:,} at n={num_frames}, PyTorch counts {counted:,}"


@_check
def length_limit(found: Entry) -> None:
    """Beyond max_frames: an error that names the option, or, without a limit, a result."""
    attention, dim = _attention(found)
    x, _ = _batch(dim, (MAX_FRAMES + 1,))
    try:
        out = attention(x, None)
    except ValueError as error:
        message = str(error)
        assert found.info.length_bound, f"fails beyond max_frames though INFO.length_bound is False: {message}"
        assert "max_frames" in message, f"the error for a long input must name max_frames: {message}"
    else:
        assert not found.info.length_bound, "a longer input than max_frames must be an error, never a silent cut"
        assert out.shape == x.shape, f"an input of {tuple(x.shape)} came out as {tuple(out.shape)}"


@_check
def save_and_load(found: Entry) -> None:
    """A checkpoint restores the upstream under any global seed."""
    expert = _expert(found).eval()
    waves = _waves()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        expert.save(Path(folder) / "checkpoint")
        torch.default_generator.manual_seed(99)
        again = _expert_class(found)(ckpt=Path(folder) / "checkpoint").eval()
        for before, after in zip(expert(waves)["hidden_states"], again(waves)["hidden_states"], strict=True):
            assert torch.equal(before, after), "a loaded checkpoint gives other hidden states than the one saved"


@_check
def s3prl_contract(found: Entry) -> None:
    """Waveforms in, hidden states at 10 ms out, as s3prl builds and calls an upstream."""
    expert = _expert_class(found)(ckpt=None, model_config=None, refresh=False, **found.own).eval()
    assert expert.get_downsample_rates("hidden_states") == 160, "get_downsample_rates must be 160 (10 ms)"
    waves = _waves()
    with torch.no_grad():
        batch = expert(waves)
        assert torch.equal(batch["last_hidden_state"], batch["hidden_states"][-1]), "last_hidden_state is not the last"
        assert len(batch["hidden_states"]) == expert.options.num_layers + 1, "hidden_states must be input and L layers"
        for row, wave in enumerate(waves):
            frames = -(-len(wave) // 160)
            for got, alone in zip(batch["hidden_states"], expert([wave])["hidden_states"], strict=True):
                assert alone.shape[1] == frames, f"{len(wave)} samples gave {alone.shape[1]} frames, not {frames}"
                close(got[row, :frames], alone[0], "features of an utterance depend on its batch mates")


def _counter() -> FlopCounterMode:
    """Counts matrix products, as PyTorch does, and running sums, of which each entry adds one product."""
    running_sum = {torch.ops.aten.cumsum: lambda shape, *_, out_shape=None, **__: 2 * math.prod(shape)}
    return FlopCounterMode(display=False, custom_mapping=running_sum)


def attention_heads(found: Entry) -> int:
    """The number of heads that the checks use."""
    return max(8, found.info.min_heads)


def small_sizes(found: Entry) -> dict[str, Any]:
    """The options with which the checks build an upstream: small, without dropout, and its own."""
    heads = attention_heads(found)
    return {
        "hidden_dim": 8 * heads,
        "num_heads": heads,
        "num_layers": 2,
        "max_frames": MAX_FRAMES,
        "dropout": 0.0,
        **found.own,
    }


def _expert_class(found: Entry) -> Callable[..., Any]:
    return UPSTREAMS.load(found.name, "expert").UpstreamExpert


def _expert(found: Entry) -> Any:
    return _expert_class(found)(**small_sizes(found))


def _attention(found: Entry, max_frames: int = MAX_FRAMES) -> tuple[Any, int]:
    heads = attention_heads(found)
    dim = 8 * heads
    attention = found.attention(hidden_dim=dim, num_heads=heads, max_frames=max_frames, dropout=0.0, **found.own)
    return attention.eval(), dim


def _batch(dim: int, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    keep = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), dim), keep


def _waves() -> list[Tensor]:
    """0.05 s, 1 s, 0.33 s and one sample at 16 kHz."""
    return [0.1 * torch.randn(samples) for samples in (800, 16_000, 5_333, 1)]


def _bound(attend: Callable[..., Tensor], attention: nn.Module) -> Callable[..., Tensor]:
    return lambda x, keep: attend(attention, x, keep)


def _with_gradients(
    attention: nn.Module, run: Callable[..., Tensor], x: Tensor, keep: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    attention.zero_grad()
    x = x.clone().requires_grad_()
    out = run(x, keep)
    weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    if keep is not None:
        weight = weight * keep[..., None]
    (out * weight).sum().backward()
    grads = {name: p.grad.clone() for name, p in attention.named_parameters() if p.grad is not None}
    assert x.grad is not None, "no gradient reaches the input"
    return out.detach(), {**grads, "the input": x.grad}
