"""Labels at 10 ms find their feature frame at every rate."""

import pytest
import torch
from s3prl_attention.downstream.alignment import feature_frames


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (160, [0, 1, 2, 3, 4, 5, 6]),
        (320, [0, 0, 1, 1, 2, 2, 3]),
        (480, [0, 0, 0, 1, 1, 1, 2]),
        (80, [1, 3, 5, 7, 9, 11, 13]),
    ],
)
def test_a_label_reads_the_frame_under_its_centre(rate: int, expected: list[int]):
    index = feature_frames(7, expected[-1] + 1, rate)
    assert index.tolist() == expected
    assert index.dtype == torch.int64


def test_it_agrees_with_the_formula_at_awkward_rates():
    for rate in (100, 200, 441, 512):
        expected = [int((i + 0.5) * 160 / rate) for i in range(200)]
        assert feature_frames(200, expected[-1] + 1, rate).tolist() == expected


@pytest.mark.parametrize("rate", [160, 320, 480])
def test_up_to_five_missing_frames_repeat_the_last_and_a_sixth_is_an_error(rate: int):
    needed = int(99.5 * 160 / rate) + 1
    index = feature_frames(100, needed - 5, rate)
    assert int(index[-1]) == needed - 6
    assert torch.equal(index, feature_frames(100, needed, rate).clamp(max=needed - 6))
    assert torch.equal(feature_frames(100, needed + 5, rate), feature_frames(100, needed, rate))
    for wrong in (needed - 6, needed + 6):
        with pytest.raises(
            ValueError, match=f"need {needed} feature frames at {rate} samples a frame, but there are {wrong}"
        ):
            feature_frames(100, wrong, rate)


def test_one_label_reads_the_only_frame():
    for rate in (160, 320, 480):
        assert feature_frames(1, 1, rate).tolist() == [0]
    with pytest.raises(ValueError, match="but there are 0"):
        feature_frames(1, 0, 160)
