"""Learning curves of a finished result folder: losses by step, over seeds, and the seconds that a step takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..recipes.run_files import read_log
from .names import BASELINE
from .plain import text
from .row_times import Spread, row_times
from .rows import Row, task_names

TASK_SETTINGS = ("task.", "data.splits", "data.num_folds")  # in which tables of one ablation may differ
VALID, TRAIN = "valid_loss", "loss"  # as lines of a log call them


@dataclass(frozen=True)
class Curve:
    """Losses (masked L1) at increasing steps, of one seed."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Learner:
    """One row of the leaderboard, all its tasks and seeds together.

    Args:
        label: as the leaderboard has it.
        upstream: of its cells.
        scores: its rows of the leaderboard that have a score, by task; by task and table where a task has several.
        valid: curves of the validation loss, by seed of pre-training; empty for what is not pre-trained.
        train: likewise of the training loss, whose values are means since the value before.
        step_s: seconds of a training step; None when it was not timed.
        step_ratio: that step as a ratio to the baseline's.
        notes: what a reader must know of it, logs that are missing among it.
    """

    label: str
    upstream: str
    scores: Mapping[str, Row]
    valid: Mapping[int, Curve]
    train: Mapping[int, Curve]
    step_s: float | None = None
    step_ratio: Spread | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """Rows that were made under the same settings, apart from their tasks: the baseline first, then by their last loss.

    ``step_s`` is the median of the baseline's training step in the timing lane, None when nothing was timed. ``unmade``
    are rows without a score.
    """

    corpus: str
    preset: str
    settings: Mapping[str, object]
    learners: tuple[Learner, ...]
    step_s: float | None
    unmade: tuple[Row, ...] = ()

    @property
    def baseline(self) -> Learner | None:
        """The row that the others are compared with, if it is there with a curve."""
        return next((each for each in self.learners if each.upstream == BASELINE and each.valid), None)


@dataclass(frozen=True)
class Reached:
    """The step at which a loss was reached; ``at_most`` when it was below already at its first value."""

    step: float
    at_most: bool = False


def ablations(rows: Iterable[Row], out: Path) -> list[Ablation]:
    """The rows of the leaderboard of ``out``, in groups that may be compared; those with most rows first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        shared = {key: value for key, value in row.settings.items() if not key.startswith(TASK_SETTINGS)}
        groups.setdefault(text([row.corpus, row.preset, shared]), []).append(row)
    found = [_ablation(group, out) for group in groups.values()]
    return sorted((each for each in found if each is not None), key=lambda each: -len(each.learners))


def mean_curve(curves: Mapping[int, Curve]) -> Curve:
    """The mean over seeds, at the steps that all of them have."""
    tables = [dict(zip(curve.steps, curve.losses, strict=True)) for curve in curves.values()]
    steps = sorted(set.intersection(*map(set, tables))) if tables else []
    return Curve(tuple(steps), tuple(float(np.mean([table[step] for table in tables])) for step in steps))


def crossed(curve: Curve, target: float) -> Reached | None:
    """Where a curve first comes down to ``target``, on the straight line between two of its values."""
    for number, (step, loss) in enumerate(zip(curve.steps, curve.losses, strict=True)):
        if loss <= target and number == 0:
            return Reached(step, at_most=True)
        if loss <= target:
            before, above = curve.steps[number - 1], curve.losses[number - 1]
            return Reached(before + (step - before) * (above - target) / (above - loss))
    return None


def settled(curve: Curve, target: float) -> Reached | None:
    """The first value of a noisy curve after which, itself included, none is above ``target``."""
    above = [number for number, loss in enumerate(curve.losses) if loss > target]
    first = above[-1] + 1 if above else 0
    return Reached(curve.steps[first], at_most=first == 0) if first < len(curve.steps) else None


def _ablation(group: Sequence[Row], out: Path) -> Ablation | None:
    members: dict[str, list[Row]] = {}
    for row in group:
        if row.score is not None:
            config = row.cells[0]["config"] or {}
            source = (row.cells[0]["upstream"] or {}).get("source_hash")
            members.setdefault(text([row.upstream, config.get("attention"), source]), []).append(row)
    step_s = _baseline_step_s([cell for row in group for cell in row.cells])
    names = task_names(group)
    learners = [_learner(rows, names, step_s, out) for rows in members.values()]
    if not any(learner.valid for learner in learners):
        return None
    return Ablation(
        corpus=group[0].corpus,
        preset=group[0].preset,
        settings=group[0].settings,
        learners=tuple(sorted(learners, key=_order)),
        step_s=step_s,
        unmade=tuple(row for row in group if row.score is None),
    )


def _order(learner: Learner) -> tuple[bool, bool, float, str]:
    last = mean_curve(learner.valid).losses[-1:] or (0.0,)
    return learner.upstream != BASELINE, not learner.valid, last[0], learner.label


def _learner(
    rows: Sequence[Row], names: Mapping[tuple[str, int], str], baseline_step_s: float | None, out: Path
) -> Learner:
    cells = [cell for row in rows for cell in row.cells]
    done = {cell["cell"]["seed"]: cell["pretrain"] for cell in reversed(cells) if cell["pretrain"]}
    valid, train, missing = {}, {}, []
    for seed, pretrained in sorted(done.items()):
        curves = _curves(out / pretrained["log"])
        if curves is None:
            missing.append(pretrained["log"])
            steps = (pretrained["steps"],)
            curves = Curve(steps, (pretrained[VALID],)), Curve(steps, (pretrained["train_loss"],))
        valid[seed], train[seed] = curves
    times = row_times(cells)
    ratio, own_s = times["train_ratio"], times["lane_pretrain_s"]
    step_s = own_s / np.mean([each["steps"] for each in done.values()]) if own_s else None
    if ratio is not None and baseline_step_s is not None:
        step_s = baseline_step_s * ratio[0]
    notes = [(cell["upstream"] or {}).get("note") for cell in cells]
    notes += [f"its curve is missing, as there is no readable {name}: only its last loss is known" for name in missing]
    return Learner(
        label=max((row.label for row in rows), key=len),
        upstream=rows[0].upstream,
        scores={names[row.downstream, row.table]: row for row in rows},
        valid=valid,
        train=train,
        step_s=None if step_s is None else float(step_s),
        step_ratio=ratio,
        notes=tuple(dict.fromkeys(filter(None, notes))),
    )


def _curves(path: Path) -> tuple[Curve, Curve] | None:
    """The validation and the training loss of a log; None where it has none, or is missing or damaged."""
    try:
        log = read_log(path)
        valid, train = _curve(log, VALID), _curve(log, TRAIN)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = valid.steps and train.steps and np.isfinite([*valid.losses, *train.losses]).all()
    return (valid, train) if whole else None


def _curve(log: Sequence[Mapping[str, float]], key: str) -> Curve:
    lines = [line for line in log if key in line]
    return Curve(tuple(int(line["step"]) for line in lines), tuple(float(line[key]) for line in lines))


def _baseline_step_s(cells: Iterable[Mapping[str, Any]]) -> float | None:
    """The median over all rounds of the timing lane; rounds that several rows share count once."""
    phases = [cell["time"]["phases"].get("train_step", {}) for cell in cells if cell["time"]]
    rounds = {text(samples): samples for phase in phases if (samples := phase.get("baseline_samples_s"))}
    return float(np.median([s for samples in rounds.values() for s in samples])) if rounds else None
