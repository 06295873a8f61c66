"""Reads an audio file, or a part of one, as 16 kHz mono, or says what is wrong with it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .corpus import SAMPLE_RATE_HZ, Utterance

if TYPE_CHECKING:
    import torch

BLOCK_SAMPLES = 1 << 20  # decoded at a time where nothing is kept
UNKNOWN_BYTES = 0x7FFFFF00  # from here on a size in a header means that it was not known when it was written
MAX_SAMPLES = 2**40  # libsndfile reports about 2**63 for a stream whose header does not state its length


def audio_header(path: Path) -> tuple[int, int]:
    """``(sample_rate_hz, num_samples)`` of one channel, from the header alone.

    Raises:
        ValueError: naming the file, when it is missing, not audio, or holds no samples.
    """
    import soundfile

    if not path.is_file():
        raise ValueError(f"{path}: no such audio file: check the path, or load the corpus again")
    try:
        header = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    _check_length(path, header.frames)
    _check_whole(path, header.extra_info)
    return int(header.samplerate), int(header.frames)


def read_audio(path: str | Path, start_sample: int = 0, num_samples: int | None = None) -> "torch.Tensor":
    """Read a file of any rate and channel count as a 1-D float32 waveform, 16 kHz, the mean of its channels.

    Its length is ``ceil(num_samples * 16000 / sample_rate_hz)``, the one that ``Utterance.num_frames`` counts with.

    Args:
        path: the file.
        start_sample: the first sample to read, at the file's own rate.
        num_samples: how many samples to read, at the file's own rate; None for all up to its end.

    Raises:
        ValueError: naming the file, when it is missing, corrupt, cut short, empty, holds NaN or infinity, or ends
            before the part does.
    """
    return _read(Path(path), start_sample, num_samples)[0]


def read_utterance(utterance: Utterance) -> "torch.Tensor":
    """Read an utterance like ``read_audio``: a waveform of as many samples as ``Utterance.num_frames`` counts with.

    Raises:
        ValueError: as ``read_audio`` does, and when the file has another rate or length than when the corpus was
            loaded.
    """
    asked = None if utterance.whole else utterance.num_samples
    wave, rate_hz, num_samples = _read(utterance.path, utterance.start_sample, asked)
    if (rate_hz, num_samples) != (utterance.sample_rate_hz, utterance.num_samples):
        raise ValueError(
            f"{utterance.path} has changed since the corpus was loaded: {num_samples} samples at {rate_hz} Hz, not "
            f"{utterance.num_samples} at {utterance.sample_rate_hz} Hz; run again"
        )
    return wave


def audio_problem(path: Path) -> str:
    """Why a file cannot be read to its end as finite audio, naming it; empty when it can. Memory stays bounded."""
    import numpy as np
    import soundfile

    try:
        length, held = audio_header(path)[1], 0
        with soundfile.SoundFile(str(path)) as file:
            while len(samples := file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                if not np.isfinite(samples).all():
                    raise _not_finite(path)
                held += len(samples)
        if held != length:
            raise _cut_short(path, length, held)
    except (soundfile.SoundFileError, RuntimeError) as error:
        return str(_unreadable(path, error))
    except ValueError as error:
        return str(error)
    return ""


def _read(path: Path, start_sample: int, num_samples: int | None) -> "tuple[torch.Tensor, int, int]":
    """The waveform at 16 kHz, and rate and number of the samples that were read."""
    import soundfile
    import torch

    assert start_sample >= 0, start_sample
    assert num_samples is None or num_samples > 0, num_samples
    if not path.is_file():
        raise ValueError(f"{path}: no such audio file: check the path, or load the corpus again")
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz, length = int(file.samplerate), int(file.frames)
            _check_length(path, length)
            _check_whole(path, file.extra_info)
            expected = length - start_sample if num_samples is None else num_samples
            if not 0 < expected <= length - start_sample:
                raise ValueError(
                    f"{path}: samples {start_sample} to {start_sample + max(expected, 0)} were asked for, but it has "
                    f"{length}: correct start and end, or load the corpus again"
                )
            if start_sample:
                file.seek(start_sample)
            samples = file.read(expected, dtype="float32", always_2d=True)  # (S, channels)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    except MemoryError as error:
        raise ValueError(
            f"{path}: there is no memory for the {expected} samples that its header promises: fetch it again, or "
            f"divide the recording into shorter ones"
        ) from error
    if len(samples) != expected:
        raise _cut_short(path, length, start_sample + len(samples))
    wave = torch.from_numpy(samples).mean(dim=1)
    if not torch.isfinite(wave).all():
        raise _not_finite(path)
    if rate_hz == SAMPLE_RATE_HZ:
        return wave, rate_hz, expected
    from .resampling import resample_to_16k

    return resample_to_16k(wave, rate_hz), rate_hz, expected


def _check_length(path: Path, num_samples: int) -> None:
    if num_samples <= 0:
        raise ValueError(f"{path}: audio must hold at least one sample, but it is empty: fetch it again or remove it")
    if num_samples > MAX_SAMPLES:
        raise ValueError(f"{path}: its header does not state its length: encode it again, for example with sox or flac")


def _cut_short(path: Path, promised: int, held: int) -> ValueError:
    return ValueError(
        f"{path}: the header promises {promised} samples, the file holds {held}: it is cut short or corrupt, fetch it "
        f"again or remove it"
    )


def _not_finite(path: Path) -> ValueError:
    return ValueError(f"{path}: audio must be finite, but it holds NaN or infinity: repair or remove the file")


def _check_whole(path: Path, told: str) -> None:
    """Refuse WAV and AIFF that are cut short, which libsndfile reads as shorter recordings and notes in what it tells
    of the header. Sizes that say "unknown", as of what was written to a pipe, are fine."""
    for promised, held in re.findall(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", told, re.MULTILINE):
        if int(held) + 1 < int(promised) < UNKNOWN_BYTES:
            raise ValueError(
                f"{path}: the header promises {promised} bytes of audio, the file holds {held}: it is cut short, fetch "
                f"it again or remove it"
            )


def _unreadable(path: Path, error: Exception) -> ValueError:
    if path.is_file() and path.stat().st_size == 0:
        return ValueError(f"{path}: the file is empty, 0 bytes: fetch it again or remove it")
    reason = str(error).removeprefix(f"Error opening {str(path)!r}: ").rstrip(".")
    return ValueError(
        f"{path}: not readable as audio ({reason}): fetch it again, convert it to FLAC or WAV, or remove it"
    )
