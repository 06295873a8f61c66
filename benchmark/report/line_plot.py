"""What the template draws as lines: learning curves, and cost against length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from .axes import Tick
from .names import Name, around, place
from .styles import Style

Places = Sequence[tuple[float, float]]

REACH = 3.0  # around a line and its dots no name stands


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


def names(named: Mapping[str, Places], lines: Iterable[Places], dots: Iterable[Places] = ()) -> dict[str, Name]:
    """Where the names of lines may stand: near their end, or before it, and over none of ``lines`` and ``dots``."""
    wanted = [(label, [own[-1], own[len(own) * 3 // 4], own[len(own) // 2]]) for label, own in named.items()]
    covered = np.array([*chain.from_iterable(map(_along, lines)), *chain.from_iterable(dots)])
    return place(wanted, around(np.unique(covered.round(), axis=0), REACH))


def _along(line: Places) -> Places:
    """Places on a line, none further than twice `REACH` from the next."""
    x, y = np.array(line, float).T
    lengths = np.append(0.0, np.hypot(np.diff(x), np.diff(y)).cumsum())
    at = np.linspace(0.0, lengths[-1], 2 + int(lengths[-1] / (2 * REACH)))
    return list(zip(np.interp(at, lengths, x).tolist(), np.interp(at, lengths, y).tolist(), strict=True))
