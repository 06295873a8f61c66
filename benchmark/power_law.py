"""How cost grows with length: fitted exponents with intervals, and the length from which one beats another."""

from collections.abc import Mapping, Sequence

import numpy as np

from .statistics import ratio_spread

GROWTH = {"n": (1.0, 0), "n log n": (1.0, 1), "n^1.5": (1.5, 0), "n^2": (2.0, 0)}  # powers of n and of log n


def growth(order: str, start: int, end: int) -> float:
    """How many times as much is needed at length ``end`` as at ``start``; an unknown order counts as n^2."""
    power, log_power = GROWTH.get(order, GROWTH["n^2"])
    logs = np.log2(max(2, end)) / np.log2(max(2, start))
    return float((end / start) ** power * logs**log_power)


def exponent(
    samples: Mapping[int, Sequence[float]], level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float] | None:
    """``(slope, low, high)`` of log(median sample) against log(length) by least squares.

    ``samples`` maps a length to its rounds. The interval is a percentile bootstrap that draws rounds with replacement,
    each length for itself: it covers the spread between rounds, not a departure from a power law. None with fewer than
    two lengths, or when a sample is not positive.
    """
    if len(samples) < 2 or any(min(taken, default=0) <= 0 for taken in samples.values()):
        return None
    lengths = np.log(list(samples))
    weights = (lengths - lengths.mean()) / ((lengths - lengths.mean()) ** 2).sum()  # slope = weights . log(times)
    generator = np.random.default_rng(seed)
    slopes = np.zeros(num_resamples)
    slope = 0.0
    for weight, taken in zip(weights, samples.values(), strict=True):
        rounds = np.asarray(taken, float)
        drawn = rounds[generator.integers(len(rounds), size=(num_resamples, len(rounds)))]
        slopes += weight * np.log(np.median(drawn, axis=1))
        slope += weight * np.log(np.median(rounds))
    low, high = np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    return float(slope), float(low), float(high)


def exponent_with_error(values: Mapping[int, float]) -> tuple[float, float | None] | None:
    """``(slope, standard error)`` of log(value) against log(length), for one value a length.

    The error is that of the fit, None with two lengths, which every line fits. None with fewer than two lengths, or
    when a value is not positive.
    """
    if len(values) < 2 or min(values.values()) <= 0:
        return None
    x, y = np.log(list(values)), np.log(list(values.values()))
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    if len(values) == 2:
        return slope, None
    residual = y - slope * x
    return slope, float(np.sqrt(residual @ residual / (len(values) - 2) / (x @ x)))


def crossover(samples: Mapping[int, Sequence[float]], baseline_samples: Mapping[int, Sequence[float]]) -> int | None:
    """The smallest length at which, and at all longer ones, the third quartile of the ratios of the same rounds is
    below 1; None when it is not below 1 at the longest."""
    found = None
    for length in sorted(samples, reverse=True):
        if ratio_spread(samples[length], baseline_samples[length])[2] >= 1:
            break
        found = length
    return found
