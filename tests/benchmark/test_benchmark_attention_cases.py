"""The four cases: hand-crafted patterns are recovered, also under noise, and so is what no pattern is."""

import pytest
import torch
from s3prl_attention.benchmark.attention.cases import CASES, FLAT, NEAR, SIDED, VERTICAL, band, describe
from s3prl_attention.benchmark.attention.metrics import spread
from s3prl_attention.upstream.kernels.hand_crafted import NAMES, hand_crafted

EXPECTED = {
    "identity": (NEAR, "self"),
    "next": (NEAR, "next"),
    "previous": (NEAR, "previous"),
    "left context": (SIDED, "past"),
    "right context": (SIDED, "future"),
    "towards the end": (VERTICAL, "end"),
    "towards the start": (VERTICAL, "start"),
}


def noise(frames: int, seed: int) -> torch.Tensor:
    """Rows of a softmax over N(0, 1), as a random synthesizer starts."""
    return torch.randn(frames, frames, generator=torch.Generator().manual_seed(seed)).softmax(-1)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("frames", [32, 64, 128, 200])
@pytest.mark.parametrize("pattern", NAMES)
def test_hand_crafted_maps_are_recovered_from_noise(pattern: str, frames: int, share: float):
    clean = hand_crafted(frames)[NAMES.index(pattern)]
    for seed in range(3):
        case = describe((1 - share) * clean + share * noise(frames, seed))
        assert (case.name, case.detail) == EXPECTED[pattern], case


def test_every_case_has_a_pattern():
    assert {name for name, _ in EXPECTED.values()} | {FLAT} == set(CASES)


@pytest.mark.parametrize("frames", [32, 128, 200])
def test_without_structure_a_map_is_flat(frames: int):
    assert describe(torch.full((frames, frames), 1 / frames)).name == FLAT
    assert describe(torch.full((frames, frames), 1 / frames)).detail == "even"
    for seed in range(3):
        case = describe(noise(frames, seed))
        assert (case.name, case.detail) == (FLAT, "scattered"), case


@pytest.mark.parametrize(("shift", "detail"), [(-3, "3 back"), (-2, "2 back"), (2, "2 ahead"), (4, "4 ahead")])
def test_shifts_within_the_band_are_named(shift: int, detail: str):
    kernel = torch.zeros(255)
    kernel[127 + shift] = 1.0
    attention = spread(kernel) + 1e-6
    case = describe(attention / attention.sum(-1, keepdim=True))
    assert (case.name, case.detail, case.shift) == (NEAR, detail, shift)


def test_a_distant_shift_is_one_sided():
    kernel = torch.zeros(255)
    kernel[127 + 3 * band(128)] = 1.0
    attention = spread(kernel) + 1e-6
    assert describe(attention / attention.sum(-1, keepdim=True)).detail == "future"


def test_columns_are_named_by_their_places():
    attention = torch.full((128, 128), 0.5 / 128)
    attention[:, [20, 90]] += 0.25
    assert describe(attention).detail == "columns 20, 90"
    first = torch.full((128, 128), 0.5 / 128)
    first[:, 0] += 0.5
    assert (describe(first).name, describe(first).detail) == (VERTICAL, "start")
    assert describe(first.flip(1)).detail == "end"


def test_the_mirror_of_a_map_has_the_mirrored_side():
    left = hand_crafted(64)[NAMES.index("left context")]
    here, there = describe(left), describe(left.flip(0, 1))
    assert here.sided == pytest.approx(-there.sided, abs=1e-6)
    assert here.near == pytest.approx(there.near, abs=1e-6)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (torch.eye(8), "at least 16 frames, got 8"),
        (torch.ones(32, 32), "must sum to 1, one is off by 31"),
        (torch.full((32, 32), torch.nan), "must sum to 1"),
        (torch.ones(3, 32, 32) / 32, r"one map \(T, T\), got \(3, 32, 32\)"),
    ],
)
def test_what_is_no_map_is_refused(attention: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        describe(attention)
