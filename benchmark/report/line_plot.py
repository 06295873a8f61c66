"""What the template draws as lines: learning curves, and cost against length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .axes import Tick
from .names import Name, around, place
from .styles import Style

Places = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A line: its path, and the places of dots on it or beside it. ``tip`` tells what it is, ``name`` where its name
    stands; None where there is no room."""

    label: str
    tip: str
    style: Style
    path: str
    dots: list[tuple[float, float]]
    name: Name | None = None


@dataclass(frozen=True)
class Entry:
    """A line of the legend: a name, and what its curves come to."""

    label: str
    style: Style
    text: str


@dataclass(frozen=True)
class LinePlot:
    """One picture. ``level`` is the height of a line to compare with, None without one."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    level: float | None = None


def path(places: Places) -> str:
    """A path through these places."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def names(lines: Mapping[str, Places], spared: Iterable[tuple[float, float]]) -> dict[str, Name]:
    """Where the names of lines may stand: near the end, or before it, and not over the places to be spared."""
    wanted = [(label, [own[-1], own[len(own) * 3 // 4], own[len(own) // 2]]) for label, own in lines.items()]
    return place(wanted, around(spared, 3.0))
