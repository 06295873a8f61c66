"""The whole run: every upstream on every task; finished cells stay, failures are recorded, a leaderboard ends it."""

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import torch

from .budget import MEASURING, Budget, coarse_first
from .cell import Cell, reason_of, run_cell, write_failure, write_skipped
from .durations import told
from .estimate import estimate
from .leaderboard import Written, still_to_make, write
from .names import BASELINE, MEL, seeds_text
from .plan import Plan, Request, make_plan, seed_pairs
from .prepare import Prepared, prepare
from .request_file import Journal
from .steps import steps_of
from .stopwatch import Record, read_record, time_upstreams

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


@dataclass
class Counts:
    """Cells of a run by what became of them."""

    made: int = 0
    failed: int = 0
    skipped: int = 0


def run(request: Request) -> Outcome:
    """Do what is missing of a request; ``KeyboardInterrupt`` passes through, with all finished cells on disk.

    Raises:
        ValueError: before any work, for a wrong name, option or corpus.
    """
    started = monotonic()
    plan = make_plan(request)
    request.out.mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in plan.cells if plan.status(cell) != "ok"]
    logger.info("%d of %d cells are finished in %s", len(plan.cells) - len(waiting), len(plan.cells), request.out)
    journal, counts = Journal(plan), Counts()
    try:
        try:
            able = _refuse(plan, waiting, counts)
            if able:
                budget = Budget(math.inf if request.budget_s is None else request.budget_s, started, monotonic)
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


def _refuse(plan: Plan, cells: Sequence[Cell], counts: Counts) -> list[Cell]:
    """Record the cells whose task cannot use the corpus; the others are returned."""
    for task, reason in plan.refused.items():
        logger.warning("%s is skipped: %s", task, reason)
    for cell in cells:
        if cell.task in plan.refused:
            _skip(plan, cell, plan.refused[cell.task], counts)
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
    whole_s = budget.estimate.total_s(step for path in paths for step in budget.steps[path])
    fitting = len(budget.affordable(paths))
    parts = (told(whole_s), told(budget.left_s()), told(budget.total_s), told(budget.estimate.measured_s))
    logger.info("estimate: all takes %s; %s of %s are left after measuring for %s", *parts)
    logger.info("%d of %d cells seem to fit", fitting, len(paths))
    below = [path.relative_to(plan.request.out).as_posix() for path in paths]
    needs = [budget.need_s(budget.missing(path)) for path in paths]
    journal.estimated({key: need_s for key, need_s in zip(below, needs, strict=True) if math.isfinite(need_s)})
    return ordered


def _make(plan: Plan, cells: Sequence[Cell], budget: Budget, journal: Journal, counts: Counts) -> None:
    """Make the cells that the budget allows. Neighbours of one upstream and seed share its preparation; later ones find
    weights and hidden states on disk. A preparation that failed is not tried again."""
    paths = [plan.path(cell) for cell in cells]
    affordable = set(budget.affordable(paths))
    timed = {cell.study.upstream for cell, path in zip(cells, paths, strict=True) if path in affordable}
    records = _timed(plan, timed, budget, journal)
    preparation, shown = Preparation(plan, budget, journal), monotonic()
    for number, (cell, path) in enumerate(zip(cells, paths, strict=True)):
        fits = budget.fits(path) and not budget.untimed(path)  # the lane is over
        if not fits and not preparation.failed(cell):  # a cell that fails at once takes no time
            _skip(plan, cell, budget.reason(path, paths[number:]), counts)
            continue
        ready = preparation.of(cell)
        seeds = seeds_text(cell.seed, cell.probe_seed)
        journal.doing(f"probing {cell.study.upstream}, {seeds}, for {cell.task}")
        _run_cell(plan, cell, ready, records.get(cell.study.upstream), budget, counts)
        del ready  # what is referred to may not leave the cache
        if monotonic() - shown > REFRESH_S:
            write(plan.request.out, plan.request.command, unfinished(plan))
            shown = monotonic()


def unfinished(plan: Plan) -> str:
    """How many cells of a plan are still to be made; empty when none is."""
    return still_to_make(sum(plan.status(cell) == "missing" for cell in plan.cells), len(plan.cells))


class Preparation:
    """The hidden states of one upstream and seed at a time, and the errors of all that failed."""

    def __init__(self, plan: Plan, budget: Budget, journal: Journal) -> None:
        self.plan, self.budget, self.journal = plan, budget, journal
        self._broken: dict[tuple[str, int], Exception] = {}
        self._held: dict[tuple[str, int], Prepared] = {}

    def of(self, cell: Cell) -> Prepared | Exception:
        """What a cell reads, or the error that came instead."""
        key = (cell.study.upstream, cell.seed)
        if key not in self._held and key not in self._broken:
            self._held.clear()
            self._prepare(cell, key)
        return self._broken[key] if key in self._broken else self._held[key]

    def failed(self, cell: Cell) -> bool:
        """Whether the preparation of a cell was tried, in vain."""
        return (cell.study.upstream, cell.seed) in self._broken

    def _prepare(self, cell: Cell, key: tuple[str, int]) -> None:
        request, study, path = self.plan.request, cell.study, self.plan.path(cell)
        self.journal.doing(f"pre-training and encoding with {study.upstream}, seed {cell.seed}")
        steps = [step for step in self.budget.missing(path) if step.kind != "probe"]
        started = monotonic()
        try:
            ready = prepare(study, self.plan.speech, self.plan.tasks, cell.seed, request.out, request.device)
        except Exception as error:  # whatever it is, the other upstreams go on
            logger.error("%s failed: %s", study.upstream, error)
            self._broken[key] = error
            if steps:
                self.budget.mark(set(steps).difference(steps_of(self.plan, [cell])[path]))
            return
        self._held[key] = ready
        cached = [step for step in steps if step.kind == "extraction" and not ready.num_extracted]
        self.budget.mark(cached)
        self.budget.note([step for step in steps if step not in cached], monotonic() - started)


def _run_cell(
    plan: Plan, cell: Cell, ready: Prepared | Exception, record: Record | None, budget: Budget, counts: Counts
) -> None:
    """Probe, and write the cell or why it failed."""
    request, started = plan.request, monotonic()
    try:
        if isinstance(ready, Exception):
            raise ready
        run_cell(cell, ready, plan.speech, record, request.overrides, request.out, request.device)
        budget.note([step for step in budget.missing(plan.path(cell)) if step.kind == "probe"], monotonic() - started)
        seeds = seeds_text(cell.seed, cell.probe_seed)
        logger.info("%s on %s, %s: done", cell.study.upstream, cell.task, seeds)
        counts.made += 1
    except Exception as error:  # whatever it is, the other cells go on
        if error is not ready:
            logger.error("%s on %s failed: %s", cell.study.upstream, cell.task, error)
        write_failure(cell, error, plan.speech, request.overrides, torch.get_num_threads(), request.device, request.out)
        counts.failed += 1


def _skip(plan: Plan, cell: Cell, reason: str, counts: Counts) -> None:
    request = plan.request
    write_skipped(cell, reason, plan.speech, request.overrides, torch.get_num_threads(), request.device, request.out)
    counts.skipped += 1


def _timed(plan: Plan, names: set[str], budget: Budget, journal: Journal) -> dict[str, Record]:
    """The timing records of upstreams; what is missing is timed now, together with the baseline."""
    missing = {name for name in names if read_record(plan.records[name]) is None}
    if missing:
        journal.doing(f"timing {', '.join(sorted(missing))}")
        started, request = monotonic(), plan.request
        wanted = {name: study for name, study in plan.studies.items() if name in missing | {BASELINE, MEL}}
        time_upstreams(wanted, plan.records, torch.get_num_threads(), request.device, request.overrides)
        steps = {step for path in budget.steps for step in budget.missing(path)}
        done = [step for step in steps if step.kind == "timing" and step.upstream in wanted]
        budget.note(done, monotonic() - started)
    return {name: record for name in names if (record := read_record(plan.records[name])) is not None}
