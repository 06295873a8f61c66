"""Hidden states as scatter plots: a row of panels for each upstream, its numbers below, keys of colours at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..columns import no_minus_zero, percent
from ..picture_files import picture_files
from ..plot import COLOURS, STYLES, plain
from .phone_classes import BROAD_CLASSES, OTHER, broad_class
from .sample import Sample
from .view import Numbers, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WIDTH = 6.9  # inches: two columns of a paper
ROW, TITLE, KEY_LINE = 2.12, 0.32, 0.135  # inches: of an upstream, above the keys, a line of keys
ROWS = 5  # upstreams in one picture
POINTS = 7.0  # size of text
NAME_LETTERS = 27  # of an upstream with its state that fit beside a row at full size; longer ones are set smaller
MANY = 300  # points from which marks are small, and pixels in the vector file too
CLASS_COLOURS = dict(zip(BROAD_CLASSES, (*COLOURS[:5], "0.25", "0.7"), strict=True))
CLASS_MARKERS = dict(zip(BROAD_CLASSES, ("o", "^", "s", "D", "v", "x", "+"), strict=True))


@dataclass(frozen=True)
class Key:
    """What marks stand for: a colour and a marker for each name, and the name of each point."""

    title: str
    styles: Mapping[str, tuple[str, str]]
    of: np.ndarray  # (P,)


def draw(views: Sequence[View], samples: Mapping[str, Sample], stem: str = "states") -> dict[str, bytes]:
    """PNG and SVG files by name, ``ROWS`` upstreams in each picture; the same for the same views."""
    found: dict[str, bytes] = {}
    for number, start in enumerate(range(0, len(views), ROWS)):
        name = f"{stem}-{number + 1}" if len(views) > ROWS else stem
        found |= picture_files(name, figure(views[start : start + ROWS], samples))
    return found


def key_of(name: str, sample: Sample) -> Key:
    """The key of a sample: broad classes of phones, or speakers."""
    if sample.frames is None:
        speakers = sorted(set(sample.names))
        return Key(f"{name}: means of utterances", dict(zip(speakers, STYLES, strict=False)), sample.names)
    classes = np.array([broad_class(phone) for phone in sample.names])
    used = [known for known in BROAD_CLASSES if known in classes or known != OTHER]
    styles = {known: (CLASS_COLOURS[known], CLASS_MARKERS[known]) for known in used}
    return Key(f"{name}: single frames", styles, classes)


def figure(views: Sequence[View], samples: Mapping[str, Sample]) -> Figure:
    """The picture as a matplotlib figure, laid out."""
    from matplotlib.figure import Figure

    keys = {name: key_of(name, sample) for name, sample in samples.items()}
    top = TITLE + KEY_LINE * max(-(-len(key.styles) // _columns(key)) for key in keys.values())
    drawn = Figure(figsize=(WIDTH, top + ROW * len(views)), dpi=160)
    bands = drawn.subfigures(1 + len(views), 1, height_ratios=[top, *[ROW] * len(views)], hspace=0, squeeze=False)[:, 0]
    for place, key in enumerate(keys.values()):
        _draw_key(bands[0], key, place, len(keys), top)
    for view, band in zip(views, bands[1:], strict=True):
        _draw_row(band, view, keys)
    return drawn


def _columns(key: Key) -> int:
    """Of a key, by its longest name."""
    longest = max(map(len, key.styles))
    return 5 if longest <= 6 else 3 if longest <= 14 else 2


def _draw_key(band: SubFigure, key: Key, place: int, number: int, height: float) -> None:
    from matplotlib.lines import Line2D

    left, _ = _block(place, number)
    band.text(left, 1 - 0.07 / height, key.title, fontsize=POINTS + 1, fontweight="bold", va="top")
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=3.5, label=plain(name))
        for name, (colour, marker) in key.styles.items()
    ]
    layout = {"handletextpad": 0.1, "columnspacing": 0.9, "labelspacing": 0.25, "borderaxespad": 0.0}
    band.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left - 0.012, 1 - 0.22 / height),
        ncols=_columns(key),
        frameon=False,
        fontsize=POINTS,
        **layout,
    )


def _block(place: int, number: int) -> tuple[float, float]:
    """Left edge and width of the panels of one sample, as shares of the picture's width."""
    left, gap = 0.045, 0.035
    width = (1 - left - 0.01 - gap * (number - 1)) / number
    return left + place * (width + gap), width


def _draw_row(band: SubFigure, view: View, keys: Mapping[str, Key]) -> None:
    name = f"{view.label}, {view.state_name}"
    size = (POINTS + 1) * min(1.0, NAME_LETTERS / len(name))
    band.text(0.008, 0.56, plain(name), rotation=90, va="center", fontsize=size, fontweight="bold")
    for place, (name, key) in enumerate(keys.items()):
        seen = view.seen[name]
        left, width = _block(place, len(keys))
        half = width / 2 - 0.012
        pca_axes, tsne_axes = (band.add_axes((left + shift, 0.245, half, 0.735)) for shift in (0.0, half + 0.024))
        _scatter(pca_axes, seen.pca, key)
        first, second = (f"{100 * ratio:.0f}" for ratio in seen.ratios)
        _caption(pca_axes, f"PCA, {first} + {second} % of variance")
        _scatter(tsne_axes, seen.tsne, key)
        _caption(tsne_axes, "t-SNE")
        below = caption(name, seen.by_state[view.state])
        band.text(left, 0.165, below.replace("-", "\N{MINUS SIGN}"), fontsize=POINTS, va="top", linespacing=1.3)


def caption(sample: str, numbers: Numbers) -> str:
    """The numbers below the panels of a sample, in two lines."""
    kinds = [("class", numbers.broad), (sample.removesuffix("s"), numbers.name)]
    shares = [f"{name} {percent(s.value)} % ({{}}{percent(s.chance)})" for name, s in kinds if s]
    told = ", ".join(shares[:1]).format("chance ") + "".join(f", {share.format('')}" for share in shares[1:])
    what = "classes" if numbers.broad else sample
    values = (two_digits(value) for value in (numbers.silhouette, numbers.silhouette_chance))
    silhouette = f"silhouette of {what} {'{} (chance {})'.format(*values)}"
    return f"nearest same {told}\n{silhouette}"


def two_digits(value: float) -> str:
    """Two digits after the point; zero has no sign."""
    return no_minus_zero(f"{value:.2f}")


def _scatter(axes: Axes, places: np.ndarray, key: Key) -> None:
    size = 3.2 if len(places) >= MANY else 14
    order = np.random.default_rng(0).permutation(len(places))  # so that no class lies on top of the others
    chunks = np.array_split(order, max(1, len(order) // 100))
    for chunk in chunks:
        for name, (colour, marker) in key.styles.items():
            chosen = chunk[key.of[chunk] == name]
            line = 0.6 if marker in "x+" else 0.0
            x, y = places[chosen].T
            drawn = axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=line, alpha=0.85)
            drawn.set_rasterized(len(places) >= MANY)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color="0.6")


def _caption(axes: Axes, text: str) -> None:
    axes.set_xlabel(text, fontsize=POINTS, labelpad=2)
