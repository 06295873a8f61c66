"""Places for names in a picture: beside what they name, over nothing; none where there is no room.

Legend: N boxes (left, top, right, bottom), in units of the picture.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .axes import BOTTOM, HEIGHT, LEFT, TOP, WIDTH

LETTER, LINE = 7.0, 13.0  # what a letter takes, in a font that is wide, and the height of a line
GAP = 10.0  # from a place to the name beside it
SIDES = ((1, 0), (-1, 0), (1, -10), (1, 10), (-1, -10), (-1, 10))  # right or left, and how far down


@dataclass(frozen=True)
class Name:
    """Where a text starts, or ends when ``anchor`` is "end"; ``y`` is its middle."""

    x: float
    y: float
    anchor: str


def place(wanted: Iterable[tuple[str, Sequence[tuple[float, float]]]], taken: np.ndarray) -> dict[str, Name]:
    """The names for which there is room, the first of ``wanted`` first.

    Args:
        wanted: names, each with the places beside which it may stand, the best first.
        taken: (N, 4) boxes that no name may cover.
    """
    found = {}
    for text, places in wanted:
        x, y = np.repeat(np.array(places, float), len(SIDES), axis=0).T
        right, down = np.tile(np.array(SIDES, float).T, len(places))
        start, middle, width = x + right * GAP, y + down, LETTER * len(text)
        left = np.where(right > 0, start, start - width)
        boxes = np.stack([left, middle - LINE / 2, left + width, middle + LINE / 2], axis=1)
        free = np.flatnonzero(_inside(boxes) & ~_overlapping(boxes, taken))
        if len(free):
            best = free[0]
            taken = np.concatenate([taken, boxes[best : best + 1]])
            anchor = "start" if right[best] > 0 else "end"
            found[text] = Name(round(float(start[best]), 1), round(float(middle[best]), 1), anchor)
    return found


def around(centres: np.ndarray, reach: float) -> np.ndarray:
    """(N, 4) boxes around centres (N, 2)."""
    return np.concatenate([centres - reach, centres + reach], axis=1)


def _inside(boxes: np.ndarray) -> np.ndarray:
    """Which of the boxes (N, 4) are on the plotted area: bool (N,)."""
    left, top, right, bottom = boxes.T
    return (left >= LEFT) & (right <= WIDTH) & (top >= TOP - 8) & (bottom <= HEIGHT - BOTTOM - 4)


def _overlapping(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the boxes (N, 4) share an area with one of the others (M, 4): bool (N,)."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    shared = (low < others[None, :, 2:]) & (others[None, :, :2] < high)  # (N, M, 2)
    return np.any(np.all(shared, axis=2), axis=1)
