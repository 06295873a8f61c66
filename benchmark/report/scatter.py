"""Accuracy against time, as the page draws it: points with intervals, the Pareto front, names where there is room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..plot import Panel, Point, y_limits
from .axes import Axis, Tick, times_axis, vertical
from .names import Name, around, place
from .styles import RADIUS, Style


@dataclass(frozen=True)
class Mark:
    """A point of the picture. ``bar`` are the ends of its interval; ``name`` is None where there is no room."""

    label: str
    tip: str
    x: float
    y: float
    style: Style
    on_front: bool
    bar: tuple[float, float] | None
    name: Name | None


@dataclass(frozen=True)
class Line:
    """A horizontal line for reference: its text, its height (None when it is not on the axis), "dashed" or "dotted"."""

    text: str
    y: float | None
    kind: str


@dataclass(frozen=True)
class Scatter:
    """What the template draws. ``front`` is the path that joins the best, and ``better`` where they are."""

    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marks: list[Mark]
    lines: list[Line]
    front: str
    better: str


def scatter(
    panel: Panel, higher_is_better: bool, styles: Mapping[str, Style], tips: Mapping[str, str]
) -> Scatter | None:
    """The picture of a panel, None without a point; ``tips`` tell about each label what is not in the picture."""
    if not panel.points:
        return None
    x_axis, y_axis = times_axis([point.x for point in panel.points]), vertical(*y_limits(panel))
    best = front(panel.points, higher_is_better)
    places = {point: (x_axis(point.x), y_axis(point.y)) for point in panel.points}
    ordered = sorted(panel.points, key=lambda point: (point not in best, -point.y))
    names = place(
        [(point.label, [places[point]]) for point in ordered], around(np.array(list(places.values())), RADIUS + 1)
    )
    reference = [(panel.dashed, "dashed"), (panel.dotted, "dotted")]
    marks = [
        Mark(
            label=point.label,
            tip=tips.get(point.label, ""),
            x=places[point][0],
            y=places[point][1],
            style=styles[point.label],
            on_front=point in best,
            bar=point.interval and (y_axis(point.interval[0]), y_axis(point.interval[1])),
            name=names.get(point.label),
        )
        for point in panel.points
    ]
    return Scatter(
        x_label=panel.x_label + (", logarithmic" if x_axis.logarithmic else ""),
        y_label=panel.y_label,
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        marks=sorted(marks, key=lambda mark: mark.on_front),  # the front is drawn last, on top
        lines=[_line(line, kind, y_axis) for line, kind in reference if line],
        front=_steps([places[point] for point in best]),
        better="top" if higher_is_better else "bottom",
    )


def front(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """The points that no other one beats in score without taking longer, the fastest first."""
    sign = 1 if higher_is_better else -1
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -sign * point.y)):
        if not found or sign * point.y > sign * found[-1].y:
            found.append(point)
    return found


def _line(line: tuple[str, float], kind: str, y_axis: Axis) -> Line:
    text, value = line
    if y_axis.holds(value):
        return Line(text, y_axis(value), kind)
    return Line(f"{text}, {'below' if value < y_axis.low else 'above'} this axis", None, kind)


def _steps(places: Sequence[tuple[float, float]]) -> str:
    """A path that goes from point to point, first sideways, then up or down."""
    (x, y), *others = places
    return f"M{x:g} {y:g}" + "".join(f"H{x:g}V{y:g}" for x, y in others)
