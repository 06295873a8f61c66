"""Learning curves as a picture: masked L1 against steps (left) and against seconds (right), a band over seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .ablation_curves import Ablation, Learner, mean_curve
from .cost_plot import spread
from .names import BASELINE
from .picture_files import picture_files
from .plot import COLOURS, MARKERS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

WIDTH, HEIGHT = 6.9, 2.9  # inches, of one group of rows
LEFT, TOP, BOTTOM = 0.52, 0.32, 0.46  # inches around its panels
LEADER = 0.24  # inches from a panel to its labels
FONT, SMALL = 8.0, 7.0  # points
LINES = ("-", "--", "-.", ":")
WRAPPED_FROM = 16  # letters of a label from which its brackets go below

Style = tuple[str, str, str, float]  # colour, line, marker, width
RC: dict[Any, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
}


def draw(found: Sequence[Ablation]) -> dict[str, bytes]:
    """``ablation.png`` and ``ablation.svg``, the same for the same folder."""
    with rc_context(RC):
        return picture_files("ablation", figure(found))


def figure(found: Sequence[Ablation]) -> Figure:
    """A line of two panels for each group of rows."""
    heights = [max(HEIGHT, TOP + BOTTOM + _label_height(ablation)) for ablation in found]
    drawn = Figure(figsize=(WIDTH, sum(heights)), dpi=200)
    renderer = FigureCanvasAgg(drawn).get_renderer()
    top = sum(heights)
    for ablation, height in zip(found, heights, strict=True):
        learners = [learner for learner in ablation.learners if learner.valid]
        styles = dict(zip((id(learner) for learner in learners), _styles(learners), strict=False))
        labels_width = (
            max(_text_width(drawn, _wrapped(learner.label), renderer) for learner in learners) + LEADER + 0.06
        )
        width = (WIDTH - LEFT - 2 * labels_width - 0.1) / 2
        places = (LEFT, LEFT + width + labels_width + 0.1)
        axes = []
        for left in places:
            box = (left / WIDTH, (top - height + BOTTOM) / sum(heights), width / WIDTH)
            axes.append(drawn.add_axes((*box, (height - TOP - BOTTOM) / sum(heights))))
        timed = [learner for learner in learners if learner.step_s is not None]
        _panel(axes[0], learners, styles, None)
        _panel(axes[1], timed, styles, {id(learner): learner.step_s or 0.0 for learner in timed})
        axes[0].set_title(f"{ablation.corpus}, preset {ablation.preset}", loc="left")
        axes[0].set_ylabel("masked L1, validation")
        axes[0].set_xlabel("training steps")
        axes[1].set_xlabel("seconds (steps x step of the timing lane)")
        low, high = _limits(learners)
        for axis, shown in zip(axes, (learners, timed), strict=True):
            axis.set_ylim(low, high)
            _end_of_baseline(axis, ablation)
            _label_ends(axis, shown, styles, axis is axes[1])
        axes[1].tick_params(labelleft=False)
        top -= height
    return drawn


def _styles(learners: Sequence[Learner]) -> list[Style]:
    """The baseline thick and black; the others, by name, with colours, and with other lines once these are used up."""
    looks = itertools.cycle(
        [(colour, LINES[turn], MARKERS[(place + turn) % len(MARKERS)], 1.2)
         for turn in range(len(LINES)) for place, colour in enumerate(COLOURS)]
    )  # fmt: skip
    others = sorted({learner.label for learner in learners if learner.upstream != BASELINE})
    known = dict(zip(others, looks, strict=False))
    return [known.get(learner.label, ("black", "-", "o", 1.8)) for learner in learners]


def _panel(
    axis: Axes, learners: Sequence[Learner], styles: Mapping[int, Style], step_s: Mapping[int, float] | None
) -> None:
    """Curves against steps, or against these times ``step_s``."""
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    for learner in learners:
        colour, line, marker, width = styles[id(learner)]
        mean = mean_curve(learner.valid)
        x = np.array(mean.steps) * (1.0 if step_s is None else step_s[id(learner)])
        seeds = np.array([[dict(zip(c.steps, c.losses, strict=True))[step] for step in mean.steps]
                          for c in learner.valid.values()])  # fmt: skip
        axis.fill_between(x, seeds.min(0), seeds.max(0), color=colour, alpha=0.18, linewidth=0, zorder=2)
        axis.plot(x, mean.losses, line, color=colour, linewidth=width, marker=marker, markersize=3,
                  markeredgecolor="white", markeredgewidth=0.4, zorder=3, label=learner.label)  # fmt: skip
    axis.set_xlim(left=0)
    if not learners:
        axis.text(0.5, 0.5, "no row was timed", ha="center", va="center", transform=axis.transAxes)


def _limits(learners: Sequence[Learner]) -> tuple[float, float]:
    """Both panels have the same heights."""
    losses = [loss for learner in learners for curve in learner.valid.values() for loss in curve.losses]
    margin = 0.06 * (max(losses) - min(losses)) or 0.05
    return min(losses) - margin, max(losses) + margin


def _end_of_baseline(axis: Axes, ablation: Ablation) -> None:
    if ablation.baseline is not None:
        end = mean_curve(ablation.baseline.valid).losses[-1]
        axis.axhline(end, color="black", linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)


def _label_ends(axis: Axes, learners: Sequence[Learner], styles: Mapping[int, Style], by_time: bool) -> None:
    """Each row's name right of the panel near the height of its last loss, with a thin line from there."""
    figure = axis.figure
    assert isinstance(figure, Figure)
    box = axis.get_position()
    inches = (box.width * figure.get_figwidth(), box.height * figure.get_figheight())
    gap = _row_height(learners) / inches[1]
    ends = []
    for learner in learners:
        mean = mean_curve(learner.valid)
        x = mean.steps[-1] * ((learner.step_s or 0.0) if by_time else 1.0)
        ends.append(axis.transAxes.inverted().transform(axis.transData.transform((x, mean.losses[-1]))))
    heights = spread([float(y) for _, y in ends], gap, 0.0, 1.0) if ends else []
    bend, mark, reach = (1 + share * LEADER / inches[0] for share in (0.55, 0.75, 1.0))
    for learner, (x, y), height in zip(learners, ends, heights, strict=True):
        colour, _, marker, _ = styles[id(learner)]
        axis.plot([x, 1.0], [y, y], ":", transform=axis.transAxes, color=colour, linewidth=0.6, zorder=1)
        axis.plot([1.0, bend, mark], [y, height, height], transform=axis.transAxes, color=colour, linewidth=0.6,
                  clip_on=False, zorder=1)  # fmt: skip
        axis.plot([mark], [height], transform=axis.transAxes, color=colour, marker=marker, markersize=3.5,
                  markeredgewidth=0, clip_on=False)  # fmt: skip
        text = _wrapped(learner.label)
        axis.text(reach, height, text, transform=axis.transAxes, va="center", fontsize=SMALL, color="0.1",
                  linespacing=0.95)  # fmt: skip


def _wrapped(label: str) -> str:
    """A label as it is drawn, a long one on two lines."""
    label = plain(label)
    for divider in (" (", "["):
        name, found, rest = label.partition(divider)
        if len(label) > WRAPPED_FROM and found:
            return f"{name}\n{divider.strip()}{rest}"
    return label


def _row_height(learners: Sequence[Learner]) -> float:
    """Inches of the tallest label, with the gap to the next."""
    lines = max((_wrapped(learner.label).count("\n") + 1 for learner in learners), default=1)
    return (lines + 0.35) * SMALL / 72


def _label_height(ablation: Ablation) -> float:
    learners = [learner for learner in ablation.learners if learner.valid]
    return len(learners) * _row_height(learners)


def _text_width(drawn: Figure, text: str, renderer: RendererBase) -> float:
    """Inches of a label."""
    drawn_text = drawn.text(0, 0, text, fontsize=SMALL)
    width = drawn_text.get_window_extent(renderer).width / drawn.dpi
    drawn_text.remove()
    return width
