"""How fast rows learn: losses against steps and against seconds, and what they score, from a finished result folder.

    python -m s3prl_attention.benchmark ablation --out result

Reads ``cells/`` and the logs below ``pretrain/``; writes ablation.md, ablation.png and ablation.svg beside them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .ablation_curves import Ablation, Curve, Learner, Reached, ablations, crossed, mean_curve, settled
from .command_line import mistakes_told
from .facts import direction, facts, remarks
from .names import BASELINE
from .pages import escape, grid
from .result_files import read_cells, write_atomically
from .rows import rows

SHARES = (0.1, 0.25, 0.5, 0.75)  # of the steps, at which losses are shown: as near to them as there are validations
UNKNOWN = "-"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: writes page and pictures, and tells where."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark ablation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    options = parser.parse_args(given)
    with mistakes_told():
        written = write(options.out, shlex.join(["python", "-m", "s3prl_attention.benchmark", "ablation", *given]))
    print("written: " + ", ".join(map(str, written)))


def write(out: Path, command: str = "") -> list[Path]:
    """Make the page and the pictures of the result folder ``out``; ``ValueError`` when it has no pre-training."""
    from .ablation_plot import draw  # matplotlib comes with it

    cells, problems = read_cells(out / "cells")
    found = ablations(rows(cells), out)
    if not found:
        raise ValueError(
            f"{out} has no finished cell of a pre-trained row: give --out the folder of a run that has some"
        )
    problems = [line.replace(f"{out}/", "") for line in problems]
    files = {**draw(found), "ablation.md": page(found, command, problems).encode()}
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]


def page(found: Sequence[Ablation], command: str = "", problems: Sequence[str] = ()) -> str:
    """The page as markdown. ``problems`` are the files that could not be read."""
    lines = ["# Ablation: loss against steps and seconds", ""]
    lines += ["Made by", "", f"    {command}", ""] if command else []
    lines += ["![Masked L1 against steps, and against seconds](ablation.svg)", ""]
    lines += [f"Bands go from the least to the most of the seeds; dotted is the last loss of {BASELINE}.", ""]
    for number, ablation in enumerate(found):
        lines += [f"## {escape(title(ablation, number, found))}", "", *_tables(ablation)]
    lines += (
        ["## Files that could not be read", "", *(f"- {escape(line)}" for line in problems), ""] if problems else []
    )
    return "\n".join(lines)


def title(ablation: Ablation, number: int, found: Sequence[Ablation]) -> str:
    """Corpus and preset, and which of several that differ in other settings."""
    alike = [each for each in found if (each.corpus, each.preset) == (ablation.corpus, ablation.preset)]
    which = f", group {alike.index(ablation) + 1} of {len(alike)}" if len(alike) > 1 else ""
    return f"{ablation.corpus}, preset {ablation.preset}{which}"


def shown_steps(ablation: Ablation) -> list[int]:
    """The steps at which all rows were validated that lie nearest to ``SHARES``, and the last."""
    known = [set(curve.steps) for learner in ablation.learners for curve in learner.valid.values()]
    last = max(map(max, known))
    whole = [steps for steps in known if len(steps) > 1] or known  # without those of which only the last loss is known
    steps = sorted(set.intersection(*whole) or {last})
    near = (min(steps, key=lambda step: (abs(step - share * last), -step)) for share in SHARES)
    return sorted({*near, last})


def _tables(ablation: Ablation) -> list[str]:
    learners = [learner for learner in ablation.learners if learner.valid]
    return [
        "**Masked L1 on the validation set**, mean over seeds (least to most).",
        "",
        *grid(_losses(ablation, learners)),
        *_until(ablation, learners),
        "**Scores on test** in %, mean over seeds (least to most).",
        "",
        *grid(_scores(ablation)),
        *(f"- {line}" for line in _reading(ablation, learners)),
        "",
    ]


def _losses(ablation: Ablation, learners: Sequence[Learner]) -> list[list[str]]:
    steps, baseline = shown_steps(ablation), ablation.baseline
    end = mean_curve(baseline.valid).losses[-1] if baseline else None
    *early, last = steps
    header = ["row", "seeds", *(f"step {step} ({100 * step / last:.0f} %)" for step in early), f"end, step {last}"]
    header += [f"end against {BASELINE}"] if end else []
    lines = [header]
    for learner in learners:
        told = [_spread([_at(curve, step) for curve in learner.valid.values()], "{:.3f}") for step in steps]
        own = mean_curve(learner.valid).losses[-1]
        told += [] if end is None else [UNKNOWN if learner is baseline else _percent(own / end - 1)]
        lines.append([learner.label, " ".join(map(str, learner.valid)), *told])
    return lines


def _until(ablation: Ablation, learners: Sequence[Learner]) -> list[str]:
    """Steps and seconds until the baseline's last loss, on the validation set and in training."""
    baseline = ablation.baseline
    if baseline is None:
        return [f"No steps until the last loss of {BASELINE}: it has no finished cell here.", ""]
    valid, train = (mean_curve(curves).losses[-1] for curves in (baseline.valid, baseline.train))
    titles = (f"step of L1 {valid:.3f} in validation", "s, validation", f"step of L1 {train:.3f} in training")
    lines = [["row", f"one step, x {BASELINE}", "whole run, s", *titles, "s, training"]]
    for learner in learners:
        ratio, step_s = learner.step_ratio, learner.step_s
        quartiles = UNKNOWN if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"
        whole = UNKNOWN if step_s is None else _number(step_s * max(mean_curve(learner.valid).steps))
        told = [learner.label, quartiles, whole]
        for reach, curves, target in ((crossed, learner.valid, valid), (settled, learner.train, train)):
            told += _reached(partial(reach, target=target), curves, step_s)
        lines.append(told)
    return [f"**Until the last loss of {BASELINE}**: the mean curve (least to most of the seeds).", "", *grid(lines)]


def _reached(
    reach: Callable[[Curve], Reached | None], curves: Mapping[int, Curve], step_s: float | None
) -> tuple[str, str]:
    """When a row comes down to a loss: in steps, with the spread over its seeds, and in seconds."""
    mean, seeds = reach(mean_curve(curves)), [reach(curve) for curve in curves.values()]
    known = [each.step for each in seeds if each is not None]
    parts = [f"{_number(min(known))} to {_number(max(known))}"] if len(set(map(_number, known))) > 1 else []
    parts += [f"{len(known)} of {len(seeds)} seeds"] if 0 < len(known) < len(seeds) else []
    spread = f" ({', '.join(parts)})" if parts else ""
    if mean is None:
        return f"not reached{spread}", UNKNOWN
    at_most = "≤ " if mean.at_most else ""
    seconds = UNKNOWN if step_s is None else f"{at_most}{_number(step_s * mean.step)}"
    return f"{at_most}{_number(mean.step)}{spread}", seconds


def _scores(ablation: Ablation) -> list[list[str]]:
    tasks = sorted({task for learner in ablation.learners for task in learner.scores})
    known = {task: next(each.scores[task] for each in ablation.learners if task in each.scores) for task in tasks}
    headers = [
        f"{task} ({known[task].cells[0]['task']['metric']}, {direction(known[task].higher_is_better)})"
        for task in tasks
    ]
    lines = [["row", *headers]]
    for learner in ablation.learners:
        told = [learner.label]
        for task in tasks:
            row = learner.scores.get(task)
            if row is None or row.score is None or row.score_min is None or row.score_max is None:
                told.append(UNKNOWN)
                continue
            spread = (
                f" ({100 * row.score_min:.1f} to {100 * row.score_max:.1f})" if row.score_min < row.score_max else ""
            )
            told.append(f"{100 * row.score:.1f}{spread}")
        lines.append(told)
    return lines


def _reading(ablation: Ablation, learners: Sequence[Learner]) -> list[str]:
    """The lines without which the numbers can't be read."""
    settings, timed = ablation.settings, [learner for learner in learners if learner.step_s is not None]
    steps = settings.get("config.pretrain.steps")
    lines = [
        f"One run of {steps} steps for each row and seed; the learning rate falls to zero towards its end, so that the "
        f"middle of a curve is not what a shorter run would reach.",
        "Spread: least to most of the seeds, no standard deviation; a row with one seed has none. Scores are of one "
        "seed of the probe for each seed of pre-training.",
        "In validation, a loss between two validations is read off the line between them, ≤ means that it was reached "
        "before the first one. In training, the step is that of the line of the log from which on no line is above the "
        "loss; a line is the mean of the steps since the line before.",
    ]
    if timed and ablation.step_s is not None:
        lines.append(
            f"Seconds are not those of the trainings, which other programs may have slowed: they are steps times the "
            f"training step of the timing lane, {_number(1000 * ablation.step_s)} ms for {BASELINE} (median), and for "
            f"the others that times the median of their ratios to it in interleaved rounds (in brackets the quartiles)."
        )
        keys = ("timing.train_utterances", "model.max_frames", "pretrain.batch_frames")
        sizes = [settings.get(f"config.{key}") for key in keys]
        utterances, frames, largest = (size if isinstance(size, int) else 0 for size in sizes)
        if utterances * frames != largest:
            lines.append(
                f"A step of the timing lane has {utterances * frames} frames, one of pre-training up to {largest}: "
                f"compare seconds with each other, and not with a clock."
            )
        lane = {text for learner in timed for text in _lanes(learner)}
        disturbed = [f"{learner.label} {_disturbed(learner)}" for learner in timed if _disturbed(learner)]
        if len(lane) > 1:
            lines.append("Not all rows were timed in one run of the lane: ratios stay within theirs.")
        if disturbed:
            lines.append(f"Training steps timed while other programs used the machine: {escape(', '.join(disturbed))}.")
    untimed = [learner.label for learner in learners if learner.step_s is None]
    if untimed:
        lines.append(f"Not timed, and not in the right panel: {escape(', '.join(untimed))}.")
    notes: dict[str, list[str]] = {}
    for learner in ablation.learners:
        for note in learner.notes:
            notes.setdefault(note, []).append(learner.label)
    lines += [escape(f"{', '.join(labels)}: {note}.") for note, labels in notes.items()]
    lines += map(escape, remarks(ablation.unmade))
    scored = [row for learner in ablation.learners for row in learner.scores.values()]
    return [*lines, *(escape(line) for line in facts(scored)[-2:])]


def _lanes(learner: Learner) -> list[str]:
    """Which rounds of the timing lane a row took part in."""
    return [str(phase["baseline_samples_s"]) for phase in _train_steps(learner)]


def _disturbed(learner: Learner) -> str:
    flags = [flag for phase in _train_steps(learner) for flag in phase["disturbed"]]
    return f"{sum(flags)} of {len(flags)}" if any(flags) else ""


def _train_steps(learner: Learner) -> list[dict]:
    """The training steps of a row in the timing lane, those that several cells share once."""
    cells = [cell for row in learner.scores.values() for cell in row.cells]
    phases = [
        cell["time"]["phases"]["train_step"]
        for cell in cells
        if cell["time"] and "train_step" in cell["time"]["phases"]
    ]
    return list({str(phase["samples_s"]): phase for phase in phases}.values())


def _at(curve: Curve, step: int) -> float | None:
    return dict(zip(curve.steps, curve.losses, strict=True)).get(step)


def _spread(values: Sequence[float | None], form: str) -> str:
    """Mean (least to most) of those that are known."""
    known = [value for value in values if value is not None]
    if not known:
        return UNKNOWN
    told: Callable[[float], str] = form.format
    least, most = told(min(known)), told(max(known))
    return told(float(np.mean(known))) + (f" ({least} to {most})" if least != most else "")


def _percent(share: float) -> str:
    """With its sign, unless it is rounded to nothing."""
    told = f"{100 * share:+.1f} %"
    return told.replace("-0.0", "0.0").replace("+0.0", "0.0")


def _number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
