"""Intervals and ranks against simulation and known answers, ratios against known quartiles."""

import numpy as np
import pytest
from s3prl_attention.benchmark.statistics import (
    FEWEST_CLUSTERS,
    certainly_higher,
    cluster_sums,
    clustered_interval,
    detectable,
    draw_clusters,
    paired_errors,
    paired_interval,
    rank_intervals,
    ratio_spread,
    tails,
)


def told_apart(points: np.ndarray, totals: np.ndarray, **options: int) -> np.ndarray:
    return certainly_higher(points, totals, **options)[0]


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


@pytest.mark.parametrize(("num_speakers", "least"), [(8, 0.92), (6, 0.92), (3, 0.75)])
def test_it_does_so_with_few_speakers_down_to_five_as_the_page_says(num_speakers: int, least: float):
    assert least <= coverage(num_speakers, by_speaker=True) <= least + 0.06


def test_known_distribution_of_three_clusters():
    # 27 equally likely draws; the mean is 1/6 from the 4 % to the 14 % quantile, and plain percentiles would be at 20 %
    assert tails(3, 0.6) == pytest.approx((0.0970, 0.9030), abs=1e-4)  # t 1.0607 x sqrt(3 / 2), of the normal
    interval = clustered_interval([0, 1, 2], [2, 2, 2], ["a", "b", "c"], level=0.6)
    assert interval == pytest.approx((1 / 6, 5 / 6))
    assert tails(10_000, 0.95) == pytest.approx((0.025, 0.975), abs=1e-4)


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


def simulate_rows(rng: np.random.Generator, scores: np.ndarray, num_speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of speakers who are hard for all rows alike, and a little for each row of its own: points (N, C) and
    totals (C,), which differ from speaker to speaker."""
    totals = rng.integers(500, 1500, num_speakers).astype(float)
    common, own = rng.normal(0, 0.1, num_speakers), rng.normal(0, 0.02, (len(scores), num_speakers))
    rates = np.clip(scores[:, None] + common + own, 0, 1)
    return rng.binomial(totals.astype(int), rates).astype(float), totals


def test_sums_are_by_cluster_in_the_order_of_the_first_utterance():
    sums = cluster_sums([[1, 2, 4, 8], [1, 1, 1, 1]], ["z", "a", "z", "b"])
    assert sums.tolist() == [[5, 2, 8], [2, 1, 1]]
    assert cluster_sums([[1, 2, 4, 8], [1, 1, 1, 1]], ["p", "q", "p", "o"]).tolist() == sums.tolist()


@pytest.mark.parametrize("num_speakers", [40, 8])
def test_the_paired_interval_covers_the_true_difference_and_is_far_narrower_than_the_unpaired(num_speakers: int):
    rng = np.random.default_rng(1)
    hits, paired, alone, num_trials = 0, 0.0, 0.0, 400
    for trial in range(num_trials):
        (points, other), totals = simulate_rows(rng, np.array([0.62, 0.6]), num_speakers)
        low, high = paired_interval(points, other, totals, draw_clusters(num_speakers, 300, trial))
        hits += low <= 0.02 <= high
        paired += high - low
        low, high = paired_interval(points, 0 * points, totals, draw_clusters(num_speakers, 300, trial))
        alone += high - low
    assert 0.91 <= hits / num_trials <= 0.98
    assert paired < alone / 2


def test_standard_errors_of_differences_are_their_standard_deviation():
    rng = np.random.default_rng(2)
    found, errors = [], []
    for _ in range(400):
        points, totals = simulate_rows(rng, np.array([0.6, 0.6, 0.5]), num_speakers=30)
        scores = points.sum(1) / totals.sum()
        found.append(scores[:, None] - scores)
        errors.append(paired_errors(points, totals))
    error = np.mean(errors, axis=0)
    assert np.diag(error).tolist() == [0, 0, 0]
    np.testing.assert_allclose(error, error.T)
    np.testing.assert_allclose(error, np.std(found, axis=0), rtol=0.12)


@pytest.mark.parametrize(("num_rows", "num_speakers"), [(2, 40), (8, 40), (8, 12), (20, 8)])
def test_equal_rows_are_told_apart_in_one_table_of_twenty(num_rows: int, num_speakers: int):
    rng = np.random.default_rng(3)
    wrong = 0
    for trial in range(300):
        points, totals = simulate_rows(rng, np.full(num_rows, 0.6), num_speakers)
        wrong += told_apart(points, totals, num_flips=300, seed=trial).any()
    assert 0.02 <= wrong / 300 <= 0.09  # two standard errors of 300 trials are 0.025


def test_among_rows_that_differ_the_equal_ones_are_told_apart_as_rarely():
    rng = np.random.default_rng(4)
    scores = np.array([0.6, 0.55, 0.6, 0.55, 0.6, 0.4])
    truly = scores[:, None] > scores
    wrong = found = 0
    for trial in range(300):
        points, totals = simulate_rows(rng, scores, num_speakers=20)
        higher = told_apart(points, totals, num_flips=300, seed=trial)
        wrong += (higher & ~truly).any()
        found += (higher & truly).sum() / truly.sum()
    assert wrong / 300 <= 0.08
    assert found / 300 > 0.95


def test_ranks_of_rows_in_a_known_order():
    points, totals = simulate_rows(np.random.default_rng(5), np.array([0.5, 0.7, 0.6, 0.6, 0.8]), num_speakers=40)
    higher = told_apart(points, totals)
    assert rank_intervals(higher) == [(5, 5), (2, 2), (3, 4), (3, 4), (1, 1)]
    assert rank_intervals(higher.T) == [(1, 1), (4, 4), (2, 3), (2, 3), (5, 5)]  # where lower is better


@pytest.mark.parametrize(("num_rows", "num_speakers"), [(2, 60), (4, 8), (20, 30)])
def test_the_detectable_difference_is_detected_as_often_as_it_says(num_rows: int, num_speakers: int):
    rng = np.random.default_rng(6)
    points, totals = simulate_rows(rng, np.full(2, 0.6), num_speakers=2000)
    error = paired_errors(points, totals)[0, 1] * np.sqrt(2000 / num_speakers)  # of so many such speakers
    alike = np.full(num_rows, 0.6)
    limit = np.mean([certainly_higher(*simulate_rows(rng, alike, num_speakers), 300)[1] for _ in range(20)])
    difference = detectable(error, float(limit), num_speakers)
    hits = 0
    for trial in range(300):
        points, totals = simulate_rows(rng, alike + difference * (np.arange(num_rows) == 0), num_speakers)
        hits += told_apart(points, totals, num_flips=300, seed=trial)[0, 1]
    assert 0.72 <= hits / 300 <= 0.88


def test_order_of_rows_and_scale_do_not_matter_to_ranks():
    points, totals = simulate_rows(np.random.default_rng(7), np.linspace(0.58, 0.62, 12), num_speakers=30)
    order = np.random.default_rng(0).permutation(12)
    higher = told_apart(points, totals)
    assert 0 < higher.sum() < 66
    assert (told_apart(points[order], totals) == higher[np.ix_(order, order)]).all()
    assert (told_apart(3 * points, 3 * totals) == higher).all()


def test_rows_without_any_spread_are_told_apart_only_by_enough_speakers():
    assert FEWEST_CLUSTERS == 6
    for num_speakers in (1, 2, 5, 6, 30):
        totals = np.full(num_speakers, 7.0)
        higher = told_apart(np.stack([totals, 0 * totals, 0 * totals]), totals)
        certain = num_speakers >= FEWEST_CLUSTERS
        assert higher.tolist() == [[False, certain, certain], [False] * 3, [False] * 3]


def test_a_difference_of_one_speaker_alone_is_never_certain():
    totals = np.full(40, 100.0)
    points = np.stack([totals / 2, totals / 2])
    points[0, 3] += 50
    assert not told_apart(points, totals).any()


def test_one_row_has_the_only_rank():
    assert rank_intervals(told_apart(np.ones((1, 5)), np.ones(5))) == [(1, 1)]
