"""The complexity audit in the page, where the result folder has one: its summary, and cost against length."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..cost_case import ATTENTION, LAYER
from ..cost_file import read_audit
from ..cost_plot import BASELINE_COLOUR, LINES, Line, lines, median_ms, median_ratio
from ..cost_report import commands, failures, meaning, setting, summary
from ..plot import COLOURS, MARKERS
from .axes import horizontal, vertical
from .line_plot import Curve, Entry, LinePlot, names, path
from .styles import DASHES, Style

FOLDER = "cost"  # below the result folder, where README has it written to
COLOUR_CLASSES = (*COLOURS, "0.5", "#8C564B", "#7F7F00", BASELINE_COLOUR)  # what cost_plot gives to families


@dataclass(frozen=True)
class Audit:
    """What the template shows."""

    commands: list[str]
    setting: list[str]
    summary: list[list[str]]
    meaning: list[tuple[str, str]]
    failures: list[str]
    plots: list[LinePlot]
    legend: list[Entry]


def find_audit(out: Path) -> Audit | None:
    """The audit in ``out``, None without one; ValueError when it cannot be read."""
    file = out / FOLDER / "cost.json"
    return _read(file.parent, file.stat().st_mtime_ns) if file.is_file() else None


@lru_cache(maxsize=1)
def _read(folder: Path, changed_ns: int) -> Audit:
    """The same file need not be worked out again when a run refreshes its page."""
    del changed_ns
    audit = read_audit(folder)
    titles = (f"Attention alone, forward, {_sizes(audit)}", f"One layer, forward, as a ratio to {audit['baseline']}")
    times, ratios = lines(audit, ATTENTION, median_ms), lines(audit, LAYER, median_ratio)
    last = {line.row: line for line in ratios}
    ordered = sorted(last, key=lambda row: (last[row].values[-1], row))
    return Audit(
        commands=commands(audit),
        setting=setting(audit),
        summary=summary(audit),
        meaning=meaning(audit),
        failures=failures(audit),
        plots=[
            *_plot(titles[0], "milliseconds, median", times, lambda value: f"{value:.3g} ms"),
            *_plot(titles[1], "ratio, median", ratios, lambda value: f"{value:.2f} times", level=1.0),
        ],
        legend=[
            Entry(row, _style(last[row]), f"{last[row].values[-1]:.2f} at {last[row].lengths[-1]:,}") for row in ordered
        ],
    )


def _sizes(audit: dict[str, Any]) -> str:
    settings = audit["settings"]
    return f"D {settings['hidden_dim']}, {settings['num_heads']} heads, {settings['threads']} threads"


def _plot(
    title: str, y_label: str, shown: list[Line], told: Callable[[float], str], level: float | None = None
) -> list[LinePlot]:
    """One picture; none without a line."""
    if not shown:
        return []
    lengths = sorted({n for line in shown for n in line.lengths})
    values = [value for line in shown for value in line.values] + ([] if level is None else [level])
    x_axis = horizontal(lengths[0] / 1.1, lengths[-1] * 1.1, logarithmic=True)
    y_axis = vertical(min(values) / 1.2, max(values) * 1.2, logarithmic=True)
    places = {
        line.row: [(x_axis(n), y_axis(v)) for n, v in zip(line.lengths, line.values, strict=True)] for line in shown
    }
    labels = names(places, places.values())
    return [
        LinePlot(
            title=title,
            x_label="length n, stacked frames, logarithmic",
            y_label=f"{y_label}, logarithmic",
            x_ticks=x_axis.ticks(),
            y_ticks=y_axis.ticks(),
            curves=[
                Curve(
                    label=line.row,
                    tip="; ".join(f"{told(v)} at {n:,}" for n, v in zip(line.lengths, line.values, strict=True)),
                    style=_style(line),
                    path=path(places[line.row]),
                    dots=places[line.row],
                    name=labels.get(line.row),
                )
                for line in shown
            ],
            level=None if level is None else y_axis(level),
        )
    ]


def _style(line: Line) -> Style:
    """The colour of the family, as in the audit's own picture; dashed like it."""
    turn = MARKERS.index(line.marker)
    dash = DASHES[turn % len(DASHES)] if line.style == LINES[0] else DASHES[(turn + 2) % len(DASHES)]
    return Style(COLOUR_CLASSES.index(line.colour), "", dash)
