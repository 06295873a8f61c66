"""A set of attention maps as a picture: a row for each layer, a map for each head."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 6.9  # inches: both columns of a paper
PER_LINE = 8  # maps beside one another; more heads of a layer go on in the next line


def draw(maps: Tensor, titles: Sequence[Sequence[str]], name: str) -> dict[str, bytes]:
    """``.png`` and ``.svg`` of maps (L, H, N, N) under their titles. Layers that are all the same are drawn once."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    png, svg = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 7}):
        drawn = figure(maps, titles)
        FigureCanvasAgg(drawn).print_png(png)
        FigureCanvasSVG(drawn).print_svg(svg, metadata={"Date": None})
    return {".png": png.getvalue(), ".svg": svg.getvalue()}


def figure(maps: Tensor, titles: Sequence[Sequence[str]]) -> "Figure":
    """Dark is much attention, on a scale of each map's own; queries run down, keys to the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    shown = maps[:1] if all(list(row) == list(titles[0]) for row in titles) and len(maps) > 1 else maps
    num_layers, num_heads = shown.shape[:2]
    lines = -(-num_heads // PER_LINE)
    columns = min(num_heads, PER_LINE)
    drawn = Figure(figsize=(WIDTH * columns / PER_LINE, num_layers * lines * (WIDTH / PER_LINE + 0.22)), dpi=200)
    FigureCanvasAgg(drawn)
    drawn.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
    axes = drawn.subplots(num_layers * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for (layer, head), title in np.ndenumerate(np.array(titles, dtype=object)[:num_layers]):
        axis = axes[layer * lines + head // PER_LINE, head % PER_LINE]
        one = shown[layer, head].numpy()
        # up to a high quantile: a single bright place must not hide the rest
        scale = PowerNorm(0.5, vmin=0, vmax=max(float(np.quantile(one, 0.998)), 1e-9), clip=True)
        axis.axis("on")
        axis.imshow(one, cmap="Blues", norm=scale, interpolation="antialiased")
        axis.set_title(title, fontsize=7, pad=2)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set(linewidth=0.4, color="0.6")
        if head % PER_LINE == 0 and len(shown) > 1:
            axis.set_ylabel(f"layer {layer + 1}" if head == 0 else "", fontsize=7, labelpad=2)
    return drawn
