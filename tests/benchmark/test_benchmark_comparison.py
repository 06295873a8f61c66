"""Rows against each other: on the same utterances, with the same draws, whatever their order and names."""

from dataclasses import replace

import numpy as np
import pytest
from s3prl_attention.benchmark.comparison import compare
from s3prl_attention.benchmark.scored import Scored

NUM_SPEAKERS, PER_SPEAKER = 20, 6


def scored(score: float, seed: int, num_seeds: int = 1, insertions: int = 0) -> Scored:
    """Frames of speakers who are hard for all rows alike."""
    common, rng = np.random.default_rng(99), np.random.default_rng(seed)
    speakers = np.repeat([f"s{number}" for number in range(NUM_SPEAKERS)], PER_SPEAKER)
    totals = common.integers(50, 150, len(speakers))
    rates = np.clip(score + np.repeat(common.normal(0, 0.1, NUM_SPEAKERS), PER_SPEAKER), 0, 1)
    points = rng.binomial(totals * num_seeds, rates) + insertions
    utterances = tuple(("0", f"u{number:03}") for number in range(len(speakers)))
    return Scored(utterances, speakers, points.astype(float), totals.astype(float), num_seeds, None)


ROWS = {"a": scored(0.6, 1), "b": scored(0.6, 2), "c": scored(0.7, 3), "d": scored(0.5, 4)}


def test_differences_are_to_the_baseline_and_ranks_are_of_all():
    found = compare(ROWS, "a", higher_is_better=True)
    assert {label: row.ranks for label, row in found.items()} == {"a": (2, 3), "b": (2, 3), "c": (1, 1), "d": (4, 4)}
    assert found["a"].difference is None
    assert found["c"].difference is not None
    assert found["c"].detectable is not None
    difference, low, high = found["c"].difference
    totals = ROWS["a"].totals.sum()
    assert difference == pytest.approx((ROWS["c"].points.sum() - ROWS["a"].points.sum()) / totals)
    assert 0 < low < difference < high
    # a table of four rows asks for more than one pair does, and to be found four times in five takes more yet
    assert (high - low) / 2 < found["c"].detectable < high - low


def test_where_lower_is_better_ranks_turn_around_and_differences_do_not():
    higher, lower = compare(ROWS, "a", True), compare(ROWS, "a", False)
    assert {label: row.ranks for label, row in lower.items()} == {"a": (2, 3), "b": (2, 3), "c": (4, 4), "d": (1, 1)}
    assert {label: row.difference for label, row in lower.items()} == {n: row.difference for n, row in higher.items()}


def test_a_row_more_changes_no_difference():
    assert compare({**ROWS, "e": scored(0.3, 5, num_seeds=3)}, "a", True)["c"].difference == (
        compare(ROWS, "a", True)["c"].difference
    )


def test_all_rows_share_their_draws():
    found = compare({**ROWS, "twin of c": ROWS["c"]}, "a", True)
    assert found["twin of c"].difference == found["c"].difference


def test_order_of_rows_and_names_of_speakers_do_not_matter():
    expected = compare(ROWS, "a", True)
    assert compare(dict(reversed(ROWS.items())), "a", True) == expected
    names = {f"s{number}": f"x{99 - number}" for number in range(NUM_SPEAKERS)}
    renamed = {
        label: replace(row, speakers=np.array([names[name] for name in row.speakers])) for label, row in ROWS.items()
    }
    assert compare(renamed, "a", True) == expected


def test_seeds_of_the_same_outcomes_change_nothing():
    thrice = {**ROWS, "c": replace(ROWS["c"], points=3 * ROWS["c"].points, num_seeds=3)}
    expected, found = compare(ROWS, "a", True), compare(thrice, "a", True)
    assert found["c"].ranks == expected["c"].ranks
    assert found["c"].difference == pytest.approx(expected["c"].difference, rel=1e-12)
    assert found["c"].detectable == pytest.approx(
        expected["c"].detectable, rel=1e-12
    )  # 3 seeds are not 3 times the utterances


@pytest.mark.parametrize("change", ["utterances", "speakers", "totals"])
def test_rows_of_other_utterances_are_not_compared_and_say_so(change: str):
    other = ROWS["b"]
    changed = {
        "utterances": {"utterances": (("0", "other"), *other.utterances[1:])},
        "speakers": {"speakers": np.array(["other", *other.speakers[1:]])},
        "totals": {"totals": other.totals + (np.arange(len(other.totals)) == 0)},
    }
    found = compare({**ROWS, "b": replace(other, **changed[change])}, "a", True)
    assert found["b"].ranks is found["b"].difference is None
    assert found["b"].note == "no difference and no rank: it was scored on other utterances than the baseline"
    assert {label: row.ranks for label, row in found.items() if label != "b"} == {"a": (2, 2), "c": (1, 1), "d": (3, 3)}


def test_without_a_baseline_most_rows_are_compared():
    odd = replace(ROWS["a"], utterances=(("1", "other"), *ROWS["a"].utterances[1:]))
    found = compare({**ROWS, "a": odd}, None, True)
    assert found["a"].note.endswith("than most rows")
    assert [found[label].ranks for label in "bcd"] == [(2, 2), (1, 1), (3, 3)]
    assert all(row.difference is None for row in found.values())


def test_identical_rows_one_row_none_and_one_speaker():
    twins = compare({"a": ROWS["a"], "b": ROWS["a"]}, "a", True)
    assert twins["b"].difference == (0.0, 0.0, 0.0)
    assert twins["b"].detectable == 0.0
    assert [row.ranks for row in twins.values()] == [(1, 2), (1, 2)]
    assert compare({"a": ROWS["a"]}, "a", True)["a"].ranks == (1, 1)
    assert compare({}, None, True) == {}
    alone = {label: replace(row, speakers=np.full(len(row.speakers), "s")) for label, row in ROWS.items()}
    found = compare(alone, "a", True)
    assert all(row.ranks == (1, 4) and row.difference is None for row in found.values())


def test_speakers_without_items_are_no_speakers():
    totals = ROWS["a"].totals * (ROWS["a"].speakers == "s0")
    rows = {label: replace(row, points=row.points * (totals > 0), totals=totals) for label, row in ROWS.items()}
    assert all(row.ranks == (1, 4) and row.difference is None for row in compare(rows, "a", True).values())
