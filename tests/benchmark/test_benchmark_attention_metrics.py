"""Measures of maps that can be worked out by hand."""

import math

import pytest
import torch
from s3prl_attention.benchmark.attention import metrics

T = 40
IDENTITY = torch.eye(T)
EVEN = torch.full((T, T), 1 / T)
COLUMN = torch.zeros(T, T).index_fill_(1, torch.tensor([7]), 1.0)
AHEAD = torch.zeros(T, T)  # three ahead, and where there is none itself
AHEAD[torch.arange(T), torch.arange(T) + 3 * (torch.arange(T) < T - 3)] = 1.0
BLOCK = torch.block_diag(*[torch.full((10, 10), 0.1)] * 4)


@pytest.mark.parametrize(
    ("attention", "globalness", "verticality", "distance"),
    [
        (IDENTITY, 0.0, -math.log(T), 0.0),
        (EVEN, math.log(T), -math.log(T), (T - 1 / T) / 3),
        (COLUMN, 0.0, 0.0, sum(abs(query - 7) for query in range(T)) / T),
        (AHEAD, 0.0, None, 3 * (T - 3) / T),
        (BLOCK, math.log(10), -math.log(T), (10 - 1 / 10) / 3),
    ],
    ids=["identity", "even", "column", "shift", "block"],
)
def test_measures_of_known_maps(attention, globalness, verticality, distance):
    assert metrics.globalness(attention).item() == pytest.approx(globalness, abs=1e-5)
    if verticality is not None:
        assert metrics.verticality(attention).item() == pytest.approx(verticality, abs=1e-5)
    assert metrics.distance(attention).item() == pytest.approx(distance, rel=1e-5, abs=1e-6)
    assert metrics.diagonality(attention).item() == pytest.approx(-distance / T, rel=1e-5, abs=1e-6)


def test_measures_go_over_any_leading_dimensions():
    maps = torch.stack([IDENTITY, EVEN, COLUMN, BLOCK]).view(2, 2, T, T)
    for measure in (metrics.globalness, metrics.verticality, metrics.diagonality, metrics.distance):
        one_by_one = torch.stack([measure(each) for each in (IDENTITY, EVEN, COLUMN, BLOCK)]).view(2, 2)
        assert torch.allclose(measure(maps), one_by_one, atol=1e-6)
    assert metrics.by_offset(maps).shape == (2, 2, 2 * T - 1)


def test_offsets_are_negative_in_the_past():
    assert metrics.offsets(4)[2].tolist() == [-2, -1, 0, 1]


def test_a_map_that_hangs_on_the_offset_alone_is_its_profile():
    profile = metrics.by_offset(EVEN)
    assert torch.allclose(profile, torch.full((2 * T - 1,), 1 / T))
    kernel = torch.rand(2 * T - 1, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(metrics.by_offset(metrics.spread(kernel)), kernel)
    shifted = metrics.spread(torch.zeros(2 * T - 1).index_fill_(0, torch.tensor([T - 1 + 2]), 1.0))
    assert shifted[5].argmax() == 7, "a positive offset is ahead"
    assert metrics.by_offset(AHEAD).argmax() == T - 1 + 3


def test_mass_is_the_share_inside():
    same = torch.arange(T)[:, None] // 10 == torch.arange(T)[None, :] // 10
    assert metrics.mass(BLOCK, same).item() == pytest.approx(1.0)
    assert metrics.mass(EVEN, same).item() == pytest.approx(0.25)
    pair = metrics.mass(torch.stack([BLOCK, EVEN]), torch.stack([~same, ~same]))
    assert pair.tolist() == pytest.approx([0.0, 0.75], abs=1e-4)


def test_total_variation_of_equal_and_disjoint_rows():
    assert metrics.total_variation(IDENTITY, IDENTITY).max() == 0
    assert metrics.total_variation(IDENTITY[3], IDENTITY[4]).item() == pytest.approx(1.0)
    assert metrics.total_variation(IDENTITY[3], EVEN[3]).item() == pytest.approx(1 - 1 / T)
