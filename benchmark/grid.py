"""The whole run: every upstream on every task; finished cells stay, failures are recorded, a leaderboard ends it."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from time import monotonic, time

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .budget import MEASURING, Budget, coarse_first
from .cell import Cell, reason_of
from .durations import told
from .estimate import estimate
from .executors import Executor, Inline, Local
from .leaderboard import Written, still_to_make, write
from .names import BASELINE, MEL
from .plan import Plan, Request, make_plan, seed_pairs
from .request_file import Journal
from .result_files import read_cell
from .schedule import Counts, Schedule, skip, timed_elsewhere
from .status import unfinished_trainings
from .steps import steps_of
from .stopwatch import is_timed, read_record, time_upstreams

__all__ = ["Outcome", "Request", "run", "seed_pairs"]

logger = logging.getLogger(__name__)

REFRESH_S = 120.0  # between two versions of the leaderboard while a run goes on


@dataclass(frozen=True)
class Outcome:
    """What a run made: the leaderboard's files, and how many cells were asked for, made now, failed and skipped."""

    written: Written
    num_cells: int
    num_made: int
    num_failed: int
    num_skipped: int


def run(request: Request) -> Outcome:
    """Do what is missing of a request; ``KeyboardInterrupt`` passes through, with all finished cells on disk.

    Raises:
        ValueError: before any work, for a wrong name, option or corpus.
    """
    started = monotonic()
    plan = make_plan(request)
    request.out.mkdir(parents=True, exist_ok=True)
    finished: list[Cell] = []
    waiting: list[Cell] = []
    for cell in plan.cells:
        (finished if plan.status(cell) == "ok" else waiting).append(cell)
    logger.info("%d of %d cells are finished in %s", len(finished), len(plan.cells), request.out)
    _tell_of_others(plan, finished)
    journal, counts = Journal(plan), Counts()
    try:
        try:
            able = _refuse(plan, waiting, counts)
            if able:
                total_s = math.inf if request.budget_s is None else request.budget_s
                budget = Budget(total_s, started, monotonic, slots=request.jobs)
                if budget.limited:
                    able = _weighed(plan, able, budget, journal)
                _make(plan, able, budget, journal, counts)
        finally:
            written = write(request.out, request.command, unfinished(plan))
    except Exception as error:
        with suppress(OSError):  # a full disk, which is what the error itself will tell
            journal.end(reason_of(error))
        raise
    journal.end()
    return Outcome(written, len(plan.cells), counts.made, counts.failed, counts.skipped)


def _tell_of_others(plan: Plan, finished: Sequence[Cell]) -> None:
    """Warn where finished cells, which stay as they are, were made with other settings that do not decide a score."""
    other = 0
    for cell in finished:
        found, timing, device = read_cell(plan.path(cell)), asdict(cell.study.timing), plan.request.device
        same = found["config"].get("timing", timing) == timing and found["environment"].get("device", device) == device
        other += not same
    if other:
        logger.warning(
            "%d finished cells were timed with other timing options or made on another device than asked for, and stay "
            "as they are: give another --out to make them anew",
            other,
        )


def _refuse(plan: Plan, cells: Sequence[Cell], counts: Counts) -> list[Cell]:
    """Record the cells whose task cannot use the corpus; the others are returned."""
    for task, reason in plan.refused.items():
        logger.warning("%s is skipped: %s", task, reason)
    for cell in cells:
        if cell.task in plan.refused:
            skip(plan, cell, plan.refused[cell.task], counts)
    return [cell for cell in cells if cell.task not in plan.refused]


def _weighed(plan: Plan, cells: Sequence[Cell], budget: Budget, journal: Journal) -> list[Cell]:
    """The cells in an order that gives a coarse leaderboard early, after what they cost was measured."""
    journal.doing("measuring")
    budget.steps = steps_of(plan, cells)
    budget.estimate = estimate(plan, cells, give_up_s=MEASURING * budget.total_s)
    for problem in budget.estimate.problems:
        logger.warning("%s", problem)
    ordered = coarse_first(plan, cells, budget)
    paths = [plan.path(cell) for cell in ordered]
    whole_s = budget.estimate.total_s(step for path in paths for step in budget.steps[path]) / budget.slots
    fitting = len(budget.affordable(paths))
    parts = (told(whole_s), told(budget.left_s()), told(budget.total_s), told(budget.estimate.measured_s))
    logger.info("estimate: all takes %s; %s of %s are left after measuring for %s", *parts)
    logger.info("%d of %d cells seem to fit", fitting, len(paths))
    below = [path.relative_to(plan.request.out).as_posix() for path in paths]
    needs = [budget.need_s(budget.missing(path)) for path in paths]
    journal.estimated({key: need_s for key, need_s in zip(below, needs, strict=True) if math.isfinite(need_s)})
    return ordered


def _make(plan: Plan, cells: Sequence[Cell], budget: Budget, journal: Journal, counts: Counts) -> None:
    """Make the cells that the budget allows."""
    request, paths = plan.request, [plan.path(cell) for cell in cells]
    affordable = set(budget.affordable(paths))
    timed = {cell.study.upstream for cell, path in zip(cells, paths, strict=True) if path in affordable}
    executor, threads = make_executor(plan)
    try:
        timings = _timed(plan, timed, budget, journal, executor, threads)
        schedule, shown = Schedule(plan, cells, budget, journal, counts, timings, executor, threads), monotonic()
        with _progress(plan, schedule) as show:
            while schedule.step():
                show()
                if monotonic() - shown > REFRESH_S:
                    write(request.out, request.command, unfinished(plan))
                    shown = monotonic()
    finally:
        executor.stop()


@contextmanager
def _progress(plan: Plan, schedule: Schedule) -> Iterator[Callable[[], None]]:
    """On a terminal, a bar of the cells with how far the pre-trainings are that run in other processes."""
    steps = {study.label: study.recipe.pretrain.steps for study in plan.studies.values()}
    with tqdm(total=schedule.waiting, desc="cells", unit="cell", disable=None, leave=False) as bar:
        total, started_s = schedule.waiting, time()

        def show() -> None:
            if not bar.disable:
                bar.n = total - schedule.waiting
                trainings = unfinished_trainings(plan.request.out, steps, started_s)
                bar.set_postfix_str("; ".join(text for _, text, _ in trainings))

        with nullcontext() if bar.disable else logging_redirect_tqdm():
            yield show


def make_executor(plan: Plan) -> tuple[Executor, int]:
    """What does the work of a plan, and how many threads each process has."""
    request, threads = plan.request, torch.get_num_threads()
    if request.executor == "slurm":
        from .slurm import Slurm, load_settings

        settings = load_settings(request.preset, request.device, request.slurm)
        return Slurm(request.out, settings, request.timeout_s), settings.cpus_per_task
    if request.executor == "local":
        return Local(request.out, request.jobs, request.timeout_s), max(1, threads // request.jobs)
    return Inline(plan.speech), threads


def unfinished(plan: Plan) -> str:
    """How many cells of a plan are still to be made; empty when none is."""
    return still_to_make(sum(plan.status(cell) == "missing" for cell in plan.cells), len(plan.cells))


def _timed(
    plan: Plan, names: set[str], budget: Budget, journal: Journal, executor: Executor, threads: int
) -> dict[str, str]:
    """Where the times of upstreams are, below the result folder; what is missing is timed now, together with the
    baseline: here, or alone on a machine where all else runs there."""
    request, missing = plan.request, {name for name in names if not is_timed(plan.records[name])}
    wanted = {name: study for name, study in plan.studies.items() if name in missing | {BASELINE, MEL}}
    if names and request.executor == "slurm":
        journal.doing(f"timing {', '.join(sorted(names))}")
        return timed_elsewhere(plan, sorted(names), executor, threads)
    if missing:
        journal.doing(f"timing {', '.join(sorted(missing))}")
        started = monotonic()
        time_upstreams(wanted, plan.records, torch.get_num_threads(), request.device, request.overrides)
        steps = {step for path in budget.steps for step in budget.missing(path)}
        done = [step for step in steps if step.kind == "timing" and step.upstream in wanted]
        budget.note(done, monotonic() - started)
    known = {name: plan.records[name] for name in names if read_record(plan.records[name]) is not None}
    return {name: path.relative_to(request.out).as_posix() for name, path in known.items()}
