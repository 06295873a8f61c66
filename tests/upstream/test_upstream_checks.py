"""Every registered upstream passes the conformance suite, and a mutant fails each of its checks."""

import dataclasses
import sys
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from s3prl_attention.upstream import check_upstream, names
from s3prl_attention.upstream.checks import CHECKS, run_checks
from s3prl_attention.upstream.contract import UPSTREAMS
from s3prl_attention.upstream.expert import UpstreamExpert
from s3prl_attention.upstream.kernels.heads import masked_softmax
from s3prl_attention.upstream.self_attention import attention as sound
from s3prl_attention.upstream.self_attention.reference import attend
from s3prl_attention.upstream.synthesizer_random import attention as bounded
from s3prl_attention.upstream.synthesizer_random.reference import attend as attend_bounded
from torch import nn


@pytest.mark.parametrize("name", names())
def test_conforms(name):
    check_upstream(name)


class Wrapped(nn.Module):
    """Self-attention to be broken in one place."""

    def __init__(self, *, hidden_dim, num_heads, max_frames, dropout=0.0):
        super().__init__()
        self.inner = sound.Attention(hidden_dim=hidden_dim, num_heads=num_heads, max_frames=max_frames, dropout=dropout)

    def forward(self, x, keep):
        return self.inner(x, keep)

    def weights(self, x, keep):
        return self.inner.weights(x, keep)


class ByPosition(sound.Attention):
    def __init__(self, hidden_dim, num_heads, max_frames, dropout=0.0):
        super().__init__(hidden_dim=hidden_dim, num_heads=num_heads, max_frames=max_frames, dropout=dropout)


class CutsOneFrame(Wrapped):
    def forward(self, x, keep):
        return self.inner(x, keep)[:, : max(1, x.shape[1] - x.shape[1] % 2)]


class IgnoresPadding(Wrapped):
    def forward(self, x, keep):
        return self.inner(x, None)


class SubtractsBatchMean(Wrapped):
    def forward(self, x, keep):
        return self.inner(x - x.mean(0, keepdim=True), keep)


class SoftmaxOfNothing(Wrapped):
    def forward(self, x, keep):
        query, key, value = self.inner.project(x)
        logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if keep is not None:
            logits = logits.masked_fill(~keep[:, None, None], float("-inf"))
        return self.inner.output((logits.softmax(-1) @ value).transpose(1, 2).flatten(2))


class IdleParameter(Wrapped):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.idle = nn.Parameter(torch.ones(3))


class DrawsInEvaluation(Wrapped):
    def forward(self, x, keep):
        return self.inner(x, keep) + 1e-3 * torch.rand(())


class SeedlessStart(Wrapped):
    counter: ClassVar[list[int]] = [0]

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.counter[0] += 1
        self.bias = nn.Parameter(torch.full((), float(self.counter[0])))

    def forward(self, x, keep):
        return self.inner(x, keep) * self.bias


class StaleCache(Wrapped):
    kept = None

    def forward(self, x, keep):
        if self.training or torch.is_grad_enabled():
            return self.inner(x, keep)
        if self.kept is None or self.kept.shape != x.shape:
            self.kept = self.inner(x, keep)
        return self.kept


class ForgetsTheRoot(Wrapped):
    def forward(self, x, keep):
        query, key, value = self.inner.project(x)
        mixed = masked_softmax(query @ key.transpose(-1, -2), keep) @ value
        out = self.inner.output(mixed.transpose(1, 2).flatten(2))
        return out if keep is None else out.masked_fill(~keep[..., None], 0.0)


class CountsInHalf(Wrapped):
    def forward(self, x, keep):
        places = torch.arange(x.shape[1], dtype=x.dtype)  # bfloat16 has only even numbers beyond 256
        return self.inner(x, keep) * places.diff(prepend=places[:1] - 1)[:, None]


class UnnormalisedMaps(Wrapped):
    def weights(self, x, keep):
        return 2 * self.inner.weights(x, keep)


class CutsLongInput(bounded.Attention):
    def forward(self, x, keep):
        longest = self.core.max_frames
        return super().forward(x[:, :longest], None if keep is None else keep[:, :longest])


class ForgetsItsNoise(Wrapped):
    """Draws something at the start that the checkpoint does not hold."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.scale = 1 + torch.rand(())

    def forward(self, x, keep):
        return self.inner(x, keep) * self.scale


class HalfRate(UpstreamExpert):
    def forward(self, wavs):
        states = [state[:, ::2] for state in super().forward(wavs)["hidden_states"]]
        return {"hidden_states": states, "last_hidden_state": states[-1]}


@dataclass
class Thawed:
    pass


def bounded_case(attention):
    return {"attention": attention, "info": bounded.INFO, "attend": attend_bounded}


MUTANTS = [
    ("facts", {"info": dataclasses.replace(sound.INFO, order="n^3")}),
    ("facts", {"info": dataclasses.replace(sound.INFO, paper="")}),
    ("facts", {"attention": ByPosition}),
    ("facts", {"options": Thawed}),
    ("shapes", {"attention": CutsOneFrame}),
    ("padding", {"attention": IgnoresPadding}),
    ("batch_mates", {"attention": SubtractsBatchMean}),
    ("no_valid_frame", {"attention": SoftmaxOfNothing}),
    ("gradients", {"attention": IdleParameter}),
    ("determinism", {"attention": DrawsInEvaluation}),
    ("seeding", {"attention": SeedlessStart}),
    ("modes", {"attention": StaleCache}),
    ("reference", {"attention": ForgetsTheRoot}),
    ("reference", {"attention": CountsInHalf}),
    ("maps", {"attention": UnnormalisedMaps}),
    ("maps", {"info": dataclasses.replace(sound.INFO, input_dependent=False)}),
    ("cost", {"info": dataclasses.replace(sound.INFO, macs=lambda n, d, h: 4 * n * d * d + n * n * d)}),
    ("length_limit", bounded_case(CutsLongInput)),
    ("save_and_load", {"attention": ForgetsItsNoise}),
    ("s3prl_contract", {"expert": HalfRate}),
]


@pytest.mark.parametrize(("check", "broken"), MUTANTS, ids=[f"{check}-{i}" for i, (check, _) in enumerate(MUTANTS)])
def test_mutant_is_told_which_rule_it_breaks(check, broken, tmp_path, monkeypatch):
    install(broken, tmp_path, monkeypatch)
    assert run_checks("mutant")[check], f"the check {check} let its mutant pass"
    with pytest.raises(AssertionError, match=f"(?m)^{check}: "):
        check_upstream("mutant")


def test_the_random_states_are_left_alone(monkeypatch):
    seeded, before = [], torch.get_rng_state()
    monkeypatch.setattr("torch.cuda.manual_seed_all", seeded.append)  # what torch.manual_seed calls
    run_checks("no_attention")
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


def test_every_check_has_a_mutant():
    assert {check for check, _ in MUTANTS} == set(CHECKS)


def test_the_unbroken_mutant_passes(tmp_path, monkeypatch):
    install({}, tmp_path, monkeypatch)
    check_upstream("mutant")


def install(broken, tmp_path, monkeypatch):
    """A plug-in called mutant: self-attention but for the parts in ``broken``."""
    (tmp_path / "README.md").write_text("mutant")
    package, attention, reference, expert = (
        ModuleType(name) for name in ("mutant", "mutant.attention", "mutant.reference", "mutant.expert")
    )
    package.__path__ = [str(tmp_path)]
    package.__spec__ = sys.modules[__name__].__spec__.__class__("mutant", None, is_package=True)
    package.__spec__.submodule_search_locations = [str(tmp_path)]
    attention.Attention = broken.get("attention", Wrapped)
    attention.Options = broken.get("options", sound.Options)
    attention.INFO = broken.get("info", sound.INFO)
    wrapped = attend if issubclass(attention.Attention, sound.Attention) else _attend_inner
    reference.attend = broken.get("attend", wrapped)
    expert.UpstreamExpert = partial(broken.get("expert", UpstreamExpert), "mutant")
    for module in (package, attention, reference, expert):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(UPSTREAMS.packages, "mutant", "mutant")


def _attend_inner(attention, x, keep):
    return attend(attention.inner, x, keep)
