"""The page about layer weights: a heat map for each task, and the numbers in tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..pages import escape
from ..result_files import write_atomically
from .layers import Panel, Weights
from .picture import POINTS, WIDTH, files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLUMNS = 3  # panels side by side
MOST_TEXTS = 6  # states up to which a panel has room for numbers
LINE = 0.17  # inches of an upstream
READING = (
    "Weights of a probe sum to 1. Before the sum each dimension of each state is brought to mean 0 and variance 1 on "
    "train, so that the size of a state decides nothing.",
    "A weight tells what the head made use of, not what a state holds: of two states that say the same, either may get "
    "it, and with few steps weights stay near the equal ones they start from.",
    "centre: the state that is read on average, 0 for the input. In brackets the standard deviation over folds and "
    "seeds.",
)


def write(folder: Path, panels: Sequence[Panel], corpus: str, preset: str, command: str) -> list[Path]:
    """Write ``layers.md`` and the picture as PNG and SVG; the paths, the page first."""
    page = [f"# Which hidden states probes read: {escape(corpus)}, preset {escape(preset)}", ""]
    page += ["Made by", "", f"    {command}", ""]
    page += ["[![Weights of hidden states, a panel for each task](layers.png)](layers.svg)", ""]
    page += [*(f"- {note}" for note in READING), ""]
    for panel in panels:
        page += [f"## {escape(panel.title)}", ""]
        if panel.rows:
            page += _table(panel.rows)
        if panel.single:
            page += [f"- {', '.join(map(escape, panel.single))}: one state, nothing to weigh.", ""]
    content = {"layers.md": "\n".join(page).encode(), **files("layers", figure([p for p in panels if p.rows]))}
    for name, written in content.items():
        write_atomically(folder / name, written)
    return [folder / name for name in content]


def _table(rows: Sequence[Weights]) -> list[str]:
    most = max(len(row.mean) for row in rows)
    header = ["upstream", *_states(most), "centre", "probes"]
    lines = [header]
    for row in rows:
        several = row.num_probes > 1
        texts = [f"{m:.2f} ({s:.2f})" if several else f"{m:.2f}" for m, s in zip(row.mean, row.spread, strict=True)]
        lines.append([row.label, *texts, *[""] * (most - len(texts)), f"{row.centre:.2f}", str(row.num_probes)])
    first, *others = (f"| {' | '.join(map(escape, line))} |" for line in lines)
    return [first, "| --- |" + " ---: |" * (len(header) - 1), *others, ""]


def _states(number: int) -> list[str]:
    return ["input", *(f"layer {layer}" for layer in range(1, number))]


def figure(panels: Sequence[Panel]) -> Figure:
    """A heat map for each panel, rows and colours the same in all; what a panel does not have stays white."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row.label for panel in panels for row in panel.rows))
    highest = max(float(row.mean.max()) for panel in panels for row in panel.rows)
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    drawn = Figure(figsize=(WIDTH, 0.55 + num_rows * (0.5 + LINE * len(labels))), dpi=160)
    drawn.set_layout_engine("constrained", h_pad=0.04, w_pad=0.04)
    axes = drawn.subplots(num_rows, num_columns, squeeze=False)
    image = None
    for place, axis in enumerate(axes.flat):
        if place < len(panels):
            image = _heat_map(axis, panels[place], labels, highest, first=place % num_columns == 0)
        else:
            axis.axis("off")
    assert image is not None, "a figure needs a panel"
    bar = drawn.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label("weight of a state (input, layers 1, 2, ...), mean over folds and seeds", fontsize=POINTS)
    bar.ax.tick_params(labelsize=POINTS, length=2)
    bar.outline.set_linewidth(0.4)
    return drawn


def _heat_map(axis: Axes, panel: Panel, labels: Sequence[str], highest: float, first: bool) -> AxesImage:
    num_states = max(len(row.mean) for row in panel.rows)
    grid = np.full((len(labels), num_states), np.nan)
    for row in panel.rows:
        grid[labels.index(row.label), : len(row.mean)] = row.mean
    image = axis.imshow(grid, cmap="cividis", vmin=0.0, vmax=highest, aspect="auto")
    if num_states <= MOST_TEXTS:
        for (place, state), weight in np.ndenumerate(grid):
            if np.isfinite(weight):
                colour = "black" if weight > 0.5 * highest else "white"
                axis.text(state, place, f"{weight:.2f}", color=colour, fontsize=POINTS, ha="center", va="center")
    axis.set_title(panel.title, fontsize=POINTS + 1, pad=3)
    axis.set_xticks(range(num_states), ["input", *map(str, range(1, num_states))], fontsize=POINTS)
    axis.set_yticks(range(len(labels)) if first else [])
    if first:
        axis.set_yticklabels([label.replace("$", r"\$") for label in labels], fontsize=POINTS)
    axis.tick_params(length=0, pad=2)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image
