"""Scales and ticks of the page's pictures, which are SVG, so that they can be read out, focused and recoloured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..plot import LOG_FROM

WIDTH, HEIGHT = 560, 340  # of a picture, in its own units: about CSS pixels on a wide screen
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 16, 30  # margins around the plotted area
TICKS = 6  # about as many


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in units of the picture, and what is written there."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """Values to places.

    Args:
        low: the value at ``start``.
        high: the value at ``end``.
        start: a place in the picture.
        end: another one; below ``start`` on a vertical axis.
        logarithmic: whether equal steps are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, to a tenth."""
        return self.places([value])[0]

    def places(self, values: Sequence[float] | np.ndarray) -> list[float]:
        """Those of many values."""
        low, high, array = (np.log(v) if self.logarithmic else np.asarray(v) for v in (self.low, self.high, values))
        found = self.start + (array - low) / (high - low) * (self.end - self.start)
        return [float(place) for place in found.round(1)]

    def holds(self, value: float) -> bool:
        """Whether the value is on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[Tick]:
        """At round values."""
        values = _log_ticks(self.low, self.high) if self.logarithmic else _linear_ticks(self.low, self.high)
        return [Tick(self(value), f"{value:,.10g}") for value in values]


def horizontal(low: float, high: float, logarithmic: bool = False) -> Axis:
    """From left to right over the plotted area."""
    return Axis(low, high, LEFT, WIDTH - RIGHT, logarithmic)


def vertical(low: float, high: float, logarithmic: bool = False) -> Axis:
    """From the bottom of the plotted area to its top."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)


def times_axis(values: list[float]) -> Axis:
    """Horizontal, for these times: logarithmic when they span much, otherwise from zero."""
    low, high = min(values), max(values)
    if low > 0 and high > LOG_FROM * low:
        return horizontal(low / 1.6, high * 1.6, logarithmic=True)
    return horizontal(0.0, high * 1.15 or 1.0)


def widened(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """Limits with a margin; around a single value some space."""
    margin = share * (high - low) or abs(high) * share or 1.0
    return low - margin, high + margin


def _linear_ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(f"{value:.10g}") for value in found if low <= value <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 in every decade; the decades alone when these would be too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{decade}") for decade in decades for digit in leading]
        found = [value for value in found if low <= value <= high]
        if len(found) <= 2 * TICKS:
            break
    return found
