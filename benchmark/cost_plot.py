"""The cost audit as a picture: time against length on logarithmic axes, and the ratio to the baseline below a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cost_case import ATTENTION, LAYER
from .cost_file import cells_of
from .picture_files import picture_files
from .plot import COLOURS, MARKERS
from .statistics import ratio_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES, VARIANT_LINES = ("-", "-."), ("--", ":")  # the second of each once a family has used up its markers
BASELINE_COLOUR = "black"
LABEL_POINTS = 8.5  # size of a label
LABEL_GAP = 1.5 * LABEL_POINTS / 72  # inches from one to the next
RATIO_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10)
RATIO_LIMITS = (0.1, 10.0)  # the ratio axis grows no further; an arrow says that a line leaves it


@dataclass(frozen=True)
class Line:
    """One row's values at increasing lengths, with its family's colour."""

    row: str
    lengths: tuple[int, ...]
    values: tuple[float, ...]
    colour: str
    style: str
    marker: str

    @property
    def face(self) -> str:
        """The inside of a marker: empty for variants."""
        return "white" if "[" in self.row else self.colour


def draw(audit: dict[str, Any]) -> dict[str, bytes]:
    """``cost.png`` and ``cost.svg``, the same for the same audit."""
    return picture_files("cost", figure(audit))


def figure(audit: dict[str, Any]) -> "Figure":
    """Two panels: the attention alone in milliseconds, and the layer's ratio to the layer with the baseline."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    times, ratios = lines(audit, ATTENTION, median_ms), lines(audit, LAYER, median_ratio)
    height = max(5.0, 1.6 + max(len(times), len(ratios)) * LABEL_GAP)
    drawn = Figure(figsize=(16, height), dpi=110)
    canvas = FigureCanvasAgg(drawn)
    left, right = drawn.subplots(1, 2)
    drawn.subplots_adjust(left=0.05, right=0.84, bottom=0.75 / height, top=1 - 0.85 / height, wspace=0.66)
    settings = audit["settings"]
    sizes = f"D {settings['hidden_dim']}, {settings['num_heads']} heads, batch 1, {settings['threads']} threads"
    left.set_title(f"Attention alone, forward ({sizes})", fontsize=11)
    left.set_ylabel("milliseconds, median")
    right.set_title(f"One layer, forward: time as a ratio to {audit['baseline']}", fontsize=11)
    right.set_ylabel("ratio, median")
    for axis, shown in ((left, times), (right, ratios)):
        _draw_lines(axis, shown)
    _guides(left, times)
    right.axhline(1, color="0.6", linewidth=0.8, zorder=1)
    low, high = right.get_ylim()
    right.set_ylim(max(low, RATIO_LIMITS[0]), min(high, RATIO_LIMITS[1]))
    lengths = sorted({n for line in (*times, *ratios) for n in line.lengths})
    for axis in (left, right):
        _plain_ticks(axis, lengths)
    low, high = right.get_ylim()
    right.set_yticks([tick for tick in RATIO_TICKS if low <= tick <= high], minor=False)
    right.set_yticks([], minor=True)
    canvas.draw()  # fixes the scales, into which the labels are then fitted
    for axis, shown in ((left, times), (right, ratios)):
        _label_ends(axis, shown, drawn.dpi)
    families = {audit["rows"][line.row]["family"] or "other": line.colour for line in (*times, *ratios)}
    handles = [Line2D([], [], color=colour, linewidth=3, label=family) for family, colour in families.items()]
    if handles:
        drawn.legend(handles=handles, loc="upper center", ncols=len(handles), frameon=False, fontsize=10)
    return drawn


def lines(audit: dict[str, Any], phase: str, value: Any) -> list[Line]:
    """A line for each row that has ``value`` of a phase at some length, the baseline first, then by family."""
    rows = audit["rows"]
    order = sorted(rows, key=lambda row: (row != audit["baseline"], rows[row]["family"], row))
    others = sorted({found["family"] for found in rows.values()} - {rows[audit["baseline"]]["family"]})
    palette = dict(zip(others, (*COLOURS, "0.5", "#8C564B", "#7F7F00"), strict=False))
    members: dict[str, list[str]] = {}  # family -> upstreams, without their variants
    found = []
    for row in order:
        family, (name, _, variant) = rows[row]["family"], row.partition("[")
        known = members.setdefault(family, [])
        known.extend([name] if name not in known else [])
        turn, place = divmod(known.index(name), len(MARKERS))
        own = {num_frames: cell["time"].get(phase) for num_frames, cell in cells_of(audit, row).items()}
        values = {n: value(time) for n, time in own.items() if time}
        values = {n: number for n, number in values.items() if number is not None}
        if values:
            colour = palette.get(family, BASELINE_COLOUR)
            style = (VARIANT_LINES if variant else LINES)[turn % 2]
            found.append(Line(row, tuple(values), tuple(values.values()), colour, style, MARKERS[place]))
    return found


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near ``wanted``, in the same order, at least ``gap`` apart and within ``low`` to ``high`` if they fit."""
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    blocks: list[list[float]] = []  # number of labels, and the mean height at which the lowest of them would like to be
    for place in order:
        blocks.append([1, wanted[place]])
        while len(blocks) > 1 and blocks[-2][1] + gap * blocks[-2][0] > blocks[-1][1]:
            (n, upper), (m, lower) = blocks.pop(), blocks.pop()
            blocks.append([n + m, (m * lower + n * (upper - gap * m)) / (n + m)])
    heights = np.concatenate([[0.0], *(start + gap * np.arange(int(n)) for n, start in blocks)])[1:]
    steps = gap * np.arange(len(heights))
    heights = np.maximum.accumulate(np.maximum(heights, low) - steps) + steps  # pushed up from below
    top = high - steps[::-1]
    heights = np.minimum(heights, top)
    placed = np.empty(len(order))
    placed[order] = heights
    return [float(height) for height in placed]


def median_ms(time: dict[str, Any]) -> float | None:
    """Of the samples of a phase; None without any."""
    return 1000 * float(np.median(time["samples_s"])) if time["samples_s"] else None


def median_ratio(time: dict[str, Any]) -> float | None:
    """To the baseline, in the same rounds; None without samples of both."""
    if not time["samples_s"] or not time["baseline_samples_s"]:
        return None
    return ratio_spread(time["samples_s"], time["baseline_samples_s"])[0]


def _draw_lines(axis: "Axes", shown: Sequence[Line]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("length n, stacked frames")
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    for line in shown:
        width = 2.6 if line is shown[0] and line.colour == BASELINE_COLOUR else 1.3
        axis.plot(
            line.lengths,
            line.values,
            linestyle=line.style,
            marker=line.marker,
            color=line.colour,
            linewidth=width,
            label=line.row,
            markersize=4.5,
            markerfacecolor=line.face,
            markeredgewidth=0.8,
            zorder=3,
        )


def _guides(axis: "Axes", shown: Sequence[Line]) -> None:
    """Thin lines of slope 1 and 2 through the middle of the picture, to compare with."""
    lengths = sorted({n for line in shown for n in line.lengths})
    if len(lengths) < 2:
        return
    low, high = axis.get_ylim()
    for power in (1, 2):
        ends = np.array([lengths[0], lengths[-1]], float)
        middle = np.sqrt(low * high) * (ends / np.sqrt(ends.prod())) ** power
        axis.plot(ends, middle, color="0.75", linewidth=5, alpha=0.45, zorder=1)
        axis.annotate(
            f"n{'²' if power == 2 else ''}", (ends[0], middle[0]), (2, -14), textcoords="offset points", color="0.45"
        )
    axis.set_ylim(low, high)


def _plain_ticks(axis: "Axes", lengths: Sequence[int]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axis.set_xticks(lengths, [str(n) for n in lengths])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="y", which="both", labelsize=9)


def _label_ends(axis: "Axes", shown: Sequence[Line], dpi: float) -> None:
    """Each row's name right of the panel, at the height of its last value or near it, with a thin line from there."""
    box = axis.get_window_extent()
    ends = axis.transData.transform(np.array([(line.lengths[-1], line.values[-1]) for line in shown]).reshape(-1, 2))
    wanted = [(min(max(y, box.y0), box.y1) - box.y0) / box.height for _, y in ends]
    gap = LABEL_GAP * dpi / box.height
    for line, height, place, (x, y) in zip(shown, wanted, spread(wanted, gap, 0.0, 1.0), ends, strict=True):
        off = " ↑" if y > box.y1 + 1 else " ↓" if y < box.y0 - 1 else ""
        start = (x - box.x0) / box.width
        axis.plot(
            [start, 1.0, 1.11, 1.12],
            [height, height, place, place],
            transform=axis.transAxes,
            color=line.colour,
            linewidth=0.6,
            alpha=0.7,
            clip_on=False,
            zorder=2,
        )
        sample = axis.plot([1.12, 1.18], [place] * 2, transform=axis.transAxes, clip_on=False, color=line.colour)[0]
        sample.set(linestyle=line.style, linewidth=1.3)
        sample.set(marker=line.marker, markersize=4.5, markevery=[1], markerfacecolor=line.face)
        axis.text(
            1.2, place, line.row.replace("$", r"\$") + off, transform=axis.transAxes, va="center",
            fontsize=LABEL_POINTS, color="0.1",
        )  # fmt: skip
