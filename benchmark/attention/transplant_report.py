"""What replacing attention maps costs, as files: transplant.json, a page, and a picture of layers by heads."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..columns import no_minus_zero
from ..pages import escape, grid, where_made
from ..result_files import write_atomically
from .pictures import COLUMN_IN, NORMAL, SMALL, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"mean": "mean map", "uniform": "uniform", "identity": "identity"}  # key in the file -> as a table says it
ROW_HEIGHT = 0.19  # inches of a layer


def write_report(folder: Path, found: Mapping[str, Any]) -> list[Path]:
    """Write transplant.json, transplant.md and the picture, transplant.svg and transplant.png; returns their paths."""
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    contents = {"transplant.json": text, "transplant.md": markdown(found)}
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return [*(folder / name for name in contents), *save(figure(found), folder, "transplant")]


def markdown(found: Mapping[str, Any]) -> str:
    """The page."""
    loss = found["loss"]
    preset, seed = (found[key] if found[key] is not None else "unknown" for key in ("preset", "seed"))
    page = [f"# {escape(found['title'])} with other maps in place of its own", "", "Made by", ""]
    page += [f"    {found['command']}", ""]
    synthetic = ", synthetic data" if found["synthetic"] else ""
    page += [
        f"`{found['upstream']}` pre-trained on {escape(found['corpus'])}{synthetic}, preset {preset}, seed {seed}: "
        f"{found['num_layers']} layers of {found['num_heads']} heads.",
        "",
        f"The maps of heads are replaced in the trained upstream and nothing is trained after. *Loss* is that of "
        f"pre-training, masked L1 on {found['valid_frames']:,} masked frames of {found['valid_utterances']} held-out "
        f"utterances, the same masks each time; before: **{loss['before']:.4f}**. *Mean map*: the head's mean over "
        f"{found['map_utterances']} training utterances. *Uniform*: every frame equally. *Identity*: each frame "
        f"itself. In brackets a 95 % interval by bootstrap over the held-out utterances, of each number by itself: of "
        f"many such intervals some miss.",
        "",
        "![How much the loss rises, by layer and head](transplant.png)",
        "",
        *(f"- {line}" for line in reading(found)),
        *(f"- {escape(note)}" for note in found["notes"]),
        "",
        "## All heads, and those of one layer",
        "",
    ]
    layers = [(f"layer {line['layer']}", line) for line in loss["layers"]]
    page += _table(["replaced"], [([name], line) for name, line in [("all heads", loss["all"]), *layers]], KINDS)
    heads = [([str(line["layer"]), str(line["head"])], line) for line in loss["heads"]]
    page += ["## One head", "", *_table(["layer", "head"], heads, ["mean"])]
    return "\n".join([*page, *where_made([found["environment"]])])


def reading(found: Mapping[str, Any]) -> list[str]:
    """What the numbers say, in sentences."""
    loss = found["loss"]
    every = loss["all"]
    told = ", ".join(f"{name} {_interval(every['rises'][kind])}" for kind, name in KINDS.items())
    layer = max(loss["layers"], key=lambda line: line["rises"]["mean"][0])
    head = max(loss["heads"], key=lambda line: line["rises"]["mean"][0])
    lost = sum(line["rises"]["mean"][1] > 0 for line in loss["heads"])
    better = sum(line["less"]["uniform"][1] > 0 for line in loss["heads"])
    return [
        f"All heads at once: {told}; the mean maps cost {100 * every['rises']['mean'][0] / loss['before']:.1f} % of "
        f"the loss. Uniform minus mean map: {_interval(every['less']['uniform'])}.",
        f"By layer the mean maps cost most in layer {layer['layer']}, {_interval(layer['rises']['mean'])}; of "
        f"single heads in layer {head['layer']}, head {head['head']}, {_interval(head['rises']['mean'])}.",
        f"Of {len(loss['heads'])} heads, {lost} lose something with their mean map by an interval above 0, and for "
        f"{better} it is better than a uniform map by such an interval.",
    ]


def _table(titles: Sequence[str], lines: Sequence[tuple[list[str], Any]], intervals: Collection[str]) -> list[str]:
    """A markdown table of how much the loss rises for each kind of map, with the intervals of some kinds."""
    shown = [*titles, *(f"{name}, loss rises by" for name in KINDS.values()), "uniform minus mean map"]
    rows = [
        [
            *names,
            *(
                _interval(line["rises"][kind]) if kind in intervals else _signed(line["rises"][kind][0])
                for kind in KINDS
            ),
            _interval(line["less"]["uniform"]),
        ]
        for names, line in lines
    ]
    return grid([shown, *rows])


def _interval(value: Sequence[float]) -> str:
    return "{} ({} to {})".format(*map(_signed, value))


def _signed(value: float) -> str:
    return no_minus_zero(f"{value:+.4f}")


def figure(found: Mapping[str, Any]) -> "Figure":
    """A panel for each kind of map, layers by heads, with a column for all heads of a layer. Numbers are thousandths,
    bold where their interval leaves out 0."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num_layers, num_heads = found["num_layers"], found["num_heads"]
    loss = found["loss"]
    grids = {kind: 1000 * _grid(loss, kind, num_layers, num_heads) for kind in KINDS}  # (layers, heads + 2, 3)
    largest = max(1e-3, *(float(np.nanmax(grid[..., 0])) for grid in grids.values()))
    scale = PowerNorm(0.5, vmin=0, vmax=largest, clip=True)  # the root tells single heads apart beside whole layers
    panel = num_layers * ROW_HEIGHT + 0.36
    drawn = Figure(figsize=(COLUMN_IN, len(KINDS) * panel + 0.87))
    drawn.set_layout_engine("constrained", h_pad=0.03, w_pad=0.04)
    axes = drawn.subplots(len(KINDS), 1, sharex=True)
    for axis, (kind, name) in zip(axes, KINDS.items(), strict=True):
        shown = axis.imshow(grids[kind][..., 0], cmap="Blues", norm=scale, aspect="auto")
        axis.set_title(f"{name}; all at once {_short(1000 * loss['all']['rises'][kind][0])}", fontsize=8, pad=3)
        axis.set_yticks(range(num_layers), [str(layer + 1) for layer in range(num_layers)])
        axis.tick_params(length=0, pad=2, labelsize=NORMAL)
        axis.spines[:].set_visible(False)
        for layer in range(num_layers):
            for column, (value, low, high) in enumerate(grids[kind][layer]):
                if np.isfinite(value):
                    text = axis.text(column, layer, _short(value), ha="center", va="center")
                    text.set(
                        fontsize=SMALL if num_heads <= 8 else SMALL - 1,
                        weight="bold" if low > 0 or high < 0 else "normal",
                    )
                    text.set_color("white" if float(scale(value)) > 0.55 else "black")
    axes[-1].set_xticks([*range(num_heads), num_heads + 1], [*(str(head + 1) for head in range(num_heads)), "all"])
    axes[-1].set_xlabel("head", labelpad=1, fontsize=NORMAL)
    axes[len(KINDS) // 2].set_ylabel("layer", labelpad=1, fontsize=NORMAL)
    ticks = [
        tick
        for tick in (0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
        if tick <= largest and (tick == 0 or tick >= largest / 100)
    ]
    bar = drawn.colorbar(shown, ax=axes, location="bottom", aspect=40, pad=0.02, ticks=ticks)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.set_label(
        f"loss rises from {loss['before']:.3f} by thousandths\nbold: its 95 % interval leaves out 0", fontsize=NORMAL
    )
    bar.ax.tick_params(labelsize=NORMAL)
    bar.outline.set_visible(False)
    return drawn


def _grid(loss: Mapping[str, Any], kind: str, num_layers: int, num_heads: int) -> np.ndarray:
    """How much the loss rises, with its interval, (layers, heads + 2, 3): an empty column between heads and all."""
    grid = np.full((num_layers, num_heads + 2, 3), np.nan)
    for line in loss["heads"]:
        grid[line["layer"] - 1, line["head"] - 1] = line["rises"][kind]
    for line in loss["layers"]:
        grid[line["layer"] - 1, -1] = line["rises"][kind]
    return grid


def _short(value: float) -> str:
    """A number of at most three digits where it can be."""
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return "0" if text in ("0.0", "-0.0") else text
