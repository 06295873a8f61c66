"""Sampled speakers: a voice for eSpeak NG each, and the channel of each recording session."""

import random
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .plan import stream, uniform

NUM_FORMANTS = 9  # eSpeak counts from 0, the voice bar
EQ_POINTS = 6  # of a channel's frequency response, evenly spaced on a logarithmic axis
EQ_TAPS = 129  # linear phase: a delay of 64 samples (4 ms) that centring takes out again


@dataclass(frozen=True)
class Speaker:
    """One voice: ``voice`` is the text of an eSpeak variant file; rate in words a minute, pitch range 0 to 100."""

    name: str
    sex: str
    voice: str
    rate_wpm: float
    pitch_range: float


@dataclass(frozen=True)
class Channel:
    """One session's microphone and room tone: ``response`` (129,) are filter taps at 16 kHz."""

    response: np.ndarray
    snr_db: float
    noise_slope: float


def sample_speaker(seed: int, index: int) -> Speaker:
    """Draw a speaker; even indices are male, odd ones female.

    Flutter, roughness, echo and the Klatt source stay off: they carry state inside the library from one utterance to
    the next, and an utterance must come out the same whatever was spoken before it.
    """
    draw = stream("speaker", seed, index)
    female = index % 2 == 1
    pitch_hz = _normal(draw, 198, 24, 150, 260) if female else _normal(draw, 112, 18, 75, 165)
    tract = _normal(draw, 112, 4.5, 102, 124) if female else _normal(draw, 98, 4.5, 88, 108)  # formant scale, percent
    lines = [
        "language variant",
        f"name s{index}",
        f"pitch {pitch_hz:.0f} {pitch_hz * uniform(draw, 1.15, 1.6):.0f}",
        "flutter 0",
        "roughness 0",
    ]
    for formant in range(NUM_FORMANTS):
        spread = 0.0 if formant == 0 else 0.03 if formant < 4 else 0.06  # the upper ones tell people apart
        frequency = 100.0 if formant == 0 else tract * (1 + _normal(draw, 0, spread, -3 * spread, 3 * spread))
        lines.append(f"formant {formant} {frequency:.0f} {uniform(draw, 75, 125):.0f} {uniform(draw, 75, 160):.0f}")
    levels = [uniform(draw, 150, 230)]
    for _ in range(3):
        levels.append(max(10.0, levels[-1] * uniform(draw, 0.45, 1.05)))
    tilt = " ".join(f"{hz} {level:.0f}" for hz, level in zip((100, 600, 1500, 3000), levels, strict=True))
    lines.append(f"tone {tilt}")
    lines.append(f"consonants {uniform(draw, 55, 130):.0f} {uniform(draw, 60, 130):.0f}")
    lines.append(f"voicing {uniform(draw, 80, 115):.0f}")
    if draw.random() < 0.5:
        breath = uniform(draw, 1, 6)
        lines.append("breath 0 " + " ".join(f"{breath * uniform(draw, 0.5, 1.5):.0f}" for _ in range(7)))
    return Speaker(
        name=f"s{index}",
        sex="F" if female else "M",
        voice="\n".join(lines) + "\n",
        rate_wpm=uniform(draw, 140, 205),
        pitch_range=uniform(draw, 30, 75),
    )


def sample_channel(seed: int, speaker: int, chapter: int) -> Channel:
    """Draw the equalisation, noise level and noise colour of one session."""
    draw = stream("channel", seed, speaker, chapter)
    gains_db = [_normal(draw, 0, 4, -12, 12) for _ in range(EQ_POINTS)]
    bins = np.linspace(0, 1, EQ_TAPS)  # 0 to 8 kHz
    floor = 1 / (EQ_TAPS - 1)
    points = np.geomspace(floor, 1, EQ_POINTS)
    response_db = np.interp(np.log(np.maximum(bins, floor)), np.log(points), gains_db)
    impulse = np.fft.fftshift(np.fft.irfft(10 ** (response_db / 20)))  # 256 taps, centred on tap 128
    half = EQ_TAPS // 2
    return Channel(
        response=impulse[128 - half : 128 + half + 1] * np.hanning(EQ_TAPS),
        snr_db=uniform(draw, 28, 45),
        noise_slope=uniform(draw, -0.35, 0.35),
    )


def _normal(draw: random.Random, mean: float, deviation: float, low: float, high: float) -> float:
    """A normal number, drawn again while it lies outside ``low`` to ``high``."""
    if deviation == 0:
        return mean
    distribution = NormalDist(mean, deviation)
    while True:
        value = distribution.inv_cdf(1 - draw.random() * (1 - 1e-12) - 1e-13)
        if low <= value <= high:
            return value
