"""The page about layer weights: a heat map for each task, and the numbers in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pages import escape, grid, where_made
from ..picture_files import picture_files
from ..plot import plain
from ..result_files import write_atomically
from .layers import Panel, Weights
from .picture import POINTS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLUMNS = 3  # panels side by side
MOST_TEXTS = 6  # states up to which a panel has room for numbers
LINE, KEY = 0.17, 0.45  # inches: of an upstream, of the key of colours
READING = (
    "Weights of a probe sum to 1. Before the sum each dimension of each state is brought to mean 0 and variance 1 on "
    "train, so that the size of a state decides nothing.",
    "A weight tells what the head made use of, not what a state holds: of two states that say the same, either may get "
    "it, and with few steps weights stay near the equal ones they start from.",
    "centre: the state that is read on average, 0 for the input. In brackets the standard deviation over folds and "
    "seeds.",
)


def write(
    folder: Path,
    panels: Sequence[Panel],
    corpus: str,
    preset: str,
    command: str,
    machines: Sequence[Mapping[str, Any]],
) -> list[Path]:
    """Write ``layers.md`` and the picture as PNG and SVG; the paths, the page first. ``machines`` are the environments
    of the cells."""
    page = [f"# Which hidden states probes read: {escape(corpus)}, preset {escape(preset)}", ""]
    page += ["Made by", "", f"    {command}", ""]
    page += ["[![Weights of hidden states, a panel for each task](layers.png)](layers.svg)", ""]
    page += [*(f"- {note}" for note in READING), ""]
    if len({panel.task for panel in panels}) < len(panels):
        page += ["Tables of one task were made under different settings; leaderboard.md tells which.", ""]
    for panel in panels:
        page += [f"## {escape(panel.title)}", ""]
        if panel.rows:
            page += _table(panel.rows)
        if panel.single:
            page += [f"- {', '.join(map(escape, panel.single))}: one state, nothing to weigh.", ""]
    page += where_made(machines)
    content = {"layers.md": "\n".join(page).encode(), **picture_files("layers", figure([p for p in panels if p.rows]))}
    for name, written in content.items():
        write_atomically(folder / name, written)
    return [folder / name for name in content]


def _table(rows: Sequence[Weights]) -> list[str]:
    most = max(len(row.mean) for row in rows)
    lines = [["upstream", *_states(most), "centre", "probes"]]
    for row in rows:
        several = row.num_probes > 1
        texts = [f"{m:.2f} ({s:.2f})" if several else f"{m:.2f}" for m, s in zip(row.mean, row.spread, strict=True)]
        lines.append([row.label, *texts, *[""] * (most - len(texts)), f"{row.centre:.2f}", str(row.num_probes)])
    return grid(lines)


def _states(number: int) -> list[str]:
    return ["input", *(f"layer {layer}" for layer in range(1, number))]


def figure(panels: Sequence[Panel]) -> Figure:
    """A heat map for each panel, rows and colours the same in all; grey is what is not there."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row.label for panel in panels for row in panel.rows))
    highest = max(float(row.mean.max()) for panel in panels for row in panel.rows)
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    height = num_rows * (0.45 + LINE * len(labels))
    drawn = Figure(figsize=(WIDTH, height + KEY), dpi=160)
    drawn.set_layout_engine("constrained", h_pad=0.04, w_pad=0.04)
    above, below = drawn.subfigures(2, 1, squeeze=False, height_ratios=[height, KEY])[:, 0]
    axes = above.subplots(num_rows, num_columns, squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place < len(panels):
            image = _heat_map(axis, panels[place], labels, highest, first=place % num_columns == 0)
        else:
            axis.axis("off")
    bar = drawn.colorbar(image, cax=below.add_axes((0.3, 0.72, 0.4, 0.14)), orientation="horizontal")
    bar.set_label("weight of a state (the input, layers 1, 2, ...), mean over folds and seeds", fontsize=POINTS)
    bar.ax.tick_params(labelsize=POINTS, length=2)
    bar.outline.set_linewidth(0.4)
    return drawn


def _heat_map(axis: Axes, panel: Panel, labels: Sequence[str], highest: float, first: bool) -> AxesImage:
    num_states = max(len(row.mean) for row in panel.rows)
    grid = np.full((len(labels), num_states), np.nan)
    for row in panel.rows:
        grid[labels.index(row.label), : len(row.mean)] = row.mean
    image = axis.imshow(grid, cmap="Blues", vmin=0.0, vmax=highest, aspect="auto")
    axis.set_facecolor("0.85")
    few = num_states <= MOST_TEXTS
    for (place, state), weight in np.ndenumerate(grid):
        if few and np.isfinite(weight):
            colour = "white" if weight > 0.6 * highest else "black"
            axis.text(state, place, f"{weight:.2f}", color=colour, fontsize=POINTS, ha="center", va="center")
    axis.set_title(plain(panel.title), fontsize=POINTS + 1, pad=3)
    shown = range(0, num_states, -(-num_states // MOST_TEXTS))
    axis.set_xticks(shown, ["input" if few else "in", *map(str, shown[1:])], fontsize=POINTS)
    axis.set_yticks(range(len(labels)) if first else [])
    if first:
        axis.set_yticklabels(list(map(plain, labels)), fontsize=POINTS)
    axis.tick_params(length=0, pad=2)
    for line in np.arange(0.5, len(labels) - 1):
        axis.axhline(line, color="white", linewidth=0.8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image
