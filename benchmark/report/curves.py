"""Learning curves: masked L1 against steps and against seconds, from the logs of pre-training that the cells name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...recipes.run_files import read_log
from ..columns import number
from ..durations import told
from ..facts import join
from ..pages import differing
from ..plain import flat, text
from ..rows import Row
from .axes import Axis, horizontal, vertical, widened
from .line_plot import Curve, Entry, LinePlot, names, path
from .styles import Style

MOST_POINTS = 120  # of a curve; more are averaged, neighbours together
AXES = {"step": ("Against steps", "steps"), "elapsed_s": ("Against time", "seconds of pre-training, as it was")}
SLOWEST = 3.0  # times as long as the fastest run, from which time is logarithmic
SECTIONS = ("model", "pretrain")  # of the configuration, in which the curves of a picture agree

Log = list[dict[str, float]]
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Run:
    """One pre-training: the row and seed it is of, where its log is, and what it ended with."""

    label: str
    seed: int
    log: str
    steps: int
    valid_loss: float
    seconds: float

    @property
    def ended(self) -> str:
        """With what loss, after how long."""
        return f"{number(self.valid_loss)} after {told(self.seconds)}"


@dataclass(frozen=True)
class Group:
    """The runs that were pre-trained in the same way on the same data: two pictures and a legend, best loss first.

    ``apart`` tells in what others with the same title differ; ``averaged`` that neighbouring lines of a log are one
    point; ``missing`` the logs that could not be read.
    """

    title: str
    apart: str
    plots: list[LinePlot]
    legend: list[Entry]
    averaged: bool
    missing: list[str]


def groups(rows: Sequence[Row], out: Path, styles: Mapping[str, Style]) -> list[Group]:
    """One for each corpus, preset and way of pre-training that the rows tell of."""
    runs: dict[str, dict[str, Run]] = {}
    settings: dict[str, dict[str, object]] = {}
    titles: dict[str, str] = {}
    for row, cell in ((own, cell) for own in rows for cell in own.cells if cell["pretrain"]):
        shared = _shared(cell)
        key = text([row.corpus, row.preset, shared])
        settings[key], titles[key] = shared, f"{row.corpus}, preset {row.preset}"
        done = cell["pretrain"]
        run = Run(row.label, cell["cell"]["seed"], done["log"], done["steps"], done["valid_loss"], done["seconds"])
        runs.setdefault(key, {}).setdefault(run.log, run)
    found = []
    for key, own in runs.items():
        alike = [settings[other] for other in runs if titles[other] == titles[key]]
        found.append(_group(titles[key], differing(settings[key], alike), list(own.values()), out, styles))
    return found


def _shared(cell: Mapping) -> dict[str, object]:
    """What a pre-training has in common with those it is shown beside."""
    data = ((cell["data"] or {}).get("pretraining") or {}).get("fingerprint")
    return flat({"data.fingerprint": data, **{name: (cell["config"] or {}).get(name) or {} for name in SECTIONS}})


def _group(title: str, apart: str, runs: Sequence[Run], out: Path, styles: Mapping[str, Style]) -> Group:
    runs = sorted(runs, key=lambda run: run.valid_loss)
    logs = {run: _log(out / run.log) for run in runs}
    kept = {run: lines for run, lines in logs.items() if lines}
    labels = dict.fromkeys(run.label for run in runs)
    return Group(
        title=title,
        apart=apart,
        plots=[_plot(kept, key, styles) for key in AXES] if kept else [],
        legend=[Entry(name, styles[name], join(run.ended for run in runs if run.label == name)) for name in labels],
        averaged=any(len(lines) > MOST_POINTS for lines in kept.values()),
        missing=[f"{run.label}, seed {run.seed} ({run.log})" for run in runs if run not in kept],
    )


def _log(path: Path) -> Log:
    """The lines of a log; none where it cannot be used."""
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else []


@lru_cache(maxsize=1024)
def _read(path: Path, changed_ns: int) -> Log:
    """Finished logs need not be read again when a run refreshes its page."""
    del changed_ns
    try:
        lines = read_log(path)
        numbers = [[line[key] for key in ("loss", *AXES)] for line in lines]
        numbers += [[line["valid_loss"]] * 3 for line in lines if "valid_loss" in line]
        return lines if np.isfinite(np.array(numbers, float)).all() else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _plot(logs: Mapping[Run, Log], key: str, styles: Mapping[str, Style]) -> LinePlot:
    averaged = {run: _averaged(lines, key) for run, lines in logs.items()}
    held_out = {run: [line for line in lines if "valid_loss" in line] for run, lines in logs.items()}
    losses = [loss for _, line in averaged.values() for loss in line]
    losses += [line["valid_loss"] for lines in held_out.values() for line in lines]
    x_axis, y_axis = _x_axis(list(averaged.values()), key), vertical(*widened(min(losses), max(losses)))
    places = {run: _places(x_axis, y_axis, x, y) for run, (x, y) in averaged.items()}
    dots = {
        run: _places(x_axis, y_axis, *([line[name] for line in lines] for name in (key, "valid_loss")))
        for run, lines in held_out.items()
    }
    first = {run.label: run for run in reversed(list(logs))}  # of the seeds, the one with the best loss
    labels = names({run.label: places[run] for run in first.values()}, places.values(), dots.values())
    title, x_label = AXES[key]
    return LinePlot(
        title=title,
        x_label=x_label + (", logarithmic" if x_axis.logarithmic else ""),
        y_label="masked L1",
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        curves=[
            Curve(
                label=run.label,
                tip=f"seed {run.seed}; held-out masked L1 {run.ended}; {run.steps:,} steps",
                style=styles[run.label],
                path=path(places[run]),
                dots=dots[run],
                name=labels.get(run.label) if first[run.label] is run else None,
            )
            for run in logs
        ],
    )


def _places(x_axis: Axis, y_axis: Axis, x: Numbers, y: Numbers) -> list[tuple[float, float]]:
    return list(zip(x_axis.places(x), y_axis.places(y), strict=True))


def _x_axis(curves: Sequence[tuple[np.ndarray, np.ndarray]], key: str) -> Axis:
    """From zero; logarithmic where some runs took many times as long as others."""
    starts, ends = ([float(x[place]) for x, _ in curves] for place in (0, -1))
    if key == "elapsed_s" and min(starts) > 0 and max(ends) > SLOWEST * min(ends):
        return horizontal(min(starts) / 1.2, max(ends) * 1.2, logarithmic=True)
    return horizontal(0.0, max(ends) * 1.02)


def _averaged(lines: Log, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Ends and mean losses of the log's spans; where there are too many, of neighbouring spans together."""
    x, losses = (np.array([line[name] for line in lines], float) for name in (key, "loss"))
    size = -(-len(x) // MOST_POINTS)
    starts = np.arange(0, len(x), size)
    ends = np.append(starts[1:], len(x))
    return x[ends - 1], np.add.reduceat(losses, starts) / (ends - starts)
