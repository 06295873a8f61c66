"""One utterance from its key: text, voice, session channel, level, and its phones in 16 kHz samples."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve, resample_poly

from ..corpus import SAMPLE_RATE_HZ, SIL
from .espeak import Espeak
from .phones import RATE_HZ, Segment, join_silences, segment
from .plan import SIZES, stream, uniform
from .sentences import sentence
from .speakers import Channel, Speaker

UP, DOWN = 320, 441  # 22,050 Hz to 16,000 Hz
PEAK = 0.98


@dataclass(frozen=True)
class Rendered:
    """``samples`` (S,) int16 at 16 kHz; ``phones`` cover all of them, back to back, in samples."""

    samples: np.ndarray
    phones: list[Segment]
    text: str


def render(espeak: Espeak, speaker: Speaker, channel: Channel, *, size: str, seed: int, utterance_id: str) -> Rendered:
    """Make one utterance; the result depends on the arguments alone."""
    draw = stream("utterance", seed, utterance_id)
    num_sentences = 1 + int(draw.random() * SIZES[size].max_sentences)
    text = " ".join(sentence(draw) for _ in range(num_sentences))
    pcm, events = espeak.speak(
        speaker,
        text,
        noise_seed=int(draw.random() * (2**31 - 1)),
        rate_wpm=speaker.rate_wpm * uniform(draw, 0.93, 1.07),
        pitch=50 + uniform(draw, -7, 7),
        pitch_range=speaker.pitch_range * uniform(draw, 0.85, 1.15),
    )
    lead, tail = (int(uniform(draw, 0.1, 0.35) * RATE_HZ) for _ in range(2))  # of silence, as recordings have
    total = lead + len(pcm) + tail
    spoken = [Segment(start + lead, end + lead, phone) for start, end, phone in segment(pcm, events)]
    phones = join_silences([Segment(0, lead, SIL), *spoken, Segment(lead + len(pcm), total, SIL)])
    wave = resample_poly(np.pad(pcm / 32768.0, (lead, tail)), UP, DOWN)
    noise = np.random.Generator(np.random.PCG64(int(draw.random() * 2**53))).standard_normal(len(wave) + 2)
    wave = _record(wave, channel, noise)
    wave *= 10 ** (uniform(draw, -30, -22) / 20) / _rms(wave)
    wave *= min(1.0, PEAK / np.abs(wave).max())
    return Rendered(np.rint(wave * 32767).astype(np.int16), _at_16k(phones, total, len(wave)), text)


def _record(wave: np.ndarray, channel: Channel, noise: np.ndarray) -> np.ndarray:
    """Through the session's microphone, with its room tone: there is no digital silence. ``noise`` is (S + 2,)."""
    heard = fftconvolve(wave, channel.response, mode="same")
    tone = np.convolve(noise, [channel.noise_slope, 1.0, channel.noise_slope], mode="valid")
    return heard + tone * (_rms(heard) / _rms(tone) * 10 ** (-channel.snr_db / 20))


def _at_16k(phones: list[Segment], num_samples: int, num_samples_16k: int) -> list[Segment]:
    """Segments of the synthesizer's samples as segments of the resampled ones, rounded to the nearest."""
    assert num_samples_16k == math.ceil(num_samples * SAMPLE_RATE_HZ / RATE_HZ)
    starts = [round(item.start * UP / DOWN) for item in phones]
    ends = [*starts[1:], num_samples_16k]
    names = [item.phone for item in phones]
    return join_silences([Segment(*row) for row in zip(starts, ends, names, strict=True)])


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))
