"""A run within a given time: which cells come first, which still fit, and what is told of the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from .cell import Cell
from .durations import told
from .estimate import Estimate
from .plan import Plan
from .steps import Step

TRAINING = "pre-training"  # this phase takes the whole time of a preparation that includes some
BLUR_S = 1.0  # of a phase: so much more or less says nothing about its pace
MEASURING = 0.5  # of the budget: the upstreams that are not measured by then are not tried


@dataclass
class Budget:
    """What is left of the time, and what each cell still needs of it; estimates follow what steps really took.

    Args:
        total_s: from ``started`` on; infinite for a run without a budget, which needs no estimate.
        started: on ``clock``.
        clock: tells the time.
        steps: what each cell needs, by the path of its result.
        estimate: of the steps.
        slots: steps that are done at a time.
    """

    total_s: float
    started: float
    clock: Callable[[], float] = monotonic
    steps: dict[Path, tuple[Step, ...]] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=Estimate)
    slots: int = 1
    _done: set[Step] = field(default_factory=set)
    _clocked: dict[str, tuple[float, float]] = field(default_factory=dict)  # phase -> seconds: real, expected

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return math.isfinite(self.total_s)

    def left_s(self) -> float:
        """Seconds until the budget ends."""
        return self.total_s - (self.clock() - self.started)

    def missing(self, path: Path) -> list[Step]:
        """The steps of a cell that have not been done in this run either."""
        return [step for step in self.steps.get(path, ()) if step not in self._done]

    def untimed(self, path: Path) -> bool:
        """Whether a cell still needs the timing lane."""
        return any(step.kind == "timing" for step in self.missing(path))

    def need_s(self, steps: Iterable[Step]) -> float:
        """Seconds that steps will take, at the pace of those of their kind that are done."""
        return sum(self.estimate.seconds[step] * self._pace(step) for step in steps)

    def fits(self, path: Path) -> bool:
        """Whether a cell can be made in what is left."""
        return not self.limited or self.need_s(self.missing(path)) <= self.left_s()

    def affordable(self, paths: Sequence[Path]) -> list[Path]:
        """Those that fit when they are made one after the other, each step once."""
        left_s, spent, chosen = self.left_s() * self.slots, set(self._done), []
        for path in paths:
            steps = [step for step in self.steps.get(path, ()) if step not in spent]
            need_s = self.need_s(steps) if self.limited else 0.0
            if need_s <= left_s:
                left_s -= need_s
                spent.update(steps)
                chosen.append(path)
        return chosen

    def mark(self, steps: Iterable[Step]) -> None:
        """These steps are done, but what they took says nothing about the pace of others."""
        self._done.update(steps)

    def note(self, steps: Sequence[Step], real_s: float) -> None:
        """These steps, all of one phase, are done and took ``real_s`` together, which sets the pace of their phase, if
        they were all measured: what could not be counts as 0 s, or as infinite."""
        self.mark(steps)
        expected_s = [self.estimate.seconds.get(step, 0.0) for step in steps]
        if steps and all(0 < seconds < math.inf for seconds in expected_s):
            phase = min((_phase(step) for step in steps), key=lambda phase: phase != TRAINING)
            real, expected = self._clocked.get(phase, (BLUR_S * self._sharing(phase), BLUR_S))
            self._clocked[phase] = (real + real_s, expected + sum(expected_s))

    def reason(self, path: Path, every: Iterable[Path]) -> str:
        """Why a cell is not made once the timing lane is over, and with what it would be; ``every``: the cells that are
        not made so far."""
        need_s = self.need_s(self.missing(path))
        if not math.isfinite(need_s):
            return f"budget {told(self.total_s)}: measuring was stopped after half of it, before {path.name} came"
        whole_s = self.need_s({step for other in every for step in self.missing(other)})
        again_s = 1.1 * (self.estimate.measured_s + whole_s)  # the next run measures anew
        wanted = f"--budget {math.ceil(again_s / 60)}m" if math.isfinite(again_s) else "a larger --budget"
        why = f"this cell needs about {told(need_s)}, more than was left"
        if self.untimed(path):
            why = "its upstream was not timed, because it did not seem to fit at the start"
        return f"budget {told(self.total_s)}: {why}; {wanted}, or no budget, makes all that is missing"

    def _pace(self, step: Step) -> float:
        real, expected = self._clocked.get(_phase(step), (self._sharing(_phase(step)), 1.0))
        return real / expected

    def _sharing(self, phase: str) -> float:
        """How much longer a step takes than measured when others share the cores with it."""
        return 1.0 if phase == "timing" else float(self.slots)


def _phase(step: Step) -> str:
    """What goes at one pace: the timing lane, all that goes with pre-training, encoding, the probes of a task."""
    if step.kind in ("pre-training", "mean maps"):
        return TRAINING
    return f"probe {step.task}" if step.kind == "probe" else step.kind


def coarse_first(plan: Plan, cells: Iterable[Cell], budget: Budget) -> list[Cell]:
    """Seed by seed; within a seed the cheapest task on all upstreams, cheapest upstream first, then the next task."""
    seconds: dict[str, list[float]] = {}
    others: dict[Path, float] = {}
    waiting = list(cells)
    for cell in waiting:
        path = plan.path(cell)
        *shared, probe = budget.steps[path]
        seconds.setdefault(cell.task, []).append(budget.estimate.seconds[probe])
        others[path] = budget.need_s(shared)
    task_s = {task: statistics.median(found) for task, found in seconds.items()}
    return sorted(waiting, key=lambda cell: (plan.turn(cell), task_s[cell.task], cell.task, others[plan.path(cell)]))
