"""Fitted exponents find a power law and say how sure they are; the crossover holds for all longer lengths."""

import numpy as np
import pytest
from s3prl_attention.benchmark.power_law import crossover, exponent, exponent_with_error, growth

LENGTHS = (1024, 2048, 4096, 8192)


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_an_exact_power_law_gives_its_exponent(power):
    exact = {n: [3e-6 * n**power] * 5 for n in LENGTHS}
    assert exponent(exact) == pytest.approx((power, power, power))
    assert exponent_with_error({n: taken[0] for n, taken in exact.items()}) == pytest.approx((power, 0), abs=1e-9)


def test_the_median_round_counts_and_not_the_order_of_rounds():
    disturbed = {n: [n, 90.0 * n, n, n, n] for n in LENGTHS}
    slope = exponent(disturbed)[0]
    assert slope == pytest.approx(1)
    assert exponent({n: taken[::-1] for n, taken in disturbed.items()})[0] == pytest.approx(slope)


def test_the_interval_covers_the_exponent_under_noise():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        samples = {n: n**1.5 * np.exp(0.1 * generator.standard_normal(15)) for n in LENGTHS}
        slope, low, high = exponent(samples, num_resamples=400)
        assert low <= slope <= high
        covered.append(low <= 1.5 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_without_two_lengths_or_with_a_zero_there_is_no_exponent():
    for samples in ({}, {1024: [1.0]}, {1024: [1.0], 2048: [0.0]}, {1024: [1.0], 2048: []}):
        assert exponent(samples) is None
    assert exponent_with_error({1024: 5.0}) is None
    assert exponent_with_error({1024: 5.0, 2048: 0.0}) is None
    assert exponent_with_error({1024: 5.0, 2048: 20.0}) == (pytest.approx(2), None)


def test_the_error_of_single_values_is_that_of_least_squares():
    values = {1024: 1.0, 2048: 2.3, 4096: 3.9, 8192: 8.4}
    fit, covariance = np.polyfit(np.log(list(values)), np.log(list(values.values())), 1, cov=True)
    assert exponent_with_error(values) == pytest.approx((fit[0], covariance[0, 0] ** 0.5))


def test_growth_follows_the_declared_order():
    assert growth("n", 1024, 4096) == 4
    assert growth("n^1.5", 1024, 4096) == 8
    assert growth("n log n", 1024, 4096) == pytest.approx(4 * 12 / 10)
    assert growth("n^2", 1024, 4096) == growth("", 1024, 4096) == 16
    assert np.isfinite(growth("n log n", 1, 1))


@pytest.mark.parametrize(
    ("ratios", "want"),
    [
        ({128: 1.2, 256: 0.9, 512: 0.8}, 256),
        ({512: 0.8, 128: 0.9, 256: 0.9}, 128),
        ({128: 0.9, 256: 1.1, 512: 0.8}, 512),
        ({128: 0.9, 256: 0.9, 512: 1.0}, None),
        ({}, None),
    ],
)
def test_the_crossover_holds_for_all_longer_lengths(ratios, want):
    base = {n: [2.0, 4.0, 3.0] for n in ratios}
    assert crossover({n: [ratio * s for s in base[n]] for n, ratio in ratios.items()}, base) == want


def test_a_quarter_of_slow_rounds_is_no_crossover():
    base = {128: [1.0] * 5}
    assert crossover({128: [0.8, 0.8, 0.8, 0.9, 1.3]}, base) == 128
    assert crossover({128: [0.8, 0.8, 0.8, 1.3, 1.3]}, base) is None
