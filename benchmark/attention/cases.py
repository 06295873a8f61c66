"""Sorts attention maps into four cases by written rules, and says which shift, side or columns were found.

The cases are ours: the study speaks of four and names none in the text that we have. A map (T, T) is compared with the
map whose every row is its mean row, which has the same columns and knows nothing of where the query is:

- near: by how much more mass lies within ``band(T)`` frames of the diagonal than that;
- one-sided: by how much more the past, or the future, outweighs the other beyond the band than that;
- vertical: the total variation between the mean row and an even one;

each from 0 to 1. The largest names the case; below ``LEAST`` the map is flat. Legend: T frames, rows are queries.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .metrics import by_offset, globalness, mass, offsets, total_variation

NEAR, SIDED, VERTICAL, FLAT = CASES = ("near-diagonal", "one-sided context", "vertical", "flat")
LEAST = 0.15  # a structure below it is told from an even map by too little to be named
EVEN = 0.95  # of log T: rows of a flat map with less entropy are scattered, not even
PEAK = 3.0  # times the even share: what a column of its own has at least
TOLD = 3  # columns in a detail
FEWEST_FRAMES = 16


@dataclass(frozen=True)
class Case:
    """What a map looks like.

    Args:
        name: one of ``CASES``.
        detail: for near-diagonal ``self``, ``previous``, ``next``, ``3 back`` or ``5 ahead``; for one-sided ``past`` or
            ``future``; for vertical ``start``, ``end`` or the places of columns; for flat ``even`` or ``scattered``.
        shift: key - query at which the mean attention is highest, in frames; near-diagonal only, else 0.
        near, sided, vertical: the three measures; ``sided`` is negative for the past.
    """

    name: str
    detail: str
    shift: int
    near: float
    sided: float
    vertical: float

    def plain(self) -> dict[str, Any]:
        """As plain values; ``name`` is called ``case``."""
        values = asdict(self)
        return {"case": values.pop("name"), **values}


def band(num_frames: int) -> int:
    """How far from the diagonal is near: a thirty-second of the frames, at least one."""
    return max(1, round(num_frames / 32))


def describe(attention: Tensor) -> Case:
    """The case of one map (T, T), best a mean over many utterances.

    Raises:
        ValueError: for a map that is no (T, T) whose rows sum to 1, or below 16 frames, where a band, two sides and
            columns cannot be told apart.
    """
    _check(attention)
    maps = attention.double()
    num_frames = len(maps)
    offset, width = offsets(num_frames, maps.device), band(num_frames)
    mean_row = maps.mean(0)
    blind = mean_row.expand(num_frames, -1)
    within, past, future = offset.abs() <= width, offset < -width, offset > width
    near = float(mass(maps, within) - mass(blind, within))
    sided = float((mass(maps, future) - mass(maps, past)) - (mass(blind, future) - mass(blind, past)))
    vertical = float(total_variation(mean_row, torch.full_like(mean_row, 1 / num_frames)))
    strength, name = max((abs(sided), SIDED), (vertical, VERTICAL), (near, NEAR), key=lambda pair: pair[0])
    name = name if strength >= LEAST else FLAT
    shift = _shift(maps, width) if name == NEAR else 0
    detail = {
        NEAR: lambda: _near(shift),
        SIDED: lambda: "past" if sided < 0 else "future",
        VERTICAL: lambda: _columns(mean_row),
        FLAT: lambda: (
            "even" if float(globalness(maps)) >= EVEN * float(torch.tensor(num_frames).log()) else "scattered"
        ),
    }[name]()
    return Case(name, detail, shift, near, sided, vertical)


def _check(attention: Tensor) -> None:
    if attention.dim() != 2 or attention.shape[0] != attention.shape[1]:
        raise ValueError(f"a case is told of one map (T, T), got {tuple(attention.shape)}")
    if len(attention) < FEWEST_FRAMES:
        raise ValueError(f"a case is told of maps of at least {FEWEST_FRAMES} frames, got {len(attention)}: use more")
    worst = float((attention.sum(-1) - 1).abs().max())
    if not worst <= 1e-3:  # NaN too
        raise ValueError(f"the rows of a map must sum to 1, one is off by {worst:.2g}")


def _shift(maps: Tensor, width: int) -> int:
    profile = by_offset(maps)
    middle = len(maps) - 1
    return int(profile[middle - width : middle + width + 1].argmax()) - width


def _near(shift: int) -> str:
    names = {0: "self", -1: "previous", 1: "next"}
    return names.get(shift) or f"{abs(shift)} {'back' if shift < 0 else 'ahead'}"


def _columns(mean_row: Tensor) -> str:
    """Columns that stand out, if they hold half of what the mean row has above an even one; else the heavier end."""
    num_frames = len(mean_row)
    excess = (mean_row - 1 / num_frames).clamp_min(0)
    high = excess.topk(TOLD)
    own = [int(k) for k in high.indices if mean_row[k] >= PEAK / num_frames]
    if own and float(excess[own].sum()) >= 0.5 * float(excess.sum()):
        edge = band(num_frames)
        if all(k < edge for k in own):
            return "start"
        if all(k >= num_frames - edge for k in own):
            return "end"
        return ("column " if len(own) == 1 else "columns ") + ", ".join(map(str, sorted(own)))
    centre = float((mean_row * torch.arange(num_frames, device=mean_row.device)).sum())
    return "start" if centre < (num_frames - 1) / 2 else "end"
