"""How rows are told apart in the page's pictures: the colours and marks of the other pictures, by number."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..plot import COLOURS, MARKERS, styles_in_turn

RADIUS = 5.0
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "4 2", "1 5")  # of lines, one for each mark


@dataclass(frozen=True)
class Style:
    """``colour`` counts the colours, which differ between light and dark; ``mark`` is the path of a mark around
    (0, 0), ``dash`` a pattern of lines."""

    colour: int
    mark: str
    dash: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """One for each different name, the same wherever it is shown."""
    found = zip(sorted(set(names)), styles_in_turn(), strict=False)
    return {name: Style(COLOURS.index(c), _mark(m), DASHES[MARKERS.index(m)]) for name, (c, m) in found}


def _mark(marker: str, r: float = RADIUS) -> str:
    """The path of one of matplotlib's markers."""
    far = 1.2 * r
    corners = {
        "s": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "D": [(0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)],
        "^": [(0, -far), (far, r), (-far, r)],
        "v": [(0, far), (far, -r), (-far, -r)],
        "<": [(-far, 0), (r, -far), (r, far)],
        ">": [(far, 0), (-r, -far), (-r, far)],
    }.get(marker)
    if corners is None:
        return f"M{-r:g} 0a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners) + "z"
