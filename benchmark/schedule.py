"""Which pieces of a grid are done when: every cell once, after the preparation that it shares with its neighbours."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic, sleep

import torch

from .budget import Budget
from .cell import Cell, Failure, write_failure, write_skipped
from .cell_spec import Outcome, Spec
from .claims import claims_of
from .executors import Executor, Job
from .names import is_pretrained, seeds_text
from .plan import Plan
from .prepare import run_name, source_of_maps
from .request_file import Journal
from .steps import steps_of

logger = logging.getLogger(__name__)

WAIT_S = 1.0  # between two looks at what other processes have finished

Group = tuple[str, int]  # upstream and seed of pre-training: cells that share a preparation


@dataclass
class Counts:
    """Cells of a run by what became of them."""

    made: int = 0
    failed: int = 0
    skipped: int = 0


class Schedule:
    """Makes cells by an executor, in their order as far as slots and preparations allow. A preparation that failed is
    not tried again. What another process is making is left to it, and looked at again when nothing else is left.

    Args:
        plan: of the run.
        cells: those to make, in order.
        budget: what may still be begun.
        journal: told what is being done.
        counts: of the run.
        timings: for each upstream that was timed, the file below the result folder.
        executor: does the work; stopped at the end.
        threads: of each process.
    """

    def __init__(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        budget: Budget,
        journal: Journal,
        counts: Counts,
        timings: Mapping[str, str],
        executor: Executor,
        threads: int,
    ) -> None:
        self.plan, self.budget, self.journal, self.counts = plan, budget, journal, counts
        self.timings, self.executor, self.threads = timings, executor, threads
        self._waiting = list(cells)
        self._ready: set[Group] = set()
        self._broken: dict[Group, Failure] = {}
        self._running: dict[str, tuple[Cell, Job, float]] = {}
        self._claims = claims_of(plan.request.out)
        self._told: set[str] = set()

    @property
    def waiting(self) -> int:
        """Cells that are not settled yet."""
        return len(self._waiting) + sum(job.spec.kind == "cell" for _, job, _ in self._running.values())

    def step(self) -> bool:
        """Start what can be started and take in what has ended; False when there is nothing left."""
        jobs = self._jobs()
        if jobs:
            self.journal.doing("; ".join(job.spec.title for _, job, _ in self._running.values()))
            self.executor.start(jobs)
        done = self.executor.ended(WAIT_S)
        for job, outcome in done:
            cell, _, started = self._running.pop(job.name)
            ended = self._prepared if job.spec.kind == "preparation" else self._probed
            ended(cell, outcome, monotonic() - started)
        if self._waiting and not (self._running or jobs or done):
            self._wait_for_others()
        return bool(self._waiting or self._running)

    def _jobs(self) -> list[Job]:
        """As many as the executor can start."""
        jobs: list[Job] = []
        for cell in list(self._waiting):
            if len(jobs) >= self.executor.free():
                break
            job = self._job(cell)
            if job is not None:
                self._running[job.name] = (cell, job, monotonic())
                jobs.append(job)
                if job.spec.kind == "cell":
                    self._waiting.remove(cell)
        return jobs

    def _job(self, cell: Cell) -> Job | None:
        """What is to be done for a cell now; None when it has to wait, or is settled without work."""
        group, path = _group(cell), self.plan.path(cell)
        if any(job.spec.kind == "preparation" and _group(other) == group for other, job, _ in self._running.values()):
            return None
        if self._claims.taken(path.name):
            return None
        if self.plan.status(cell) == "ok":
            self._waiting.remove(cell)
            return None
        if group in self._broken:
            self._waiting.remove(cell)
            self._fail(cell, self._broken[group])
            return None
        if group not in self._ready and self._prepared_elsewhere(cell):
            return None
        if not self.budget.fits(path) or self.budget.untimed(path):  # the lane is over
            reason = self.budget.reason(path, [self.plan.path(other) for other in self._waiting])
            self._waiting.remove(cell)
            skip(self.plan, cell, reason, self.counts)
            return None
        if group in self._ready:
            return Job(self._spec("cell", cell), path.stem)
        return Job(self._spec("preparation", cell), run_name(cell.study, self.plan.speech, cell.seed))

    def _prepared_elsewhere(self, cell: Cell) -> bool:
        """Whether another process is at the pre-training of a cell, or of the upstream whose maps it needs; what others
        have finished need not be paid for."""
        source = source_of_maps(cell.study) if is_pretrained(cell.study.upstream) else None
        for study in filter(None, (cell.study, source)):
            if self._claims.taken(run_name(study, self.plan.speech, cell.seed)):
                return True
        if self.budget.limited:
            path = self.plan.path(cell)
            self.budget.mark(set(self.budget.missing(path)).difference(steps_of(self.plan, [cell])[path]))
        return False

    def _spec(self, kind: str, cell: Cell) -> Spec:
        probing = kind == "cell"
        return replace(
            _spec(self.plan, kind, [cell.study.upstream], self.threads),
            seed=cell.seed,
            task=cell.task if probing else "",
            probe_seed=cell.probe_seed if probing else 0,
            timing=self.timings.get(cell.study.upstream) if probing else None,
            result=self.plan.path(cell).relative_to(self.plan.request.out).as_posix() if probing else None,
        )

    def _prepared(self, cell: Cell, outcome: Outcome, took_s: float) -> None:
        path = self.plan.path(cell)
        steps = [step for step in self.budget.missing(path) if step.kind != "probe"]
        if outcome.failure is not None:  # whatever it is, the other upstreams go on
            logger.error("%s failed: %s", cell.study.upstream, outcome.failure.reason)
            self._broken[_group(cell)] = outcome.failure
            if steps:
                self.budget.mark(set(steps).difference(steps_of(self.plan, [cell])[path]))
            return
        self._ready.add(_group(cell))
        cached = [step for step in steps if step.kind == "extraction" and outcome.cached]
        self.budget.mark(cached)
        self.budget.note([step for step in steps if step not in cached], took_s)

    def _probed(self, cell: Cell, outcome: Outcome, took_s: float) -> None:
        name = f"{cell.study.upstream} on {cell.task}"
        if outcome.status == "busy":  # another process was faster
            self._waiting.append(cell)
        elif outcome.failure is not None:
            logger.error("%s failed: %s", name, outcome.failure.reason)
            self._fail(cell, outcome.failure)
        elif outcome.made:
            probes = [step for step in self.budget.missing(self.plan.path(cell)) if step.kind == "probe"]
            self.budget.note(probes, took_s)
            logger.info("%s, %s: done", name, seeds_text(cell.seed, cell.probe_seed))
            self.counts.made += 1

    def _fail(self, cell: Cell, failure: Failure) -> None:
        request, threads = self.plan.request, self.threads
        with self._claims.hold(self.plan.path(cell).name) as ours:
            if not ours:
                self._waiting.append(cell)  # another process is making it
            elif self.plan.status(cell) != "ok":
                write_failure(cell, failure, self.plan.speech, request.overrides, threads, request.device, request.out)
                self.counts.failed += 1

    def _wait_for_others(self) -> None:
        """Say once for what, and pause: the executor had nothing to wait for."""
        path = self.plan.path(self._waiting[0])
        if path.stem not in self._told:
            self._told.add(path.stem)
            logger.info("waiting for another process that is making %s", path.stem)
        sleep(WAIT_S)


def timed_elsewhere(plan: Plan, upstreams: Sequence[str], executor: Executor, threads: int) -> dict[str, str]:
    """Let an executor time upstreams; the file of each, below the result folder. ``ValueError`` when that fails."""
    executor.start([Job(_spec(plan, "timing", upstreams, threads), "timing")])
    while not (ended := executor.ended(WAIT_S)):
        pass
    ((_, outcome),) = ended
    if outcome.failure is not None:
        raise ValueError(f"timing failed: {outcome.failure.reason}")
    return outcome.records or {}


def _spec(plan: Plan, kind: str, upstreams: Sequence[str], threads: int) -> Spec:
    """What all specs of a plan have in common."""
    request = plan.request
    return Spec(
        kind=kind,
        out=str(request.out.absolute()),
        preset=request.preset,
        upstreams=list(upstreams),
        downstreams=list(plan.tasks),
        overrides=list(request.overrides),
        device=request.device,
        threads=threads,
    )


def skip(plan: Plan, cell: Cell, reason: str, counts: Counts) -> None:
    """Record that a cell is not tried, and why."""
    request = plan.request
    write_skipped(cell, reason, plan.speech, request.overrides, torch.get_num_threads(), request.device, request.out)
    counts.skipped += 1


def _group(cell: Cell) -> Group:
    return cell.study.upstream, cell.seed
