"""Reading audio: any rate and channel count, and a clear word about files that are no good."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from s3prl_attention.recipes.corpora import read_audio, resampling
from s3prl_attention.recipes.corpora.audio import audio_header
from s3prl_attention.recipes.corpora.corpus import num_samples_at_16k
from torchaudio.functional import resample


def sine(rate_hz: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)


def dominant_hz(wave: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(wave * torch.hann_window(len(wave))).abs()
    return float(spectrum.argmax()) * 16_000 / len(wave)


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1), (16_000, 2), (22_050, 1), (16_001, 2)]
)
def test_a_sine_keeps_its_pitch_and_level(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = tmp_path / "sine.wav"
    soundfile.write(path, np.stack([sine(rate_hz)] * channels, axis=1), rate_hz, subtype="FLOAT")
    wave = read_audio(path)
    assert wave.dtype == torch.float32
    assert wave.shape == (16_000,)
    assert dominant_hz(wave) == pytest.approx(440, abs=1.0)
    assert float(wave[2000:-2000].square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, rel=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.array([[0.5, 0.0], [0.25, -0.25], [0.5, 0.25]]), 16_000, subtype="FLOAT")
    assert read_audio(path).tolist() == [0.25, 0.0, 0.375]


def test_16_khz_mono_comes_back_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000, dtype=np.int16)
    path = tmp_path / "noise.flac"
    soundfile.write(path, samples, 16_000)
    assert np.array_equal(read_audio(path).numpy(), samples / np.float32(32768))


@pytest.mark.parametrize("rate_hz", [7_999, 8_000, 11_025, 16_001, 22_050, 44_056, 44_100])
@pytest.mark.parametrize("num_samples", [1, 2, 159, 161, 4_801, 30_011])
def test_length_is_the_one_that_num_frames_counts_with(tmp_path: Path, rate_hz: int, num_samples: int) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros(num_samples), rate_hz, subtype="PCM_16")
    assert audio_header(path) == (rate_hz, num_samples)
    assert len(read_audio(path)) == num_samples_at_16k(num_samples, rate_hz) == -(-num_samples * 16_000 // rate_hz)


def test_length_is_exact_where_float32_is_not(tmp_path: Path) -> None:
    num_samples = next(count for count in range(2_756_000, 2_757_000) if count * 160 % 441 == 1)
    path = tmp_path / "minute.wav"  # a million samples at 16 kHz and 1/441: float32 drops the fraction
    soundfile.write(path, np.zeros(num_samples, dtype=np.int16), 44_100)
    assert len(read_audio(path)) == num_samples * 160 // 441 + 1


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100])
def test_the_pointwise_filter_is_torchaudios(rate_hz: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = torch.randn(5_000, generator=torch.Generator().manual_seed(0))
    table = resample(wave.double(), rate_hz, 16_000).float()  # in float32 its own table is off by 1e-4
    monkeypatch.setattr(resampling, "MAX_TABLE", 0)
    monkeypatch.setattr(resampling, "CHUNK_SAMPLES", 1_000)
    torch.testing.assert_close(resampling.resample_to_16k(wave, rate_hz), table, atol=1e-5, rtol=0)


def test_a_part_is_the_same_samples_as_in_the_whole(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 50_000, dtype=np.int16)
    path = tmp_path / "noise.flac"
    soundfile.write(path, samples, 16_000)
    whole = read_audio(path)
    assert torch.equal(read_audio(path, 12_345, 20_000), whole[12_345:32_345])
    assert torch.equal(read_audio(path, 49_999), whole[49_999:])
    for start, length in ((40_000, 10_001), (50_000, None), (60_000, 1)):
        with pytest.raises(
            ValueError, match=r"noise\.flac: samples .* were asked for, but it has 50000: correct start"
        ):
            read_audio(path, start, length)


def bad_files(folder: Path) -> dict[str, Path]:
    whole, files = folder / "whole.flac", {}
    soundfile.write(whole, sine(16_000, 3.0), 16_000)
    for name in ("missing", "folder", "text", "cut", "no bytes", "empty", "nan", "inf"):
        files[name] = folder / (f"{name}.flac" if name in ("missing", "text", "cut") else f"{name}.wav")
    files["folder"].mkdir()
    files["text"].write_text("this is no audio")
    files["cut"].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    files["no bytes"].touch()
    soundfile.write(files["empty"], np.zeros(0), 16_000)
    soundfile.write(files["nan"], np.array([0.0, np.nan, 0.0]), 16_000, subtype="FLOAT")
    soundfile.write(files["inf"], np.array([0.0, np.inf, -np.inf]), 8_000, subtype="FLOAT")
    return files


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such audio file"),
        ("folder", "no such audio file"),
        ("text", "not readable as audio"),
        ("cut", "not readable as audio|cut short"),
        ("no bytes", "the file is empty, 0 bytes"),
        ("empty", "it is empty"),
        ("nan", "NaN or infinity"),
        ("inf", "NaN or infinity"),
    ],
)
def test_bad_audio_is_an_error_that_names_file_rule_and_cure(tmp_path: Path, kind: str, says: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(ValueError, match=says) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.count(str(path)) == 1
    assert "\n" not in message
    assert any(cure in message for cure in ("check", "fetch", "repair", "remove"))


@pytest.mark.parametrize("kind", ["wav", "aiff"])
def test_what_is_shorter_than_its_header_says_is_no_shorter_recording(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"short.{kind}"
    soundfile.write(path, sine(16_000), 16_000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:10_044])
    for read in (audio_header, read_audio):
        with pytest.raises(ValueError, match=rf"short.{kind}: the header promises 320\d\d bytes .*: it is cut short"):
            read(path)


def test_a_wav_from_a_pipe_states_no_length_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    soundfile.write(path, sine(16_000), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(content)
    assert audio_header(path) == (16_000, 16_000)
    assert len(read_audio(path)) == 16_000
