"""Statistics of the leaderboard: intervals that respect speakers, ranks that hold together, ratios of paired rounds.

Legend: N rows of a table, U utterances, C clusters (speakers), R resamples.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, stdtrit

LEVEL = 0.95  # of every interval, and of all ranks of a table together
POWER = 0.8  # with which the smallest detectable difference would be detected
NUM_RESAMPLES = 2000
FEWEST_CLUSTERS = 6  # with 5, all differences have the same sign 1 time in 16 by chance: nothing is certain at 95 %


def clustered_interval(
    correct: Sequence[float] | np.ndarray,
    total: Sequence[float] | np.ndarray,
    cluster: Sequence[str] | np.ndarray,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of the score ``sum(correct) / sum(total)`` by a bootstrap that draws whole clusters: from percentiles
    that `tails` puts further out where clusters are few.

    Utterances of one speaker share that speaker's difficulty, so speakers, not utterances, are drawn with replacement.
    One entry per utterance: ``correct`` of ``total`` items were right, spoken by ``cluster``. The order of entries and
    the names of clusters do not matter. Clusters without any item are left out: they cannot change the score.

    Returns ``(low, high)``, or None when fewer than two clusters have items: nothing is known about their spread then.
    With two to four the interval is still too narrow: no resample leaves what these few have shown.
    """
    correct, total, cluster = np.asarray(correct, float), np.asarray(total, float), np.asarray(cluster)
    assert correct.shape == total.shape == cluster.shape, "one correct, total and cluster for each utterance"
    assert 0 < level < 1, f"level is a share between 0 and 1, not {level}"
    if not len(total):
        return None
    sums = cluster_sums([correct, total], cluster).T  # (C, 2)
    sums = sums[sums[:, 1] > 0]
    if len(sums) < 2:
        return None
    sums = sums[np.lexsort(sums.T)]
    drawn = draw_clusters(len(sums), num_resamples, seed) @ sums  # (R, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], tails(len(sums), level))
    return float(low), float(high)


def tails(num_clusters: int, level: float) -> tuple[float, float]:
    """The percentiles between which resamples of C clusters hold ``level``.

    Plain ones, (1 - level) / 2 from the ends, make intervals that are too narrow by two factors, sqrt((C - 1) / C) and
    the normal quantile over Student's; these are as much further out (the expanded percentile interval: Hesterberg
    2015, The American Statistician 69(4)).
    """
    if num_clusters < 2:
        return 0.0, 1.0  # they are the same
    wide = stdtrit(num_clusters - 1, (1 + level) / 2) * math.sqrt(num_clusters / (num_clusters - 1))
    return float(ndtr(-wide)), float(ndtr(wide))


def cluster_sums(
    values: Sequence[Sequence[float]] | Sequence[np.ndarray] | np.ndarray, cluster: Sequence[str] | np.ndarray
) -> np.ndarray:
    """Sums (K, C) of values (K, U) over the utterances of each cluster (U,), clusters in the order of their first
    utterance, so that their names do not matter."""
    _, first, index = np.unique(np.asarray(cluster), return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[index]  # (U,)
    return np.stack([np.bincount(place, row, minlength=len(first)) for row in np.asarray(values, float)])


def draw_clusters(num_clusters: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each of C clusters is drawn in each of R resamples of C draws with replacement: int64 (R, C)."""
    shares = np.full(num_clusters, 1 / num_clusters)
    return np.random.default_rng(seed).multinomial(num_clusters, shares, num_resamples)


def paired_interval(
    points: np.ndarray, other: np.ndarray, totals: np.ndarray, weights: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the difference between two rows' scores on the same utterances, from percentiles as `tails` puts
    them.

    Args:
        points: (C,) what the row has collected (right items, or errors) from each cluster.
        other: (C,) what the row to compare with has.
        totals: (C,) scored items of each cluster.
        weights: (R, C) from `draw_clusters`, the same for all rows of a table.
        level: that the interval shall hold.
    """
    low, high = np.quantile(weights @ (points - other) / (weights @ totals), tails(weights.shape[1], level))
    return float(low), float(high)


def paired_errors(points: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Standard errors (N, N) of the differences between the scores of N rows on the same utterances.

    Clustered, by linearising the ratio, with C / (C - 1) (Cochran 1977, Sampling Techniques, section 6.3). ``points``
    (N, C) and ``totals`` (C,) as in `paired_interval`, with C of at least 2.
    """
    num_clusters = len(totals)
    scores = points.sum(1) / totals.sum()
    residuals = points - scores[:, None] * totals  # (N, C)
    squares = np.stack([((row - residuals) ** 2).sum(1) for row in residuals])  # (N, N)
    return np.sqrt(squares * num_clusters / (num_clusters - 1)) / totals.sum()


def certainly_higher(
    points: np.ndarray, totals: np.ndarray, num_flips: int = NUM_RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Which rows score certainly higher than which, all pairs at once: bool (N, N), [i, j] for i higher than j; and how
    many standard errors a difference must exceed for that.

    With probability ``level`` not one pair is called wrongly: a difference counts when, divided by its standard error,
    it exceeds the ``level`` quantile of the largest such ratio of any pair (max-T; Mogstad, Romano, Shaikh and Wilhelm
    2024, Review of Economic Studies 91(1)). That quantile comes from turning the signs of all differences of a cluster
    together, at random (the wild bootstrap with Rademacher weights: Cameron, Gelbach and Miller 2008, Review of
    Economics and Statistics 90(3)), each time with standard errors of its own: exact for any number of clusters where
    differences are as likely up as down (Canay, Romano and Shaikh 2017, Econometrica 85(3)). Resampling speakers
    instead calls far too many pairs when speakers are few: 46 of 100 simulated tables of 20 equal rows and 8 speakers
    had one.

    With fewer than `FEWEST_CLUSTERS` nothing is certain. Rows that differ nowhere are never told apart; rows that
    differ by the same in each cluster are, from that many on.

    Args:
        points: (N, C) what each row has collected (right items, or errors) from each cluster.
        totals: (C,) scored items of each cluster, above 0.
        num_flips: random flips; with few clusters all that there are are taken instead.
        level: of all pairs together.
        seed: of the flips.
    """
    flips = _sign_flips(len(totals), num_flips, seed)
    largest = np.zeros(len(flips))
    ratios = np.zeros((len(points), len(points)))
    for row in range(len(points) - 1):
        differences = points[row] - points[row + 1 :]  # (N - row - 1, C)
        flipped = _studentised(flips, differences, totals)
        largest = np.maximum(largest, np.abs(flipped).max(1))
        ratios[row, row + 1 :] = flipped[0]
    limit = float(np.quantile(largest, level, method="inverted_cdf"))
    return (ratios - ratios.T) > limit * (1 + 1e-9), limit  # ties, whatever their last digits, are not above


def _sign_flips(num_clusters: int, num_flips: int, seed: int) -> np.ndarray:
    """Signs (R, C), first the ones that change nothing: all there are up to the sign of the whole when these are not
    more than ``num_flips``, otherwise random ones."""
    if 2 ** (num_clusters - 1) <= num_flips:
        bits = np.arange(2 ** (num_clusters - 1))[:, None] >> np.arange(num_clusters) & 1
        return 1.0 - 2.0 * bits
    random = np.random.default_rng(seed).integers(2, size=(num_flips - 1, num_clusters))
    return np.concatenate([np.ones((1, num_clusters)), 1.0 - 2.0 * random])


def _studentised(flips: np.ndarray, differences: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Differences of scores over their clustered standard errors (R, K), for each of R flips of K pairs' differences
    (K, C). No difference has the ratio 0, one without spread an infinite one."""
    num_clusters, size = len(totals), totals.sum()
    sums = flips @ differences.T  # (R, K)
    means = sums / size
    plain = (differences**2).sum(1)
    squares = plain - 2 * means * (flips @ (differences * totals).T) + means**2 * (totals**2).sum()
    squares = np.where(squares <= 1e-12 * plain, 0.0, squares) * num_clusters / max(num_clusters - 1, 1)
    infinite = np.where(sums == 0, 0.0, np.copysign(np.inf, sums))
    return np.divide(sums, np.sqrt(squares), out=infinite, where=squares > 0)


def rank_intervals(better: np.ndarray) -> list[tuple[int, int]]:
    """The ranks that each of N rows may have: from one more than the number of rows that are certainly better, to N
    less the number that are certainly worse. ``better`` (N, N): [i, j] when i is certainly better than j."""
    return [
        (1 + int(above), len(better) - int(below)) for above, below in zip(better.sum(0), better.sum(1), strict=True)
    ]


def detectable(error: float, limit: float, num_clusters: int) -> float:
    """The smallest true difference that a table tells with probability `POWER`.

    Args:
        error: the standard error of the difference.
        limit: how many of them `certainly_higher` asks for in this table.
        num_clusters: C, from which the standard error is known.
    """
    return (limit + float(stdtrit(num_clusters - 1, POWER))) * error


def ratio_spread(samples_s: Sequence[float], baseline_samples_s: Sequence[float]) -> tuple[float, float, float]:
    """``(median, low, high)`` of the ratios of samples to the baseline's samples of the same rounds, where low and high
    are the first and third quartile (25 % and 75 %, linear interpolation). Both in seconds, one entry a round."""
    assert len(samples_s) == len(baseline_samples_s) > 0, "ratios need pairs: both sides of the same rounds"
    ratios = np.asarray(samples_s, float) / np.asarray(baseline_samples_s, float)
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return float(median), float(low), float(high)
