"""Reads an audio file as 16 kHz mono, or says what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING

from .corpus import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import torch

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
    return int(header.samplerate), int(header.frames)


def read_audio(path: str | Path) -> "torch.Tensor":
    """Read a file of any rate and channel count as a 1-D float32 waveform, 16 kHz, the mean of its channels.

    Its length is ``ceil(num_samples * 16000 / sample_rate_hz)``, the one that ``Utterance.num_frames`` counts with.

    Raises:
        ValueError: naming the file, when it is missing, corrupt, cut short, empty, or holds NaN or infinity.
    """
    import soundfile
    import torch

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such audio file: check the path, or load the corpus again")
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz, num_samples = int(file.samplerate), int(file.frames)
            _check_length(path, num_samples)
            samples = file.read(dtype="float32", always_2d=True)  # (S, channels)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if len(samples) != num_samples:
        raise ValueError(
            f"{path}: the header promises {num_samples} samples, the file holds {len(samples)}: it is cut short or "
            f"corrupt, fetch it again or remove it"
        )
    wave = torch.from_numpy(samples).mean(dim=1)
    if not torch.isfinite(wave).all():
        raise ValueError(f"{path}: audio must be finite, but it holds NaN or infinity: repair or remove the file")
    if rate_hz == SAMPLE_RATE_HZ:
        return wave
    from .resampling import resample_to_16k

    return resample_to_16k(wave, rate_hz)


def _check_length(path: Path, num_samples: int) -> None:
    if num_samples <= 0:
        raise ValueError(f"{path}: audio must hold at least one sample, but it is empty: fetch it again or remove it")
    if num_samples > MAX_SAMPLES:
        raise ValueError(f"{path}: its header does not state its length: encode it again, for example with sox or flac")


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = str(error).removeprefix(f"Error opening {str(path)!r}: ").rstrip(".")
    return ValueError(
        f"{path}: not readable as audio ({reason}): fetch it again, convert it to FLAC or WAV, or remove it"
    )
