"""Spans of time as people write them: ``2h``, ``90m``, ``1h30m``, ``7d`` in; ``1 h 30 min`` out."""

import math
import re

UNITS_S = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
PATTERN = "".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in UNITS_S)


def parse(text: str) -> float:
    """Seconds. ``ValueError`` for anything but numbers with ``w``, ``d``, ``h``, ``m`` and ``s``, in this order, above
    0."""
    found = re.fullmatch(PATTERN, text.strip().lower())
    seconds = sum(float(n or 0) * s for n, s in zip(found.groups(), UNITS_S.values(), strict=True)) if found else 0.0
    if seconds <= 0:
        raise ValueError(f"{text!r} is no span of time above 0: write it like 2h, 90m, 45s or 1h30m")
    return seconds


def told(seconds: float) -> str:
    """To about two digits: ``8.5 s``, ``45 s``, ``3.2 min``, ``1 h 30 min``; ``unknown`` when it is not finite."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
