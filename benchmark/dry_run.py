"""The plan of a run as text, with an estimate of time, disk and memory; makes and writes no result."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from time import perf_counter

import torch

from ..recipes.corpora import cache_dir
from .budget import MEASURING, Budget, coarse_first
from .cell import Cell
from .durations import told
from .environment import describe
from .estimate import ASSUMED, Estimate, estimate
from .measure import NUM_STEPS, SAMPLE_S
from .measure_probe import NUM_BATCHES
from .names import MEL, seeds_text
from .plan import Plan, Request, make_plan
from .steps import KINDS, Step, steps_of

LISTED = 8  # names in a line


def dry_run(request: Request) -> str:
    """Plan and estimate of a request, in lines.

    Raises:
        ValueError: for a wrong name, option or corpus.
    """
    started = perf_counter()
    plan = make_plan(request)
    able = [cell for cell in plan.cells if cell.task not in plan.refused and plan.status(cell) != "ok"]
    steps = steps_of(plan, able)
    most_s = math.inf if request.budget_s is None else MEASURING * request.budget_s
    found = estimate(plan, able, give_up_s=most_s) if able else Estimate()
    budget = Budget(math.inf if request.budget_s is None else request.budget_s, 0.0, lambda: 0.0, steps, found)
    order = coarse_first(plan, able, budget) if budget.limited else able
    lines = [*_cells(plan, order, found, steps), ""]
    if able:
        lines += [*_times(found, steps), "", *_space(plan, found, steps), "", *_fitting(plan, order, budget)]
        lines += _basis(plan, found)
    elsewhere = "" if able else ", nothing is left to do"
    lines.append(f"this dry run took {told(perf_counter() - started)} and wrote no result{elsewhere}")
    return "\n".join(lines)


def _cells(plan: Plan, order: Sequence[Cell], found: Estimate, steps: dict[Path, tuple[Step, ...]]) -> list[str]:
    """One line for neighbours that differ by task only: what they are, and what they add to the time."""
    request = plan.request
    states = {plan.path(cell): plan.status(cell) for cell in plan.cells}
    finished = sum(state == "ok" for state in states.values())
    head = f"{len(plan.cells)} cells, {finished} finished, {len(order)} to make"
    lines = [f"plan: {head}; preset {request.preset}, corpus {plan.speech.probing.name}, results in {request.out}"]
    lines += [f"  {task} is skipped: {reason}" for task, reason in plan.refused.items()]
    width = max(20, *(len(name) for name in plan.studies))
    for (name, seed, probe_seed), group in groupby(
        (cell for cell in plan.cells if states[plan.path(cell)] == "ok"), lambda cell: _row(cell)
    ):
        lines.append(
            f"  finished: {name:{width}} {seeds_text(seed, probe_seed)}  {' '.join(cell.task for cell in group)}"
        )
    done: set[Step] = set()
    for (name, seed, probe_seed), group in groupby(order, _row):
        members = list(group)
        needed = {step for cell in members for step in steps[plan.path(cell)]} - done
        done |= needed
        again = {states[plan.path(cell)] for cell in members} - {"missing"}
        before = f" ({', '.join(sorted(again))} before)" if again else ""
        tasks = " ".join(cell.task for cell in members)
        takes = told(found.total_s(needed))
        lines.append(f"  {'missing:':9} {name:{width}} {seeds_text(seed, probe_seed)}  {takes:>10}  {tasks}{before}")
    return lines


def _row(cell: Cell) -> tuple[str, int, int]:
    return cell.study.upstream, cell.seed, cell.probe_seed


def _times(found: Estimate, steps: dict[Path, tuple[Step, ...]]) -> list[str]:
    every = {step for needed in steps.values() for step in needed}
    lines = ["time:"]
    for kind in KINDS:
        of_kind = [step for step in every if step.kind == kind]
        if of_kind:
            lines.append(f"  {kind:13} {told(found.total_s(of_kind)):>10}  {_counted(kind, of_kind)}")
    return [*lines, f"  {'in all':13} {told(found.total_s(every)):>10}"]


def _counted(kind: str, steps: Sequence[Step]) -> str:
    if kind == "log-Mel":
        return "once for all"
    names = sorted({step.task if kind == "probe" else step.upstream for step in steps})
    listed = ", ".join(names) if len(names) <= LISTED else f"{len(names)} {'tasks' if kind == 'probe' else 'upstreams'}"
    return f"{len(steps)} x {listed}" if kind != "timing" else f"interleaved: {listed}"


def _space(plan: Plan, found: Estimate, steps: dict[Path, tuple[Step, ...]]) -> list[str]:
    """Disk and memory."""
    every = {step for needed in steps.values() for step in needed}
    states = sum(found.costs[step.upstream].states_bytes for step in every if step.kind == "extraction")
    trained = [found.costs[step.upstream].checkpoint_bytes for step in every if step.kind == "pre-training"]
    num_frames = sum(u.num_frames for u in plan.speech.pretraining.utterances)
    log_mel = 2 * plan.studies[MEL].recipe.model.num_mels * num_frames if Step("log-Mel") in every else 0
    resume = 3 * max(trained, default=0)  # weights and Adam's two moments, of the run in hand
    lines = [
        f"disk, cache {cache_dir()} ({_free(cache_dir())} free):",
        f"  hidden states {_size(states):>10}",
        f"  log-Mel       {_size(log_mel):>10}",
        f"disk, results {plan.request.out} ({_free(plan.request.out)} free):",
        f"  checkpoints   {_size(sum(trained)):>10}  and {_size(resume)} for the one in training",
    ]
    ram = describe(torch.get_num_threads())["ram_bytes"]
    lane = max(filter(None, found.lane_memory.values()), default=0)
    weighed = f"; self_attention in the timing lane {_size(lane)} beyond PyTorch" if lane else ""
    of_ram = f" of {_size(ram)}" if ram else ""
    return [*lines, f"memory: at most {_size(found.peak_bytes)}{of_ram} in this measurement{weighed}"]


def _fitting(plan: Plan, order: Sequence[Cell], budget: Budget) -> list[str]:
    """What of it a budget holds."""
    if not budget.limited:
        return []
    measured_s = budget.estimate.measured_s  # a run measures as well
    left = Budget(budget.total_s - measured_s, 0.0, lambda: 0.0, budget.steps, budget.estimate)
    paths = [plan.path(cell) for cell in order]
    fitting = set(left.affordable(paths))
    lines = [f"budget {told(budget.total_s)}, measuring included: {len(fitting)} of {len(paths)} cells fit"]
    out = [cell for cell in order if plan.path(cell) not in fitting]
    lines += [f"  would be skipped: {c.study.upstream} on {c.task}, {seeds_text(c.seed, c.probe_seed)}" for c in out]
    return [*lines, ""]


def _basis(plan: Plan, found: Estimate) -> list[str]:
    """What was measured and what was not."""
    known = f"; {', '.join(found.known)}: the seconds of finished cells" if found.known else ""
    model = plan.studies[MEL].recipe
    return [
        f"measured, with {torch.get_num_threads()} threads, in {told(found.measured_s)}: {NUM_STEPS} steps of "
        f"pre-training of each upstream at {model.pretrain.batch_frames} frames a batch and a batch of validation, the "
        f"extraction of about {SAMPLE_S:g} s of audio, one call of each case of the timing lane, the process that "
        f"weighs memory for one upstream, {NUM_BATCHES - 1} batches of each probe on random states{known}",
        *(f"not measured: {problem}" for problem in found.problems),
        f"assumed: {'; '.join(ASSUMED)}",
    ]


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def _free(folder: Path) -> str:
    """Free space on the disk where ``folder`` is or would be."""
    absolute = folder.absolute()
    there = next(path for path in (absolute, *absolute.parents) if path.exists())
    return _size(shutil.disk_usage(there).free)
