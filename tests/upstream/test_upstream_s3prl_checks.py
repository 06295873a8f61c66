"""Every registered upstream passes what s3prl asks, and one that breaks a rule is told which, in words."""

import random
import re

import pytest
import torch
from s3prl_attention.upstream import load, names
from s3prl_attention.upstream.__main__ import main
from s3prl_attention.upstream.s3prl_checks import CHECKS, check_in_s3prl, run_s3prl_checks
from torch import nn

pytestmark = pytest.mark.usefixtures("s3prl_hub")


@pytest.mark.parametrize("name", names())
def test_passes_what_s3prl_asks(name):
    check_in_s3prl(name)


class Sound(nn.Module):
    """A small upstream to be broken in one place."""

    def __init__(self, **options):
        super().__init__()
        assert set(options) <= {"refresh"}
        self.inner = load("fixed_patterns", hidden_dim=32, num_layers=2, max_frames=260, dropout=0.0)

    def get_downsample_rates(self, key):
        return self.inner.get_downsample_rates(key)

    def states(self, waves):
        return self.inner(waves)["hidden_states"]

    def forward(self, waves):
        return {"hidden_states": self.states(waves)}


class ReturnsAList(Sound):
    def forward(self, waves):
        return self.states(waves)


class ForgetsItsStates(Sound):
    def forward(self, waves):
        return {"last_hidden_state": self.states(waves)[-1]}


class OneUtteranceOnly(Sound):
    def states(self, waves):
        return [state[0] for state in super().states(waves)]


class GivesNaN(Sound):
    def states(self, waves):
        return [*super().states(waves)[:-1], super().states(waves)[-1] * float("nan")]


class FractionalRate(Sound):
    def get_downsample_rates(self, key):
        return 160.0


class OneRateForAll(Sound):
    def get_downsample_rates(self, key):
        return [160]


class DrawsInEvaluation(Sound):
    def states(self, waves):
        return [state + 1e-3 * torch.rand(()) for state in super().states(waves)]


class DropsLayersInTraining(Sound):
    def states(self, waves):
        dropped = self.training and bool(torch.rand(()) < 0.5)
        return super().states(waves)[: -1 if dropped else None]


class NarrowForThree(Sound):
    def states(self, waves):
        return [state[..., : 16 if len(waves) == 3 else None] for state in super().states(waves)]


class HalfRate(Sound):
    def states(self, waves):
        return [state[:, ::2] for state in super().states(waves)]


class FiveFramesShort(Sound):
    def states(self, waves):
        return [state[:, : -5 if state.shape[1] > 9 else None] for state in super().states(waves)]


class Detached(Sound):
    def states(self, waves):
        return [state.detach() for state in super().states(waves)]


class ZeroGradients(Sound):
    def states(self, waves):
        return [state.detach() + 0 * state for state in super().states(waves)]


class NaNGradients(Sound):
    def states(self, waves):
        nothing = (0 * self.inner.encoder.input.weight).sqrt().sum()  # 0, but its slope is infinite
        return [state + nothing for state in super().states(waves)]


class NaNGradientsOfTheShortest(NaNGradients):
    def states(self, waves):
        return (super() if max(map(len, waves)) < 1_000 else super(NaNGradients, self)).states(waves)


class OverflowsInTraining(Sound):
    def states(self, waves):
        return [state / (0.0 if self.training else 1.0) for state in super().states(waves)]


class NormalisesTheBatch(Sound):
    def states(self, waves):
        return [state - state.mean((0, 1)) for state in super().states(waves)]


class NormalisesEqualLengths(Sound):
    """What s3prl's own test lets pass, since it compares where lengths differ."""

    def states(self, waves):
        states = super().states(waves)
        equal = len({len(wave) for wave in waves}) == 1
        return [state - state.mean(0) for state in states] if equal and len(waves) > 1 else states


class NarrowLastState(Sound):
    def states(self, waves):
        *others, last = super().states(waves)
        return [*others, last[..., :16]]


MUTANTS = [
    ("interface", ReturnsAList, "forward must return a dictionary, not list"),
    ("interface", ForgetsItsStates, "forward must return 'hidden_states', not only 'last_hidden_state'"),
    ("interface", OneUtteranceOnly, "hidden states must be (B, T, D), not [(100, 32)"),
    ("interface", GivesNaN, "a hidden state is not finite"),
    (
        "interface",
        FractionalRate,
        "get_downsample_rates must be an int, or a list of one for each hidden state, not 160.0",
    ),
    (
        "interface",
        OneRateForAll,
        "get_downsample_rates must be an int, or a list of one for each hidden state, not [160]",
    ),
    ("determinism", DrawsInEvaluation, "two evaluations of the same waveforms differ in hidden states [0, 1, 2]"),
    ("layer_counts", OneRateForAll, "hidden_sizes and downsample_rates have (3, 1) entries for 3 hidden states"),
    ("layer_counts", DropsLayersInTraining, "2 hidden states in train mode at batch"),
    (
        "layer_counts",
        NarrowForThree,
        "hidden states are of sizes [16, 16, 16] in eval mode, but hidden_sizes are [32,",
    ),
    ("lengths", HalfRate, "16000 samples has 50 frames; get_downsample_rates says 160 samples a frame"),
    ("lengths", FiveFramesShort, "16000 samples has 95 frames; get_downsample_rates says 160 samples a frame"),
    ("forward_and_backward", Detached, "no gradient leads from hidden states to parameters in train mode, with utter"),
    ("forward_and_backward", ZeroGradients, "all gradients are zero in train mode, with utterances of"),
    ("forward_and_backward", NaNGradients, "gradients are not finite in train mode, with utterances of"),
    ("forward_and_backward", NaNGradientsOfTheShortest, "not finite in train mode, with utterances of 800 samples"),
    ("forward_and_backward", OverflowsInTraining, "the sum of all hidden states is "),
    ("batch_mates", NormalisesTheBatch, "of 16000 samples depends on a batch of (16000, 5333, 800)"),
    ("batch_mates", NormalisesEqualLengths, "of 8001 samples depends on a batch of (8001, 8001)"),
    ("featurizers", NarrowLastState, "hidden states that are summed must be of one size and rate, not of [(16, 160)"),
]


@pytest.mark.parametrize(("check", "broken", "words"), MUTANTS, ids=[f"{m[0]}-{m[1].__name__}" for m in MUTANTS])
def test_mutant_is_told_which_rule_it_breaks(check, broken, words, s3prl_hub, monkeypatch):
    monkeypatch.setattr(s3prl_hub, "mutant", broken, raising=False)
    with pytest.raises(AssertionError, match=f"(?m)^{check}: .*{re.escape(words)}"):
        check_in_s3prl("mutant")


def test_every_check_has_a_mutant():
    assert {check for check, _, _ in MUTANTS} == set(CHECKS)


def test_the_unbroken_mutant_passes(s3prl_hub, monkeypatch):
    monkeypatch.setattr(s3prl_hub, "mutant", Sound, raising=False)
    check_in_s3prl("mutant")


def test_states_that_the_wrapper_refuses_are_told_in_words(s3prl_hub, monkeypatch):
    """s3prl's own message is two numbers."""
    monkeypatch.setattr(s3prl_hub, "mutant", HalfRate, raising=False)
    told = run_s3prl_checks("mutant")["determinism"]
    assert told.startswith("S3PRLUpstream refuses the hidden states of [16000, 800] samples (100, 50): their number")


def test_s3prls_own_upstreams_can_be_checked():
    assert not any(run_s3prl_checks("s3prl:fbank").values())


def test_variants_are_checked_too(monkeypatch):
    monkeypatch.setitem(CHECKS, "interface", lambda case: None)
    for check in set(CHECKS) - {"interface"}:
        monkeypatch.delitem(CHECKS, check)
    assert set(run_s3prl_checks("xbox")) == {"interface", "interface[bucketed]"}


def test_the_random_states_are_left_alone():
    before, torchs = random.getstate(), torch.get_rng_state()
    run_s3prl_checks("no_attention")
    assert random.getstate() == before
    assert torch.equal(torch.get_rng_state(), torchs)


def test_the_command_checks_and_says_which_rule_is_broken(s3prl_hub, monkeypatch, capsys):
    main(["check-s3prl", "no_attention"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["no_attention", *["ok"] * len(CHECKS)]
    monkeypatch.setattr(s3prl_hub, "mutant", DrawsInEvaluation, raising=False)
    with pytest.raises(SystemExit, match=rf"^\d of {len(CHECKS)} checks failed$"):
        main(["check-s3prl", "mutant"])
    assert "FAIL determinism: two evaluations of the same waveforms differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fixed_initt", "unknown upstream 'fixed_initt': .*known: .*, and all of s3prl's hub"),
        ("s3prl:fixed_init", "s3prl has no upstream 'fixed_init': .*--upstream s3prl: lists all [0-9]+"),
        ("s3prl:fbankk", "s3prl has no upstream 'fbankk': did you mean 'fbank'.*"),
        ("s3prl:mockingjay_local:gone.ckpt", "there is no checkpoint .*gone.ckpt: name a file that exists, .*"),
    ],
)
def test_the_command_answers_a_wrong_name_in_one_line(name, told):
    with pytest.raises(SystemExit, match=rf"^error: {told}$"):
        main(["check-s3prl", name])
