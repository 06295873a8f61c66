"""Damaged and odd audio files: the right waveform, or an error that names the file."""

import io
import math
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fuzz_fixtures import RIGHT, Target, fuzz, refusal
from hypothesis import strategies as st
from s3prl_attention.recipes.corpora import Utterance, read_audio, read_utterance
from s3prl_attention.recipes.corpora.audio import audio_header

FORMATS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW"),
    ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
    ("AIFF", "PCM_16"), ("MP3", "MPEG_LAYER_III"),
)  # fmt: skip
LOSSLESS = ("PCM_16", "PCM_24", "FLOAT", "DOUBLE")
RATES_HZ = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 16_001)
LENGTHS = (0, 1, 2, 159, 160, 161, 400, 3000)
VALUES = (0, 1, 2, 3, 8, 24, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 16_000, 8000, 1 << 20)
FIELDS = (4, 16, 20, 22, 24, 28, 32, 34, 36, 40, 42)  # of a RIFF header, and others' bytes in the first fifty


@cache
def content(kind: str, subtype: str, rate_hz: int, channels: int, length: int) -> bytes | None:
    """A sound file; None where the format has no such rate."""
    times_s = np.arange(length)[:, None] / rate_hz
    wave = 0.3 * np.sin(2 * np.pi * 300 * times_s * np.arange(1, channels + 1))
    file = io.BytesIO()
    try:
        soundfile.write(file, wave, rate_hz, format=kind, subtype=subtype)
    except (soundfile.SoundFileError, ValueError):
        return None
    return file.getvalue()


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, tuple[str, str, int, int, int] | None]:
    """Bytes, and what they are where they were left as they are."""
    about = (
        *draw(st.sampled_from(FORMATS)), draw(st.sampled_from(RATES_HZ)), draw(st.integers(1, 3)),
        draw(st.sampled_from(LENGTHS)),
    )  # fmt: skip
    data = content(*about)
    if data is None:
        return b"", None
    spoilt = data
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, 1 << 20)) % (len(spoilt) + 1)
        how = draw(st.sampled_from(["flip", "cut", "field", "insert", "remove", "repeat", "zero", "header"]))
        if how == "cut":
            spoilt = spoilt[:at]
        elif how == "flip" and at < len(spoilt):
            spoilt = spoilt[:at] + bytes([spoilt[at] ^ 1 << draw(st.integers(0, 7))]) + spoilt[at + 1 :]
        elif how == "header" and len(spoilt) > 48:
            at %= 48
            spoilt = spoilt[:at] + bytes([draw(st.integers(0, 255))]) + spoilt[at + 1 :]
        elif how == "field" and len(spoilt) > 48:
            at, form = draw(st.sampled_from(FIELDS)), draw(st.sampled_from(["<I", "<H", ">I"]))
            size = struct.calcsize(form)
            value = draw(st.sampled_from(VALUES)) % (1 << 8 * size)
            spoilt = spoilt[:at] + struct.pack(form, value) + spoilt[at + size :]
        elif how == "insert":
            spoilt = spoilt[:at] + draw(st.binary(min_size=1, max_size=9)) + spoilt[at:]
        elif how == "remove":
            spoilt = spoilt[:at] + spoilt[at + draw(st.integers(1, 40)) :]
        elif how == "repeat":
            spoilt = spoilt[:at] + spoilt[max(0, at - 100) : at] + spoilt[at:]
        elif how == "zero":
            spoilt = spoilt[:at] + bytes(min(30, len(spoilt) - at)) + spoilt[at + 30 :]
    return spoilt, about if spoilt == data else None


def check(example: tuple[bytes, tuple[str, str, int, int, int] | None], folder: Path) -> str:
    """One file, through the header, ``read_audio`` and ``read_utterance``."""
    data, about = example
    path = folder / "a.wav"
    path.write_bytes(data)
    try:
        rate_hz, num_samples = audio_header(path)
        wave = read_audio(path)
        utterance = Utterance("a", path, rate_hz, num_samples, "s", "c", "train", "", None)
        again = read_utterance(utterance)
    except BaseException as error:
        if about and about[4] > 0:
            raise
        return refusal(error, path)
    assert wave.dtype == torch.float32
    assert wave.dim() == 1
    assert len(wave) == math.ceil(num_samples * 16_000 / rate_hz) > 0
    assert -(-len(wave) // 160) == utterance.num_frames
    assert torch.isfinite(wave).all()
    assert torch.equal(wave, again)
    if about and about[1] in LOSSLESS:
        _, _, rate_hz, channels, length = about
        assert num_samples == length
        if rate_hz == 16_000:
            expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(length)[:, None] / rate_hz * np.arange(1, channels + 1))
            np.testing.assert_allclose(wave.numpy(), expected.mean(1), atol=2e-4)
    return RIGHT


def check_part(example: tuple[int, int, int], folder: Path) -> str:
    """A part of a file whose header was read before the file changed."""
    start, num_samples, kept = example
    path = folder / "part.flac"
    data = content("FLAC", "PCM_16", 16_000, 1, 3000)
    assert data is not None
    path.write_bytes(data[: len(data) * kept // 100])
    utterance = Utterance("a", path, 16_000, num_samples, "s", "c", "train", "", None, start_sample=start, whole=False)
    try:
        wave = read_utterance(utterance)
    except BaseException as error:
        if kept == 100 and start + num_samples <= 3000:
            raise
        return refusal(error, path)
    assert len(wave) == num_samples
    expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(start, start + num_samples) / 16_000)
    np.testing.assert_allclose(wave.numpy(), expected, atol=2e-4)
    return RIGHT


PARTS = st.tuples(st.integers(0, 3500), st.integers(1, 3500), st.sampled_from([100, 100, 99, 60, 20, 5, 0]))
TARGETS = [Target("audio files", files(), check, quick=250), Target("parts of audio", PARTS, check_part, quick=60)]
IDS = [target.name for target in TARGETS]


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_audio(target, tmp_path):
    fuzz(target, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_much_audio(target, tmp_path):
    fuzz(target, tmp_path, slow=True)
