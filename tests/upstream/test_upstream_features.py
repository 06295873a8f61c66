"""Log-Mel frames against a computation of our own, frame by frame in NumPy, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch
from s3prl_attention.upstream.features import LogMel, num_frames, pad_frames, stack_frames

FLOOR = 1e-8  # the energy below which a band counts as silent


def slaney_mel(hz: float) -> float:
    """Slaney's Mel scale: linear up to 1 kHz, logarithmic above."""
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


def filter_bank(num_mels: int, lowest_hz: float, highest_hz: float, num_bins: int, bin_hz: float) -> np.ndarray:
    """Triangles of height 1 in hertz, their corners evenly spaced on the Mel scale: (num_mels, num_bins)."""
    fine_hz = np.linspace(0, 8000, 800_001)
    corners_mel = np.linspace(slaney_mel(lowest_hz), slaney_mel(highest_hz), num_mels + 2)
    corners_hz = np.interp(corners_mel, [slaney_mel(hz) for hz in fine_hz[::10]], fine_hz[::10])
    bins_hz = np.arange(num_bins) * bin_hz
    bank = np.zeros((num_mels, num_bins))
    for band in range(num_mels):
        left, centre, right = corners_hz[band : band + 3]
        for k, hz in enumerate(bins_hz):
            bank[band, k] = max(0.0, min((hz - left) / (centre - left), (right - hz) / (right - centre)))
    return bank


def frame_by_hand(wave: np.ndarray, frame: int, bank: np.ndarray) -> np.ndarray:
    """Log energies of the 25 ms around (frame + 0.5) * 10 ms of a wave brought to -25 dBFS."""
    scaled = wave * 10 ** (-25 / 20) / np.sqrt(np.mean(wave**2))
    centre = frame * 160 + 80
    windowed = np.zeros(512)
    for k in range(400):
        at = centre - 200 + k
        if 0 <= at < len(scaled):
            windowed[k] = scaled[at] * math.sin(math.pi * k / 400) ** 2
    spectrum = np.array([np.sum(windowed * np.exp(-2j * math.pi * b * np.arange(512) / 512)) for b in range(257)])
    return np.log(np.maximum(bank @ np.abs(spectrum) ** 2, FLOOR))


@pytest.mark.parametrize("num_mels", [80, 23])
def test_frames_equal_a_plain_computation(num_mels):
    wave = np.random.default_rng(0).normal(size=2003) * np.hanning(2003)
    bank = filter_bank(num_mels, 20.0, 8000.0, 257, 16_000 / 512)
    frames = LogMel(num_mels=num_mels).double().raw(torch.from_numpy(wave)).numpy()
    assert frames.shape == (13, num_mels)
    for frame in (0, 1, 6, 11, 12):  # the first and the last reach beyond the wave
        np.testing.assert_allclose(frames[frame], frame_by_hand(wave, frame, bank), atol=2e-3)


def test_float32_is_close_to_float64():
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    single, double = LogMel().raw(wave.float()), LogMel().double().raw(wave)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=2e-3, rtol=0)


@pytest.mark.parametrize("frame", [1, 7, 18])
def test_frame_i_is_centred_at_i_and_a_half_times_10_ms(frame):
    wave = torch.zeros(3200)
    wave[frame * 160 + 80] = 1.0  # (frame + 0.5) * 10 ms
    energy = LogMel().raw(wave).exp().sum(1)
    assert int(energy.argmax()) == frame
    assert float(energy[frame - 1]) == pytest.approx(float(energy[frame + 1]), rel=1e-4), (
        "the neighbours must see it equally"
    )
    assert energy[frame + 1] < 0.02 * energy[frame]
    assert energy.topk(4).values[-1] <= 80 * FLOOR * 1.001, "a 25 ms window every 10 ms: 3 frames see a sample"


@pytest.mark.parametrize(
    ("samples", "frames"), [(1, 1), (159, 1), (160, 1), (161, 2), (399, 3), (16_000, 100), (16_001, 101)]
)
def test_there_are_as_many_frames_as_10_ms_begun(samples, frames):
    assert num_frames(samples) == frames
    assert LogMel().raw(torch.randn(samples)).shape == (frames, 80)


@pytest.mark.parametrize("gain", [1e-4, 0.5, 32_768.0])
def test_the_gain_of_a_recording_makes_no_difference(gain):
    wave = torch.randn(1600, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(LogMel().raw(gain * wave), LogMel().raw(wave), atol=1e-3, rtol=0)


def test_integer_samples_are_read_like_floats():
    wave = (3000 * torch.randn(1600, generator=torch.Generator().manual_seed(1))).to(torch.int16)
    torch.testing.assert_close(LogMel().raw(wave), LogMel().raw(wave.float()))


def test_silence_is_the_floor():
    torch.testing.assert_close(LogMel().raw(torch.zeros(500)), torch.full((4, 80), math.log(FLOOR)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wave", [torch.zeros(800), torch.ones(800), torch.sin(torch.arange(8000.0))])
def test_autocast_changes_no_frame(wave, dtype):
    with torch.autocast("cpu", dtype=dtype):
        cast = LogMel()(wave)
    assert torch.equal(cast, LogMel()(wave))


def test_silence_within_a_recording_is_the_floor():
    wave = torch.cat([torch.randn(1600), torch.zeros(1600)])
    torch.testing.assert_close(LogMel().raw(wave)[12:], torch.full((8, 80), math.log(FLOOR)))


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.tensor([0.1, math.nan]), "NaN or infinity"),
        (torch.tensor([0.1, math.inf]), "NaN or infinity"),
        (torch.zeros(0), r"not empty, got shape \(0,\)"),
        (torch.zeros(2, 100), r"1-D and not empty, got shape \(2, 100\): mix it to mono"),
        (torch.tensor(0.5), r"got shape \(\)"),
    ],
)
def test_a_waveform_that_is_none_is_refused(wave, message):
    with pytest.raises(ValueError, match=message):
        LogMel()(wave)


def test_corpus_statistics_are_applied_and_kept_in_the_state():
    log_mel, wave = LogMel(num_mels=4), torch.randn(800)
    torch.testing.assert_close(log_mel(wave), log_mel.raw(wave))
    mean, std = torch.tensor([1.0, -2.0, 0.0, 5.0]), torch.tensor([2.0, 0.5, 1.0, 4.0])
    log_mel.fit(mean, std)
    torch.testing.assert_close(log_mel(wave), (log_mel.raw(wave) - mean) / std)
    again = LogMel(num_mels=4)
    again.load_state_dict(log_mel.state_dict())
    torch.testing.assert_close(again(wave), log_mel(wave))


def test_a_band_that_never_varies_does_not_divide_by_zero():
    log_mel = LogMel(num_mels=2)
    log_mel.fit(torch.zeros(2), torch.zeros(2))
    assert torch.isfinite(log_mel(torch.randn(800))).all()


def test_stacking_joins_consecutive_frames_and_fills_the_last_with_zeros():
    frames = torch.arange(14.0).reshape(7, 2) + 1
    stacked = stack_frames(frames, 3)
    assert stacked.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], [13, 14, 0, 0, 0, 0]]
    assert torch.equal(stack_frames(frames, 1), frames)
    assert torch.equal(stack_frames(frames[:6], 3), stacked[:2])
    assert stack_frames(frames[:1], 3).shape == (1, 6)


def test_padding_makes_a_batch_and_its_mask():
    utterances = [torch.ones(2, 3), 2 * torch.ones(4, 3), 3 * torch.ones(1, 3)]
    batch, keep = pad_frames(utterances)
    assert batch[..., 0].tolist() == [[1, 1, 0, 0], [2, 2, 2, 2], [3, 0, 0, 0]]
    assert keep.dtype == torch.bool
    assert torch.equal(keep, batch[..., 0] != 0)
