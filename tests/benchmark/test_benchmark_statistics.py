"""Intervals against simulation and known answers, ratios against known quartiles."""

import numpy as np
import pytest
from s3prl_attention.benchmark.statistics import clustered_interval, ratio_spread


def simulate(
    rng: np.random.Generator, num_speakers: int, per_speaker: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Utterances of speakers who differ: each has a success rate of its own, 0.6 on average."""
    rate = rng.beta(3.0, 2.0, num_speakers)
    correct = (rng.random((num_speakers, per_speaker)) < rate[:, None]).ravel()
    speaker = np.repeat(np.arange(num_speakers), per_speaker)
    return correct, np.ones_like(correct), speaker


def coverage(num_speakers: int, by_speaker: bool, num_trials: int = 400) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(num_trials):
        correct, total, speaker = simulate(rng, num_speakers, per_speaker=20)
        cluster = speaker if by_speaker else np.arange(len(speaker))
        interval = clustered_interval(correct, total, cluster, num_resamples=300, seed=trial)
        assert interval is not None
        hits += interval[0] <= 0.6 <= interval[1]
    return hits / num_trials


def test_the_interval_covers_the_truth_as_often_as_it_says():
    assert 0.91 <= coverage(num_speakers=40, by_speaker=True) <= 0.98


def test_an_interval_over_utterances_would_not():
    assert coverage(num_speakers=40, by_speaker=False, num_trials=80) < 0.75


def test_few_speakers_make_it_too_narrow_as_the_page_says():
    assert 0.75 <= coverage(num_speakers=5, by_speaker=True) <= 0.93


def test_known_distribution_of_three_clusters():
    # 27 equally likely draws; the mean is 1/6 at the 10 % quantile and 5/6 at the 90 % quantile
    interval = clustered_interval([0, 1, 2], [2, 2, 2], ["a", "b", "c"], level=0.8)
    assert interval == pytest.approx((1 / 6, 5 / 6))


def test_clusters_weigh_by_their_items():
    # one draw in four is (b, b), with 1 of 9; (a, a) has 1 of 1; a mixed one has 2 of 10
    low, high = clustered_interval([1, 1], [1, 9], ["a", "b"]) or (0, 0)
    assert (low, high) == pytest.approx((1 / 9, 1.0))


def test_certain_scores_have_no_width():
    assert clustered_interval([3, 5, 1], [3, 5, 1], ["a", "b", "c"]) == (1.0, 1.0)


def test_order_and_names_do_not_matter():
    rng = np.random.default_rng(0)
    correct, _, speaker = simulate(rng, 12, 7)
    total = rng.integers(1, 9, len(correct))
    shuffled = rng.permutation(len(correct))
    renamed = np.array([f"z{99 - s}" for s in speaker])
    expected = clustered_interval(correct, total, speaker)
    assert clustered_interval(correct[shuffled], total[shuffled], speaker[shuffled]) == expected
    assert clustered_interval(correct, total, renamed) == expected
    assert clustered_interval(correct, total, speaker, seed=1) != expected


def test_speakers_are_kept_together_wherever_their_utterances_stand():
    apart = clustered_interval([1, 0, 1, 0], [1] * 4, ["a", "b", "a", "b"])
    assert apart == clustered_interval([2, 0], [2, 2], ["a", "b"]) == (0.0, 1.0)


def test_one_speaker_gives_no_interval():
    assert clustered_interval([1, 0], [1, 1], ["a", "a"]) is None
    assert clustered_interval([1, 0, 0], [1, 1, 0], ["a", "a", "b"]) is None  # b has no items
    assert clustered_interval([], [], []) is None


def test_ratios_are_taken_round_by_round():
    drift = np.array([1.0, 5.0, 2.0, 8.0, 3.0])
    assert ratio_spread(0.75 * drift, drift) == pytest.approx((0.75, 0.75, 0.75))
    assert ratio_spread([1, 2, 3, 4, 5], [1, 1, 1, 1, 1]) == (3.0, 2.0, 4.0)
    assert ratio_spread([6.0], [2.0]) == (3.0, 3.0, 3.0)


def test_unpaired_samples_are_the_authors_mistake():
    with pytest.raises(AssertionError, match="pairs"):
        ratio_spread([1.0, 2.0], [1.0])
    with pytest.raises(AssertionError, match="pairs"):
        ratio_spread([], [])
