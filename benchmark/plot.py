"""Scores against time as a picture: scatter panels with intervals, reference lines and labels that do not overlap."""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure

# Okabe and Ito's palette for the colour-blind, without its yellow (too light on white) and black (the reference lines).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "<", ">")
STYLES = tuple(  # colours with markers, neighbours differing in both
    (c, MARKERS[(i + shift) % len(MARKERS)]) for shift in range(len(MARKERS)) for i, c in enumerate(COLOURS)
)
BAR_COST = 20  # a label goes this many points further so as not to cross an interval
LOG_FROM = 20  # a logarithmic time axis when the slowest takes over 20 times the fastest
TITLE_LETTERS = 58  # what fits above a panel at full size; longer titles are set smaller


@dataclass(frozen=True)
class Point:
    """One labelled mark; ``interval`` is drawn as a vertical bar."""

    label: str
    x: float
    y: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One scatter plot. ``dashed`` and ``dotted`` are heights of horizontal lines with their names, ``reach`` heights
    that the axis covers beside those of its points, so that neighbours have the same axis."""

    title: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    dashed: tuple[str, float] | None = None
    dotted: tuple[str, float] | None = None
    reach: tuple[float, ...] = ()
    if_empty: str = "nothing to show"


def draw(panels: Sequence[Panel], num_columns: int = 2) -> bytes:
    """A PNG of the panels, row by row. One label has the same colour and marker in all panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    FigureCanvasAgg(figure(panels, num_columns)).print_png(png)
    return png.getvalue()


def figure(panels: Sequence[Panel], num_columns: int = 2) -> "Figure":
    """The picture as a matplotlib figure, laid out, for `draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert panels, "a figure needs a panel"
    num_rows = -(-len(panels) // num_columns)
    drawn = Figure(figsize=(5.4 * num_columns, 3.8 * num_rows), dpi=130)
    drawn.set_layout_engine("constrained", h_pad=0.12, w_pad=0.1)
    canvas = FigureCanvasAgg(drawn)
    axes = drawn.subplots(num_rows, num_columns, squeeze=False)
    labels = sorted({point.label for panel in panels for point in panel.points})
    styles = dict(zip(labels, styles_in_turn(), strict=False))
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(axis, panel, styles)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    canvas.draw()  # fixes the layout, which the labels are then fitted into
    drawn.set_layout_engine("none")
    for axis, panel in zip(axes.flat, panels, strict=False):
        if panel.points:
            _label_points(axis, panel, styles, canvas.get_renderer())
    return drawn


def styles_in_turn() -> Iterator[tuple[str, str]]:
    """``STYLES``, from the start again after all combinations."""
    return itertools.cycle(STYLES)


def _draw_panel(axis: "Axes", panel: Panel, styles: dict[str, tuple[str, str]]) -> None:
    title = plain(panel.title)
    axis.set_title(title, fontsize=10 * min(1.0, TITLE_LETTERS / max(1, len(title))), pad=20)
    axis.set_xlabel(plain(panel.x_label))
    axis.set_ylabel(plain(panel.y_label))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if not panel.points:
        axis.text(0.5, 0.5, plain(panel.if_empty), ha="center", va="center", transform=axis.transAxes, wrap=True)
        axis.set_xticks([])
        axis.set_yticks([])
        return
    for point in panel.points:
        colour, marker = styles[point.label]
        axis.plot(point.x, point.y, marker, color=colour, markersize=7, markeredgecolor="white", zorder=3)
        if point.interval:
            axis.plot([point.x] * 2, point.interval, "-", color=colour, linewidth=1.6, alpha=0.8, zorder=2)
    low, high = y_limits(panel)
    axis.set_ylim(low, high)
    for line, style in ((panel.dashed, "--"), (panel.dotted, ":")):
        if line and low <= line[1] <= high:
            axis.axhline(line[1], linestyle=style, color="black", linewidth=1.1, zorder=1, label=plain(line[0]))
        elif line:
            side = "below" if line[1] < low else "above"
            axis.plot([], [], linestyle=style, color="black", label=plain(f"{line[0]}, {side} this axis"))
    if panel.dashed or panel.dotted:
        legend = axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
        legend.borderaxespad = 0.1
    times = [point.x for point in panel.points]
    if min(times) > 0 and max(times) > LOG_FROM * min(times):
        axis.set_xscale("log")
        axis.set_xlabel(plain(f"{panel.x_label}, logarithmic"))
        axis.set_xlim(min(times) / 1.6, max(times) * 1.6)
    else:
        axis.set_xlim(0, max(times) * 1.25 or 1)


def y_limits(panel: Panel) -> tuple[float, float]:
    """Limits around points, intervals and the dashed line; and the dotted line unless it would take half the height."""
    heights = [y for point in panel.points for y in (point.y, *(point.interval or ()))]
    heights += [*panel.reach, *([panel.dashed[1]] if panel.dashed else [])]
    low, high = min(heights), max(heights)
    if panel.dotted and low - (high - low) < panel.dotted[1] < high + (high - low):
        low, high = min(low, panel.dotted[1]), max(high, panel.dotted[1])
    margin = 0.12 * (high - low) or 1.0
    return low - margin, high + margin


def _label_points(axis: "Axes", panel: Panel, styles: dict[str, tuple[str, str]], renderer: "RendererAgg") -> None:
    """Write each label near its point where it covers no marker and no other label, and preferably no interval; with a
    thin line to its point when that is not close by."""
    from matplotlib.patheffects import withStroke

    scale = renderer.dpi / 72  # pixels in a point
    inside = np.array([axis.get_window_extent(renderer).extents])
    markers, bars = _covered(axis, panel.points, scale)
    for point in sorted(panel.points, key=lambda point: -point.y):
        text = axis.annotate(plain(point.label), (point.x, point.y), (0, 0), textcoords="offset points", zorder=4)
        text.set(fontsize=8, color="0.15", ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        size = text.get_window_extent(renderer)
        x, y = axis.transData.transform((point.x, point.y))
        boxes, distances = _places(x, y, size.width, size.height, scale)
        covered = _shared_areas(boxes, markers).sum(axis=1)
        outside = size.width * size.height - _shared_areas(boxes, inside)[:, 0]
        crossed = (_shared_areas(boxes, bars) > 0).sum(axis=1)
        best = np.lexsort((distances + BAR_COST * crossed, np.round(covered + outside)))[0]
        left, bottom, right, top = boxes[best]
        markers = np.concatenate([markers, boxes[best : best + 1]])
        text.set_position((((left + right) / 2 - x) / scale, ((bottom + top) / 2 - y) / scale))
        if distances[best] > 12:
            line = [(x, y), (np.clip(x, left, right), np.clip(y, bottom, top))]
            ends = axis.transData.inverted().transform(line)
            axis.plot(ends[:, 0], ends[:, 1], "-", color=styles[point.label][0], linewidth=0.7, zorder=1)


def _covered(axis: "Axes", points: Sequence[Point], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """What points cover, as boxes (left, bottom, right, top) in pixels: markers (N, 4) and interval bars (M, 4)."""
    centres = axis.transData.transform([(point.x, point.y) for point in points])
    ends = [axis.transData.transform([(point.x, end) for end in point.interval]) for point in points if point.interval]
    reach = np.array([-1, -1, 1, 1]) * scale
    return np.tile(centres, 2) + 4 * reach, np.array(ends).reshape(-1, 4) + reach


def _places(x: float, y: float, width: float, height: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Places for a label around (x, y): boxes (N, 4) in pixels, and their distances (N,) in points."""
    sides = [(right, up) for right in (1, -1) for up in (0, 0.3, -0.3, 0.6, -0.6, 1, -1)] + [(0, 1), (0, -1)]
    reaches = (7, 10, 14, 19, 25, 32, 40, 50, 65, 85, 110)
    right, up = np.array([(reach * right, reach * up) for reach in reaches for right, up in sides]).T
    left = x + right * scale + (np.sign(right) - 1) / 2 * width
    bottom = y + up * scale + (np.sign(up) - 1) / 2 * height
    return np.stack([left, bottom, left + width, bottom + height], axis=1), np.hypot(right, up)


def _shared_areas(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas (N, M) that ``boxes`` (N, 4) share with ``others`` (M, 4)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def plain(text: str) -> str:
    """``text`` on one line, without control characters and matplotlib's formula mode."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("$", r"\$")
