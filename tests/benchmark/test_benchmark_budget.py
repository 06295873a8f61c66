"""The budget: steps that cells share count once, estimates follow what happened; spans of time as people write them."""

from pathlib import Path

import pytest
from s3prl_attention.benchmark.budget import Budget
from s3prl_attention.benchmark.durations import parse, told
from s3prl_attention.benchmark.estimate import Estimate
from s3prl_attention.benchmark.steps import Step

TRAIN_A, TRAIN_B = Step("pre-training", "a", 0), Step("pre-training", "b", 0)
PROBES = {name: Step("probe", name[0], 0, name[1:], 0) for name in ("ax", "ay", "bx")}
STEPS = {
    Path("ax"): (TRAIN_A, PROBES["ax"]),
    Path("ay"): (TRAIN_A, PROBES["ay"]),
    Path("bx"): (TRAIN_B, PROBES["bx"]),
}


def budget(total_s: float, now_s: float = 0.0) -> Budget:
    seconds = {TRAIN_A: 10.0, TRAIN_B: 20.0, **dict.fromkeys(PROBES.values(), 1.0)}
    return Budget(total_s, 0.0, lambda: now_s, STEPS, Estimate(seconds))


def test_shared_steps_count_once():
    assert budget(12.0).affordable(list(STEPS)) == [Path("ax"), Path("ay")]
    assert budget(11.9).affordable(list(STEPS)) == [Path("ax")]
    assert budget(33.0).affordable(list(STEPS)) == list(STEPS)


def test_a_cell_that_does_not_fit_leaves_room_for_a_later_one():
    assert budget(12.0).affordable([Path("bx"), Path("ay"), Path("ax")]) == [Path("ay"), Path("ax")]


def test_a_step_that_is_done_is_needed_no_more_and_sets_the_pace():
    left = budget(100.0, now_s=40.0)
    assert left.need_s(left.missing(Path("bx"))) == 21.0
    left.note([TRAIN_A], 43.0)
    assert left.missing(Path("ay")) == [PROBES["ay"]]
    assert left.need_s(left.missing(Path("bx"))) == pytest.approx((43 + 1) / (10 + 1) * 20 + 1)
    assert not left.fits(Path("bx"))
    assert left.fits(Path("ay"))
    left.note([PROBES["ax"]], 5.0)
    assert left.need_s([PROBES["bx"]]) == pytest.approx((5 + 1) / (1 + 1))
    assert left.need_s([PROBES["ay"]]) == 1.0, "another task has a pace of its own"


def test_encoding_alone_does_not_set_the_pace_of_pre_training():
    left = budget(100.0)
    encoding = Step("extraction", "mel", 0)
    left.estimate.seconds[encoding] = 2.0
    left.note([encoding], 20.0)
    assert left.need_s([TRAIN_A]) == 10.0
    left.note([encoding, TRAIN_A], 25.0)
    assert left.need_s([TRAIN_B]) == pytest.approx((25 + 1) / (12 + 1) * 20)


def test_what_was_not_measured_sets_no_pace():
    left = budget(100.0)
    unknown = Step("pre-training", "c", 0)
    for seconds in (0.0, float("inf")):
        left.estimate.seconds[unknown] = seconds
        left.note([unknown], 50.0)
        assert left.need_s([TRAIN_A]) == 10.0
    left.mark([TRAIN_B])
    assert left.missing(Path("bx")) == [PROBES["bx"]]
    assert left.need_s([TRAIN_A]) == 10.0


def test_the_reason_tells_need_and_cure():
    told_of = budget(5.0).reason(Path("bx"), list(STEPS))
    assert told_of == "budget 5.0 s: this cell needs about 21 s, more than was left; --budget 1m, or no budget, " + (
        "makes all that is missing"
    )
    unmeasured = budget(5.0)
    unmeasured.estimate.seconds[TRAIN_B] = float("inf")
    assert not unmeasured.fits(Path("bx"))
    assert "measuring was stopped" in unmeasured.reason(Path("bx"), list(STEPS))


def test_without_a_limit_everything_fits_without_an_estimate():
    free = Budget(float("inf"), 0.0)
    assert free.fits(Path("ax"))
    assert free.affordable([Path("ax")]) == [Path("ax")]
    assert free.missing(Path("ax")) == []
    free.note([TRAIN_A], 3.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("1.5h", 5400), ("2H5S", 7205), ("1w2d", 777_600)],
)
def test_spans_of_time(text, seconds):
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 hours", "30m1h", "-5m", "0s", "h", "m5"])
def test_what_is_no_span_of_time_is_refused(text):
    with pytest.raises(ValueError, match="write it like 2h, 90m, 45s or 1h30m"):
        parse(text)


def test_spans_are_told_to_two_digits():
    seconds = (0.123, 9.96, 89.6, 200.0, 3599.0, 5400.0, float("inf"))
    assert list(map(told, seconds)) == ["0.1 s", "10 s", "90 s", "3.3 min", "1 h 0 min", "1 h 30 min", "unknown"]
