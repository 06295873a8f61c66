"""A cell as a file in and a file out: the spec says what to make, the result file or the outcome what came of it.

    python -m s3prl_attention.benchmark.cell result/jobs/RUN/NAME.json

A benchmark run writes these specs to ``jobs/`` of its result folder, with a log beside each. A spec can be run again by
hand or by any scheduler: what is finished is not made anew, and what another process is making is left to it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch

from ..upstream.printable import printable
from .cell import Cell, Failure, run_cell, status, write_failure
from .claims import TRIES, claims_of
from .command_line import INTERRUPTED
from .lane import working
from .names import MEL, seeds_text
from .plan import Request, make_plan
from .prepare import Speech, load_speech, prepare
from .result_files import write_atomically
from .settings import Study, load_study
from .stopwatch import read_record, time_upstreams

SCHEMA = 1
KINDS = ("timing", "preparation", "cell")
BUSY = 3  # the exit code when another process is making the cell


@dataclass(frozen=True)
class Spec:
    """What one process is to do.

    Args:
        kind: one of ``KINDS``: time upstreams; pre-train one and extract its hidden states; probe them.
        out: the result folder, absolute.
        preset, overrides, device: as in ``Request``.
        upstreams: to time, or the one of a preparation or a cell.
        downstreams: all tasks of the run, whose utterances a preparation encodes.
        task, seed, probe_seed: of a cell.
        threads: that this process may use.
        timing: the file with the times of the upstream, below ``out``; None when it was not timed.
        result: the cell's file below ``out``, whose name changes with all that decides its scores.
    """

    kind: str
    out: str
    preset: str
    upstreams: Sequence[str]
    downstreams: Sequence[str]
    overrides: Sequence[str]
    device: str
    threads: int
    task: str = ""
    seed: int = 0
    probe_seed: int = 0
    timing: str | None = None
    result: str | None = None

    @cached_property
    def study(self) -> Study:
        """Of the upstream."""
        return load_study(self.upstreams[0], self.preset, self.overrides)

    @cached_property
    def speech(self) -> Speech:
        """The corpus."""
        return load_speech(load_study(MEL, self.preset, self.overrides).recipe.data)

    @property
    def cell(self) -> Cell:
        """What its result file is about."""
        return Cell(self.study, self.task, self.seed, self.probe_seed)

    @property
    def title(self) -> str:
        """For people."""
        if self.kind == "timing":
            return f"timing {', '.join(self.upstreams)}"
        if self.kind == "preparation":
            return f"pre-training and encoding with {self.upstreams[0]}, seed {self.seed}"
        return f"probing {self.upstreams[0]}, {seeds_text(self.seed, self.probe_seed)}, for {self.task}"

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Outcome:
    """What came of a spec.

    Args:
        status: that of a cell, or ``busy`` when another process is at it.
        failure: None where nothing failed.
        cached: of a preparation: no utterance had to be encoded.
        made: of a cell: it was not finished before.
        records: of a timing: where the times of each upstream are, below ``out``.
    """

    status: str
    failure: Failure | None = None
    cached: bool = False
    made: bool = True
    records: dict[str, str] | None = None


def read_spec(path: Path) -> Spec:
    """The spec in a file; ``ValueError`` names the file and what is wrong with it."""
    cure = "let run_benchmark.py write it again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no readable spec of a cell ({error}): {cure}") from error
    schema = content.pop("schema", None) if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} is no spec of a cell with schema {SCHEMA}, which this version reads: {cure}")
    kinds = {"kind": str, "out": str, "preset": str, "device": str, "task": str, "threads": int, "seed": int}
    kinds |= {"probe_seed": int, "upstreams": list, "downstreams": list, "overrides": list}
    wrong = [name for name, kind in kinds.items() if type(content.get(name)) is not kind]
    wrong += [name for name in ("upstreams", "downstreams", "overrides") if not _texts(content.get(name))]
    wrong += [name for name in ("timing", "result") if not isinstance(content.get(name), (str, type(None)))]
    wrong += sorted(set(content) - set(kinds) - {"timing", "result"})
    if wrong or content["kind"] not in KINDS or not content["upstreams"] or content["threads"] < 1:
        told = ", ".join(dict.fromkeys(wrong)) or "kind, upstreams or threads"
        raise ValueError(f"{path}: {told} of the spec cannot be used: {cure}")
    return Spec(**content)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def run_spec(spec: Spec, begun: Callable[[], None] = lambda: None) -> Outcome:
    """Do what a spec says, and call ``begun`` after having waited for others. A cell that fails is recorded as failed;
    errors of the disk pass."""
    torch.set_num_threads(spec.threads)
    try:
        if spec.kind == "timing":
            return _timed(spec)
        if spec.kind == "preparation":
            with working():
                begun()
                ready = prepare(*_prepared_of(spec))
            return Outcome("ok", cached=not ready.num_extracted)
        return _made(spec, begun)
    except Exception as error:  # whatever it is, the others go on
        return Outcome("failed", Failure.of(error))


def _prepared_of(spec: Spec) -> tuple[Study, Speech, Sequence[str], int, Path, str]:
    return spec.study, spec.speech, spec.downstreams, spec.seed, Path(spec.out), spec.device


def _timed(spec: Spec) -> Outcome:
    out = Path(spec.out)
    request = Request(
        spec.preset, out, spec.upstreams, spec.downstreams, overrides=spec.overrides, device=spec.device
    )  # fmt: skip
    plan = make_plan(request)
    time_upstreams(plan.studies, plan.records, spec.threads, spec.device, spec.overrides)
    found = {name: path.relative_to(out).as_posix() for name, path in plan.records.items() if read_record(path)}
    return Outcome("ok", records=found)


def _made(spec: Spec, begun: Callable[[], None]) -> Outcome:
    """The cell, unless it is finished or another process has claimed it."""
    out = Path(spec.out)
    cell = spec.cell
    path = cell.path(out, spec.speech)
    if spec.result is not None and path != out / spec.result:
        raise ValueError(
            f"this spec is about {spec.result}, and code, data and configuration here make {path.name}: let "
            "run_benchmark.py write it again"
        )
    with claims_of(out).hold(path.name, tries=TRIES) as ours:
        if not ours:
            return Outcome("busy")
        if status(path) == "ok":
            return Outcome("ok", made=False)
        record = read_record(out / spec.timing) if spec.timing else None
        try:
            with working():
                begun()
                ready = prepare(*_prepared_of(spec))
                run_cell(cell, ready, spec.speech, record, spec.overrides, out, spec.device)
        except Exception as error:  # it is recorded, and the other cells go on
            failure = Failure.of(error)
            with contextlib.suppress(OSError):  # a full disk, which the failure itself may tell
                write_failure(cell, failure, spec.speech, spec.overrides, spec.threads, spec.device, out)
            return Outcome("failed", failure)
    return Outcome("ok")


def outcome_path(spec: Path) -> Path:
    """Where the outcome of a spec goes: beside it."""
    return spec.with_suffix(".outcome.json")


def write_outcome(spec: Path, outcome: Outcome) -> None:
    """Tell what came of a spec."""
    write_atomically(outcome_path(spec), json.dumps(asdict(outcome)).encode())


def read_outcome(spec: Path) -> Outcome | None:
    """What came of a spec; None when its process ended without telling."""
    try:
        content = json.loads(outcome_path(spec).read_text(encoding="utf-8"))
        failure = content.pop("failure")
        return Outcome(**content, failure=Failure(**failure) if failure else None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def main(arguments: Sequence[str] | None = None, begun: Callable[[], None] = lambda: None) -> int:
    """Make what a spec says; returns the exit code: 0 it is there, 1 it failed, 2 the spec is wrong, 3 another process
    is making it."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.cell", description=__doc__.split("\n")[0]
    )
    parser.add_argument("spec", type=Path, help="a file that run_benchmark.py wrote to jobs/ of its result folder")
    path = parser.parse_args(arguments).spec
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from ..upstream.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        spec = read_spec(path)
        outcome = run_spec(spec, begun)
        write_outcome(path, outcome)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:  # a wrong spec, a full disk
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    if outcome.failure is not None:
        print(outcome.failure.traceback, file=sys.stderr)
        print(f"{spec.title}: failed: {outcome.failure.reason}", file=sys.stderr)
        return 1
    told = {"busy": "another process is at it", "ok": "done" if outcome.made else "was finished before"}
    print(f"{spec.title}: {told[outcome.status]}")
    return BUSY if outcome.status == "busy" else 0
