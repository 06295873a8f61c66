"""A grid whose pre-training and probes are made up, so that its order, its failures and its budget can be tested."""

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from benchmark_fixtures import make_cell, outcomes
from s3prl_attention.benchmark import executors, grid, schedule
from s3prl_attention.benchmark.cell import Cell
from s3prl_attention.benchmark.leaderboard import Written
from s3prl_attention.benchmark.plan import Plan
from s3prl_attention.benchmark.result_files import write_cell, write_utterances

UPSTREAMS = ("fixed_init", "mean_map")
TASKS = ("phone_linear", "speaker")


@dataclass
class Ready:
    """What a cell reads."""

    upstream: str
    seed: int
    num_extracted: int = 1


class FakeWork:
    """Takes the place of preparing, probing, timing and the clock; ``calls`` tells what was asked for.

    Args:
        patch: of the test.
        prepare_s: seconds on the fake clock for each, a fifth for ``mel``; none when it is asked again.
        probe_s: likewise, for each task.
        broken: upstreams whose preparation fails at once.
        cached: upstreams that are prepared already.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        prepare_s: float = 0.0,
        probe_s: float = 0.0,
        broken: tuple[str, ...] = (),
        cached: tuple[str, ...] = (),
    ) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.handed_out: list[weakref.ref[Ready]] = []
        self.now_s, self.prepare_s, self.probe_s = 0.0, prepare_s, probe_s
        self.broken, self.cached = broken, cached
        patch.setattr(executors, "prepare", self.prepare)
        patch.setattr(executors, "run_cell", self.run_cell)
        patch.setattr(grid, "time_upstreams", lambda studies, *_: self.calls.append(("time", *sorted(studies))))
        for module in (grid, schedule):
            patch.setattr(module, "monotonic", lambda: self.now_s)
        patch.setattr(schedule, "sleep", self.no_pause)
        self.pages: list[str] = []  # what each leaderboard calls unfinished
        patch.setattr(grid, "write", self.write)

    def write(self, out: Path, command: str | None, unfinished: str) -> Written:  # pictures take seconds
        del command
        self.pages.append(unfinished)
        return Written(out, out, out, None, [], [])

    def prepare(self, study: Any, speech: Any, tasks: Any, seed: int, out: Path, device: str) -> Ready:
        assert not any(ready() for ready in self.handed_out), "hidden states are held that nobody reads any more"
        known = study.upstream in self.cached or ("prepare", study.upstream, seed) in self.calls  # all is on disk
        self.calls.append(("prepare", study.upstream, seed))
        if study.upstream in self.broken:
            raise RuntimeError("planted: no memory")
        self.now_s += 0.0 if known else self.prepare_s * (0.2 if study.upstream == "mel" else 1.0)
        ready = Ready(study.upstream, seed, 0 if known else 1)
        self.handed_out.append(weakref.ref(ready))
        return ready

    def run_cell(self, cell: Cell, prepared: Any, speech: Any, record: Any, overrides: Any, out: Path, *_: Any) -> None:
        assert (prepared.upstream, prepared.seed) == (cell.study.upstream, cell.seed)
        self.calls.append(("probe", cell.study.upstream, cell.task, cell.seed, cell.probe_seed))
        self.now_s += self.probe_s
        write_ok(cell.path(out, speech), cell.key(speech))

    def no_pause(self, seconds: float) -> None:
        raise AssertionError("it waits for another process, and there is none")

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == kind]


def write_ok(path: Path, key: dict[str, Any]) -> None:
    """A finished cell with made-up numbers."""
    cell = make_cell()
    cell["cell"] = key
    cell["scores"]["utterances"] = path.with_suffix(".csv").name
    write_utterances(path.with_suffix(".csv"), outcomes(0.55))
    write_cell(path, cell)


def statuses(plan: Plan) -> dict[tuple[str, str, int, int], str]:
    """By upstream, task, seed and probe seed."""
    return {(c.study.upstream, c.task, c.seed, c.probe_seed): plan.status(c) for c in plan.cells}
