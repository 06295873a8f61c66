"""What s3prl's own tests ask of an upstream, each rule a function with a message; for ours and for any in its hub.

    python -m s3prl_attention.upstream check-s3prl fixed_init

Written from their description, through ``s3prl.nn.S3PRLUpstream``: s3prl's compare values less often than these. The
first call imports ``s3prl.hub``, which takes seconds. ``checks.py`` has the rules for what is inside an upstream.

Legend: B batch, T frames, D model dim.
"""

import contextlib
import io
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from s3prl.upstream.interfaces import TOLERABLE_SEQLEN_DIFF, Featurizer
from torch import Tensor

from .checks import small_sizes
from .contract import entry
from .findings import close, finding, refuse_broken
from .s3prl_compat import import_hub
from .s3prl_hub import register, upstream_in_s3prl
from .s3prl_upstreams import PREFIX, check, parse

SHORTEST, LONGEST = 800, 16_000  # samples: 0.05 s and 1 s
BATCHES = ((SHORTEST,), (LONGEST,), (LONGEST, 5_333, SHORTEST), (8_001, 8_001))  # lengths that differ, and equal ones
CHECKS: dict[str, Callable[["Case"], None]] = {}


@dataclass(frozen=True)
class Case:
    """An upstream as s3prl builds it: the name of a function in ``s3prl.hub``, and what it is called with."""

    name: str
    options: Mapping[str, Any]

    def expert(self) -> Any:
        """The bare upstream: a list of waveforms to a dictionary."""
        return getattr(import_hub(), self.name)(**self.options)

    @cached_property
    def wrapped(self) -> Any:
        """The upstream in s3prl's wrapper, padded waveforms and lengths to states and lengths; rules set its mode."""
        from s3prl.nn import S3PRLUpstream

        return S3PRLUpstream(self.name, extra_conf=dict(self.options))


def check_in_s3prl(name: str) -> None:
    """Run every check; raises ``AssertionError`` with a line for each rule that is broken."""
    refuse_broken(name, run_s3prl_checks(name))


def run_s3prl_checks(name: str) -> dict[str, str]:
    """Check -> what is wrong, empty where nothing is; checks of a variant are called ``check[variant]``.

    Args:
        name: an upstream of ours, which is built small, or any name in ``s3prl.hub``; ``s3prl:NAME`` or
            ``s3prl:NAME:CKPT`` is s3prl's own.

    The global random states of Python and of the CPU are left as they were; S3PRLUpstream seeds other devices, if any.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            return {
                f"{check}[{variant}]" if variant else check: finding(run, case)
                for variant, case in _cases(name).items()
                for check, run in CHECKS.items()
            }
    finally:
        random.setstate(state)  # S3PRLUpstream seeds it too


def _cases(name: str) -> dict[str, Case]:
    registered = register(tasks=False)
    if name in registered.upstreams:
        called = registered.upstreams[name]
        return {found.variant: Case(called, small_sizes(found)) for found in entry(name).variants()}
    if not name.startswith(PREFIX):
        return {"": Case(upstream_in_s3prl(name, registered), {})}
    wanted = parse(name)
    check([wanted])
    return {"": Case(wanted.name, {} if wanted.ckpt is None else {"ckpt": wanted.ckpt})}


def _check(run: Callable[[Case], None]) -> Callable[[Case], None]:
    CHECKS[run.__name__] = run
    return run


@_check
def interface(case: Case) -> None:
    """Waveforms in, a dictionary with ``hidden_states`` out; ``get_downsample_rates`` tells their rates."""
    expert = case.expert().eval()
    with torch.no_grad():
        result = expert(_waves((LONGEST, SHORTEST)))
    assert isinstance(result, dict), f"forward must return a dictionary, not {type(result).__name__}"
    assert "hidden_states" in result, f"forward must return 'hidden_states', not only {', '.join(map(repr, result))}"
    states = result["hidden_states"]
    assert isinstance(states, list | tuple), f"hidden_states must be a list or tuple, not {type(states).__name__}"
    assert states, "hidden_states is empty"
    shapes = [tuple(state.shape) for state in states]
    assert all(len(shape) == 3 and shape[0] == 2 for shape in shapes), f"hidden states must be (B, T, D), not {shapes}"
    assert all(torch.isfinite(state).all() for state in states), "a hidden state is not finite"
    rates = expert.get_downsample_rates("hidden_states")
    each = [rates] * len(states) if isinstance(rates, int) else rates
    fits = isinstance(each, list | tuple) and len(each) == len(states) and all(isinstance(rate, int) for rate in each)
    assert fits, f"get_downsample_rates must be an int, or a list of one for each hidden state, not {rates!r}"


@_check
def determinism(case: Case) -> None:
    """In evaluation the same waveforms give equal hidden states, twice."""
    wrapped = case.wrapped.eval()
    waves = _waves((LONGEST, SHORTEST))
    with torch.no_grad():
        first, second = (_call(wrapped, waves)[0] for _ in range(2))
    differing = [layer for layer, pair in enumerate(zip(first, second, strict=True)) if not torch.equal(*pair)]
    assert not differing, f"two evaluations of the same waveforms differ in hidden states {differing}"


@_check
def layer_counts(case: Case) -> None:
    """There are as many hidden states, and as large ones, at every call as at the first."""
    wrapped = case.wrapped
    want, num_layers = wrapped.hidden_sizes, wrapped.num_layers
    entries = len(want), len(wrapped.downsample_rates)
    told = f"hidden_sizes and downsample_rates have {entries} entries for {num_layers} hidden states"
    assert entries == (num_layers, num_layers), told
    for mode, num_calls in (("eval", 1), ("train", 3)):  # layers are dropped at random, in training
        wrapped.train(mode == "train")
        for batch in (1, 2, 3) * num_calls:
            with torch.no_grad():
                states = wrapped.upstream(_waves((LONGEST, 5_333, SHORTEST)[:batch]))["hidden_states"]
            sizes = [state.shape[-1] for state in states]
            assert len(sizes) == len(want), (
                f"{len(sizes)} hidden states in {mode} mode at batch {batch}, but {len(want)} when S3PRLUpstream was "
                "built: their number must be the same at every call, so no layer may be dropped"
            )
            assert sizes == want, f"hidden states are of sizes {sizes} in {mode} mode, but hidden_sizes are {want}"


@_check
def lengths(case: Case) -> None:
    """A hidden state of S samples has (S - 1) // rate + 1 frames, so nearly that s3prl can repair the rest."""
    wrapped = case.wrapped.eval()
    for batch in BATCHES:
        waves = _waves(batch)
        with torch.no_grad():
            bare = wrapped.upstream(waves)["hidden_states"]
            for layer, (state, rate) in enumerate(zip(bare, wrapped.downsample_rates, strict=True)):
                frames, want = state.shape[1], _num_frames(max(batch), rate)
                assert abs(frames - want) < TOLERABLE_SEQLEN_DIFF, (
                    f"hidden state {layer} of {max(batch)} samples has {frames} frames; get_downsample_rates says "
                    f"{rate} samples a frame, so s3prl expects {want} and mends fewer than {TOLERABLE_SEQLEN_DIFF}"
                )
            states, num_frames = _call(wrapped, waves)
        for state, got, rate in zip(states, num_frames, wrapped.downsample_rates, strict=True):
            told = [_num_frames(samples, rate) for samples in batch]
            assert got.tolist() == told, f"utterances of {batch} samples are told to have {got.tolist()} frames"
            assert tuple(state.shape[:2]) == (len(batch), max(told)), (
                f"{batch} samples came out as {tuple(state.shape)}, not as {len(batch)} rows of {max(told)} frames"
            )


@_check
def forward_and_backward(case: Case) -> None:
    """In training, the sum of all hidden states has finite gradients, and not only zeros, at any length and batch."""
    wrapped = case.wrapped.train()
    parameters = {name: weight for name, weight in wrapped.named_parameters() if weight.requires_grad}
    between = [torch.randint(SHORTEST, LONGEST + 1, (batch,)).tolist() for batch in (1, 2, 3)]
    for samples in ([SHORTEST], [LONGEST], [SHORTEST, LONGEST], *between):
        wrapped.zero_grad()
        states, _ = _call(wrapped, _waves(samples))
        loss = torch.stack([state.sum() for state in states]).sum()
        where = f"in train mode, with utterances of {', '.join(map(str, samples))} samples"
        assert torch.isfinite(loss), f"the sum of all hidden states is {loss.item()} {where}"
        if not parameters:  # such as s3prl's fbank: there is nothing to train
            continue
        assert loss.requires_grad, f"no gradient leads from hidden states to parameters {where}: is one detached?"
        loss.backward()
        grads = {name: weight.grad for name, weight in parameters.items() if weight.grad is not None}
        bad = [name for name, grad in grads.items() if not torch.isfinite(grad).all()]
        assert not bad, f"gradients are not finite {where}: {', '.join(bad)}"
        assert any(grad.any() for grad in grads.values()), f"all gradients are zero {where}"


@_check
def batch_mates(case: Case) -> None:
    """Hidden states of an utterance are the same alone and in a batch, of other lengths or of its own.

    The last frames are not compared where the wrapper has made them up, which it does in another way in a batch.
    """
    wrapped = case.wrapped.eval()
    for batch in BATCHES:
        waves = _waves(batch)
        with torch.no_grad():
            together, num_frames = _call(wrapped, waves)
            for row, wave in enumerate(waves):
                for layer, alone in enumerate(wrapped.upstream([wave])["hidden_states"]):
                    frames = min(int(num_frames[layer][row]), alone.shape[1])
                    told = f"hidden state {layer} of {len(wave)} samples depends on a batch of {batch}"
                    close(together[layer][row, :frames], alone[0, :frames], told)


@_check
def featurizers(case: Case) -> None:
    """s3prl's two featurizers, of ``s3prl.nn`` and of ``run_downstream``, sum the hidden states to (B, T, D)."""
    from s3prl.nn import Featurizer as NewFeaturizer

    wrapped = case.wrapped.eval()
    kinds = sorted(set(zip(wrapped.hidden_sizes, wrapped.downsample_rates, strict=True)))
    assert len(kinds) == 1, f"hidden states that are summed must be of one size and rate, not of {kinds}"
    dim, rate = kinds[0]
    batch = (LONGEST, 5_333, SHORTEST)
    waves = _waves(batch)
    with torch.no_grad():
        features, _ = NewFeaturizer(wrapped)(*_call(wrapped, waves))
        want = (len(batch), _num_frames(max(batch), rate), dim)
        assert tuple(features.shape) == want, f"s3prl.nn.Featurizer gave {tuple(features.shape)}, not {want}"
        with contextlib.redirect_stderr(io.StringIO()):  # it tells what it does
            old = Featurizer(wrapped.upstream, upstream_device="cpu")
        parts = old(waves, wrapped.upstream(waves))
    assert len(parts) == len(batch), f"run_downstream's Featurizer gave {len(parts)} utterances, not {len(batch)}"
    for samples, part in zip(batch, parts, strict=True):
        want_frames = round(samples / rate)
        fits = abs(len(part) - want_frames) < TOLERABLE_SEQLEN_DIFF and tuple(part.shape[1:]) == (dim,)
        told = f"{tuple(part.shape)} for {samples} samples, not {(want_frames, dim)}"
        assert fits, f"run_downstream's Featurizer gave {told}"


def _num_frames(samples: int, rate: int) -> int:
    return (samples - 1) // rate + 1


def _waves(samples: Sequence[int]) -> list[Tensor]:
    return [0.1 * torch.randn(count) for count in samples]


def _call(wrapped: Any, waves: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden states (B, T, D) and their lengths (B,), as the wrapper gives them for padded waveforms."""
    num_samples = torch.tensor([len(wave) for wave in waves])
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    try:
        return wrapped(padded, num_samples)
    except AssertionError as error:  # which gives two numbers
        raise AssertionError(
            f"S3PRLUpstream refuses the hidden states of {num_samples.tolist()} samples ({error}): their number must "
            "be that of the first call, and their frames those that get_downsample_rates promises"
        ) from None
