"""Pictures of attention maps: galleries with the case of every head, projections, and how far maps hang on the input.

Legend: P places (layers), H heads, T frames, maps with queries from top to bottom and keys from left to right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..picture_files import picture_files
from ..plot import COLOURS, MARKERS
from ..result_files import write_atomically
from .cases import CASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, COLUMN_IN = 6.9, 3.35  # of a page, and of one of its two columns
DPI = 200
COLOUR_OF = dict(zip(CASES, COLOURS, strict=False))
FEWEST_ACROSS, MOST_ACROSS = 5, 8  # places for maps side by side
BRIGHTEST = 99.5  # percentile of a map's attention that is as dark as can be
EVEN_GREY = 0.5  # at most how dark an even map is, as a share of black
SMALL, NORMAL = 6.5, 7.5  # font sizes in points


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as ``name.png`` and ``name.svg``, each whole or not at all."""
    files = picture_files(name, figure)
    for file, content in files.items():
        write_atomically(folder / file, content)
    return [folder / file for file in files]


def gallery(maps: Tensor, table: Sequence[Mapping[str, Any]]) -> Figure:
    """The maps (P, H, T, T), a row of panels for each layer, framed in the colour of their case."""
    from matplotlib.figure import Figure

    num_places, num_heads = maps.shape[:2]
    across = min(max(num_heads, FEWEST_ACROSS), MOST_ACROSS)
    rows_of_layer = -(-num_heads // across)
    size = WIDTH_IN / (across + 0.4)
    rows = num_places * rows_of_layer
    drawn = Figure(figsize=(WIDTH_IN, rows * (size + 0.22) + 0.35), dpi=DPI)
    drawn.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.02, wspace=0.02)
    axes = drawn.subplots(rows, across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    layers = sorted({row["layer"] for row in table})
    for row in table:
        place = layers.index(row["layer"])
        number = row["head"] - 1
        axis = axes[place * rows_of_layer + number // across, number % across]
        axis.set_axis_on()
        show(axis, maps[place, number], COLOUR_OF[row["case"]])
        axis.set_title(f"{row['head']}  {row['detail']}", fontsize=SMALL, pad=2, color=COLOUR_OF[row["case"]])
        if number == 0:
            axis.set_ylabel(f"layer {row['layer']}", fontsize=NORMAL)
    _legend(drawn, table)
    return drawn


def before_and_after(
    before: Tensor, after: Tensor, told: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]]
) -> Figure:
    """Maps (P, H, T, T) at the start above the same heads' maps after training, layer by layer."""
    both = [map for place in range(len(after)) for map in (before[place], after[place])]
    drawn = gallery(torch.stack(both), _interleaved(told, trained))
    layers = sorted({row["layer"] for row in trained})
    labels = [f"layer {layer}\n{when}" for layer in layers for when in ("start", "trained")]
    shown = [axis for axis in drawn.axes if axis.get_ylabel()]
    for axis, label in zip(shown, labels, strict=True):
        axis.set_ylabel(label, fontsize=SMALL)
    return drawn


def _interleaved(told: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    layers = sorted({row["layer"] for row in trained})
    return [
        {**row, "layer": 2 * layers.index(row["layer"]) + late}
        for late, rows in enumerate((told, trained))
        for row in rows
    ]


def show(axis: Axes, attention: Tensor, colour: str) -> None:
    """One map, square-root scaled so that faint structure shows, in a frame of this colour; an even one is grey."""
    values = np.sqrt(attention.double().cpu().numpy())
    darkest = max(np.percentile(values, BRIGHTEST), len(values) ** -0.5 / EVEN_GREY)
    axis.imshow(values, cmap="Greys", vmin=0, vmax=darkest, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linewidth=1.6)


def projections(projected: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> Figure | None:
    """PCA and t-SNE of the maps, a row of panels for each set, colour by case and marker by layer; the third panel has
    the silhouettes. None when no set could be projected."""
    from matplotlib.figure import Figure

    sets = {name: found for name, found in projected.items() if "pca" in found}
    if not sets:
        return None
    drawn = Figure(figsize=(WIDTH_IN, 2.35 * len(sets) + 0.3), dpi=DPI)
    drawn.set_layout_engine("constrained", h_pad=0.04, w_pad=0.04)
    axes = drawn.subplots(len(sets), 3, squeeze=False)
    for (left, middle, right), (name, found) in zip(axes, sets.items(), strict=True):
        for axis, kind in ((left, "pca"), (middle, "tsne")):
            _scatter(axis, np.array(found[kind]), [table[row] for row in found["head"]])
        shares = [f"{100 * share:.0f} %" for share in found["explained"][:2]]
        left.set_xlabel(f"component 1 ({shares[0]} of variance)", fontsize=NORMAL)
        left.set_ylabel(f"component 2 ({shares[1]})" if len(shares) > 1 else "", fontsize=NORMAL)
        left.set_title(f"PCA, {name}", fontsize=NORMAL)
        middle.set_title(f"t-SNE, {name}", fontsize=NORMAL)
        _silhouettes(right, found["silhouettes"])
    _legend(drawn, table, sorted({row["layer"] for row in table}))
    return drawn


def _scatter(axis: Axes, points: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
    for case in CASES:
        for layer in sorted({row["layer"] for row in rows}):
            mine = [index for index, row in enumerate(rows) if (row["case"], row["layer"]) == (case, layer)]
            marker = MARKERS[(layer - 1) % len(MARKERS)]
            size = 22 if len(rows) < 100 else 9
            axis.scatter(
                points[mine, 0], points[mine, 1], size, COLOUR_OF[case], marker=marker, alpha=0.8, edgecolors="white",
                linewidths=0.3,
            )  # fmt: skip
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[["top", "right"]].set_visible(False)


def _silhouettes(axis: Axes, scores: Mapping[str, float]) -> None:
    counts = sorted(map(int, scores))
    heights = [scores[str(count)] for count in counts]
    colours = [COLOURS[1] if count == len(CASES) else "0.65" for count in counts]
    axis.bar(counts, heights, color=colours, width=0.7)
    axis.set_xticks(counts)
    axis.set_xlabel("k-means clusters", fontsize=NORMAL)
    axis.set_title("mean silhouette", fontsize=NORMAL)
    axis.tick_params(labelsize=SMALL)
    axis.spines[["top", "right"]].set_visible(False)


def dependence(table: Sequence[Mapping[str, Any]]) -> Figure:
    """How much of each head's attention is the same in every crop, layer by layer; a head is a dot."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(COLUMN_IN, 2.5), dpi=DPI)
    drawn.set_layout_engine("constrained")
    axis = drawn.subplots()
    layers = sorted({row["layer"] for row in table})
    for layer in layers:
        rows = sorted((row for row in table if row["layer"] == layer), key=lambda row: row["head"])
        for number, row in enumerate(rows):
            if row["explained"] is not None:
                x = layer + 0.5 * ((number + 0.5) / len(rows) - 0.5)
                axis.plot(x, 100 * row["explained"], "o", color=COLOUR_OF[row["case"]], markersize=4.5, zorder=3)
        known = [100 * row["explained"] for row in rows if row["explained"] is not None]
        if known:
            axis.plot([layer - 0.3, layer + 0.3], [np.mean(known)] * 2, color="black", linewidth=1.2, zorder=2)
    axis.set_xticks(layers)
    axis.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    axis.set_ylim(-3, 103)
    axis.set_xlabel("layer (bar: mean of its heads)", fontsize=NORMAL)
    axis.set_ylabel("explained by the mean map, %", fontsize=NORMAL)
    axis.tick_params(labelsize=SMALL)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    _legend(drawn, table)
    return drawn


def _legend(drawn: Figure, table: Sequence[Mapping[str, Any]], layers: Sequence[int] = ()) -> None:
    """The cases that the heads of a table have, and the markers of layers."""
    from matplotlib.lines import Line2D

    present = {row["case"] for row in table}
    cases = [case for case in CASES if case in present]
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=5, color=COLOUR_OF[case], label=case) for case in cases
    ]
    handles += [
        Line2D([], [], linestyle="", marker=MARKERS[(layer - 1) % len(MARKERS)], markersize=4, color="0.3",
               label=f"layer {layer}")
        for layer in layers
    ]  # fmt: skip
    columns = 2 if drawn.get_figwidth() < WIDTH_IN / 1.5 else len(handles)
    drawn.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False,
                 handletextpad=0.2, columnspacing=1.2)  # fmt: skip
