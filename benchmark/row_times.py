"""A row's time and memory, out of the raw samples of its cells."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .plain import text
from .statistics import ratio_spread

INFERENCE_LENGTH_S = 10.0  # inference is shown at this utterance length, or at the longest one measured below it

Spread = tuple[float, float, float]  # median, first quartile, third quartile


def row_times(group: Sequence[dict]) -> dict[str, Any]:
    """The row's fields on time. Rounds of all seeds are pooled; a measurement that several cells share counts once.

    What was timed as a whole, from the waveform on, has its ratio and its real-time factor from that alone.
    """
    times = _measurements(group)
    lengths_s = {length_s: phase for length_s, phase in _inference(times).items() if length_s <= INFERENCE_LENGTH_S}
    length_s = max(lengths_s, default=0.0)
    inference = lengths_s.get(length_s, "")
    features, encoder = _features(times), _seconds_per_audio_s(times, inference)
    if encoder is None and (group[0]["upstream"] or {}).get("parameters") == 0:
        encoder = 0.0  # no parameters, no encoder
    return {
        "baseline": ", ".join(sorted({time["baseline"] for time in times})) or None,
        "lane_pretrain_s": _pretraining_s(group, times),
        "train_ratio": _pooled_ratio(times, "train_step"),
        "inference_ratio": _pooled_ratio(times, inference),
        "inference_length_s": length_s or None,
        "real_time_factor": None if features is None or encoder is None else features + encoder,
        **sample_counts(group),
    }


def real_time_factors(group: Sequence[dict]) -> dict[float, float]:
    """Seconds of computing (features and encoder) per second of audio, by the utterance length in seconds at which
    inference was timed. Features are timed at one length, since their cost grows with it."""
    times = _measurements(group)
    features = _features(times)
    encoder = {length_s: _seconds_per_audio_s(times, phase) for length_s, phase in sorted(_inference(times).items())}
    if features is None:
        return {}
    return {length_s: features + speed for length_s, speed in encoder.items() if speed is not None}


def _measurements(group: Sequence[dict]) -> list[dict]:
    return list({text(cell["time"]["phases"]): cell["time"] for cell in group if cell["time"]}.values())


def _features(times: list[dict]) -> float | None:
    """Seconds of features per second of audio; 0 where they were timed with the rest."""
    whole = any(phase.startswith("whole_") for phase in _inference(times).values())
    return 0.0 if whole else _seconds_per_audio_s(times, "features")


def _inference(times: list[dict]) -> dict[float, str]:
    """The phases of inference, of the encoder or of the whole upstream, by utterance length in seconds."""
    found = {}
    for time in times:
        for phase in time["phases"]:
            match = re.fullmatch(r"(?:inference|whole)_(\d+(?:\.\d+)?)s", phase)
            if match:
                found[float(match[1])] = phase
    return found


def sample_counts(cells: Iterable[dict]) -> dict[str, int]:
    """Timing samples and disturbed ones; a phase that several cells share counts once."""
    phases = {text(phase): phase[1] for cell in cells if cell["time"] for phase in cell["time"]["phases"].items()}
    flags = [flag for phase in phases.values() for flag in phase["disturbed"]]
    return {"num_samples": len(flags), "num_disturbed": sum(flags)}


def _pooled_ratio(times: list[dict], name: str) -> Spread | None:
    phases = [time["phases"][name] for time in times if name in time["phases"]]
    phases = [phase for phase in phases if phase["baseline_samples_s"]]
    own, baseline = ([s for phase in phases for s in phase[key]] for key in ("samples_s", "baseline_samples_s"))
    return ratio_spread(own, baseline) if own else None


def _pretraining_s(group: Sequence[dict], times: list[dict]) -> float | None:
    """Steps of pre-training times the median step of the timing lane, which other programs do not slow."""
    steps = [cell["pretrain"]["steps"] for cell in group if cell["pretrain"]]
    samples_s = [s for time in times for s in time["phases"].get("train_step", {}).get("samples_s", ())]
    return float(np.mean(steps) * np.median(samples_s)) if steps and samples_s else None


def _seconds_per_audio_s(times: list[dict], name: str) -> float | None:
    """Median seconds of computing per second of audio that a sample works on."""
    phases = [time["phases"][name] for time in times if name in time["phases"]]
    speeds = [s / phase["audio_s"] for phase in phases if phase["audio_s"] for s in phase["samples_s"]]
    return float(np.median(speeds)) if speeds else None


def largest_memory(group: Sequence[dict], key: str) -> int | None:
    """The most of ``train_bytes`` or ``inference_bytes`` that a cell took."""
    known = [cell["memory"][key] for cell in group if cell["memory"] and cell["memory"][key] is not None]
    return max(known, default=None)
