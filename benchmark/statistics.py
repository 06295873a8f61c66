"""Statistics of the leaderboard: intervals that respect speakers, ratios that respect rounds."""

from collections.abc import Sequence

import numpy as np


def clustered_interval(
    correct: Sequence[float] | np.ndarray,
    total: Sequence[float] | np.ndarray,
    cluster: Sequence[str] | np.ndarray,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of the score ``sum(correct) / sum(total)`` by a percentile bootstrap that draws whole clusters.

    Utterances of one speaker share that speaker's difficulty, so speakers, not utterances, are drawn with replacement.
    One entry per utterance: ``correct`` of ``total`` items were right, spoken by ``cluster``. The order of entries and
    the names of clusters do not matter. Clusters without any item are left out: they cannot change the score.

    Returns ``(low, high)``, or None when fewer than two clusters have items: nothing is known about their spread then.
    With few clusters the interval is too narrow (see the coverage test), so the number of speakers is shown beside it.
    """
    correct, total, cluster = np.asarray(correct, float), np.asarray(total, float), np.asarray(cluster)
    assert correct.shape == total.shape == cluster.shape, "one correct, total and cluster for each utterance"
    assert 0 < level < 1, f"level is a share between 0 and 1, not {level}"
    names, index = np.unique(cluster, return_inverse=True)
    sums = np.stack([np.bincount(index, column, minlength=len(names)) for column in (correct, total)], axis=1)
    sums = sums[sums[:, 1] > 0]
    if len(sums) < 2:
        return None
    sums = sums[np.lexsort(sums.T)]
    weights = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), num_resamples)
    drawn = weights @ sums  # (num_resamples, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio_spread(samples_s: Sequence[float], baseline_samples_s: Sequence[float]) -> tuple[float, float, float]:
    """``(median, low, high)`` of the ratios of samples to the baseline's samples of the same rounds, where low and high
    are the first and third quartile (25 % and 75 %, linear interpolation). Both in seconds, one entry a round."""
    assert len(samples_s) == len(baseline_samples_s) > 0, "ratios need pairs: both sides of the same rounds"
    ratios = np.asarray(samples_s, float) / np.asarray(baseline_samples_s, float)
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return float(median), float(low), float(high)
