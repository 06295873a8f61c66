"""Where the work of a grid is done: in this process, in fresh processes of this machine, or by Slurm."""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic, strftime
from typing import Any, Protocol

from .cell import Failure, run_cell
from .cell_spec import Outcome, Spec, main, outcome_path, read_outcome
from .claims import TRIES, claims_of
from .durations import told
from .lane import working
from .prepare import Prepared, Speech, prepare
from .result_files import write_atomically
from .stopwatch import read_record
from .workers import as_worker, fresh_processes

logger = logging.getLogger(__name__)

PRELOADED = ("torch._dynamo", "s3prl_attention.benchmark.cell_spec", "s3prl_attention.downstream.task_expert")
FOLDER = "jobs"  # of a result folder: a folder for each run, of specs, outcomes and logs


@dataclass(frozen=True)
class Job:
    """A piece of work: its spec, and the name of its files in ``jobs/``."""

    spec: Spec
    name: str


class Executor(Protocol):
    """Does jobs; what a failed or killed one leaves behind is an ``Outcome`` like any other."""

    def free(self) -> int:
        """How many jobs it can start now."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin these, as many as are ``free`` at most."""

    def ended(self, wait_s: float) -> list[tuple[Job, Outcome]]:
        """What has ended since the last call, after waiting so long at most for the first."""

    def stop(self) -> None:
        """End what is being done, whatever it is."""


class Inline:
    """One job at a time, in this process, where a debugger sees it: nothing is between a failing cell and the run.

    Args:
        speech: the corpus of all jobs, loaded once.
    """

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._done: list[tuple[Job, Outcome]] = []
        self._held: tuple[tuple[str, int], Prepared] | None = None

    def free(self) -> int:
        """One, until its end is asked for."""
        return 1 - len(self._done)

    def start(self, jobs: Sequence[Job]) -> None:
        """Does them at once."""
        for job in jobs:
            self._done.append((job, self._outcome(job.spec)))

    def ended(self, wait_s: float) -> list[tuple[Job, Outcome]]:
        """There is nothing to wait for."""
        del wait_s
        done, self._done = self._done, []
        return done

    def stop(self) -> None:
        """Nothing runs beside the caller."""

    def _outcome(self, spec: Spec) -> Outcome:
        out = Path(spec.out)
        try:
            with working():
                if spec.kind == "preparation":
                    return Outcome("ok", cached=not self._ready(spec).num_extracted)
                with claims_of(out).hold(Path(spec.result or "").name, tries=TRIES) as ours:
                    if not ours:
                        return Outcome("busy")
                    record = read_record(out / spec.timing) if spec.timing else None
                    run_cell(spec.cell, self._ready(spec), self._speech, record, spec.overrides, out, spec.device)
            return Outcome("ok")
        except Exception as error:  # whatever it is, the other jobs go on
            return Outcome("failed", Failure.of(error))

    def _ready(self, spec: Spec) -> Prepared:
        """Hidden states of one upstream and seed at a time: what is referred to may not leave the cache."""
        key = (spec.upstreams[0], spec.seed)
        if self._held is None or self._held[0] != key:
            self._held = None
            self._held = (
                key,
                prepare(spec.study, self._speech, spec.downstreams, spec.seed, Path(spec.out), spec.device),
            )
        return self._held[1]


@dataclass
class _Running:
    job: Job
    process: Any
    pipe: Connection
    until: float = math.inf  # what it waits for before it begins does not count


class Local:
    """Each job in a fresh process with its own log, a fixed number of threads and a time after which it is ended.

    A process that dies, of the system's lack of memory for example, takes nothing with it but its job; it ends itself
    when this one is gone.

    Args:
        out: the result folder.
        slots: jobs at a time.
        timeout_s: for each; None for no limit.
    """

    def __init__(self, out: Path, slots: int = 1, timeout_s: float | None = None) -> None:
        self._folder, self._slots, self._timeout_s = new_folder(out), slots, timeout_s
        self._context = fresh_processes(PRELOADED)
        self._running: dict[str, _Running] = {}

    def free(self) -> int:
        """Slots without a job."""
        return self._slots - len(self._running)

    def start(self, jobs: Sequence[Job]) -> None:
        """Write each spec, and let a process do it."""
        for job in jobs:
            path = write_spec(self._folder, job)
            if job.spec.kind == "preparation":  # it may take hours
                logger.info("%s: %s", job.spec.title, log_path(path))
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_child, args=(path, log_path(path), theirs, dict(os.environ)))
            process.start()
            theirs.close()
            self._running[job.name] = _Running(job, process, ours)

    def ended(self, wait_s: float) -> list[tuple[Job, Outcome]]:
        """Also ends those whose time is over."""
        for run in self._running.values():
            if math.isinf(run.until) and self._timeout_s is not None and _has_begun(run.pipe):
                run.until = monotonic() + self._timeout_s
        nearest_s = min((run.until for run in self._running.values()), default=0.0) - monotonic()
        wait([run.process.sentinel for run in self._running.values()], max(0.0, min(wait_s, nearest_s)))
        found = []
        for run in list(self._running.values()):
            alive = run.process.is_alive()
            if alive and monotonic() < run.until:
                continue
            self._end(run)
            path = spec_path(self._folder, run.job)
            killed = timed_out(path, self._timeout_s or 0.0) if alive else died(path, run.process.exitcode)
            found.append((run.job, read_outcome(path) or killed))
        return found

    def stop(self) -> None:
        """Kill all."""
        for run in list(self._running.values()):
            self._end(run)

    def _end(self, run: _Running) -> None:
        del self._running[run.job.name]
        run.process.kill()
        run.process.join()
        run.pipe.close()


def timed_out(spec: Path, after_s: float) -> Outcome:
    """The outcome of a process that was ended because it took too long."""
    reason = f"it was not done after {told(after_s)} and was ended: --timeout allows more; its log is {log_path(spec)}"
    return Outcome("failed", Failure(reason, status="timeout"))


def died(spec: Path, exit_code: int) -> Outcome:
    """The outcome of a process that told none."""
    killed = exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    why = "it was killed, as the system does when memory runs out" if killed else f"exit code {exit_code}"
    lines = _last_lines(log_path(spec))
    reason = f"its process died ({why}); {log_path(spec)}" + (
        f" ends with: {lines[-1]}" if lines and not killed else ""
    )
    return Outcome("failed", Failure(reason, "\n".join(lines)))


def new_folder(out: Path) -> Path:
    """Where the files of a run's jobs go: other runs have jobs of the same names."""
    return out / FOLDER / f"{strftime('%Y%m%d-%H%M%S')}-{platform.node() or 'localhost'}-{os.getpid()}"


def spec_path(folder: Path, job: Job) -> Path:
    """Where the spec of a job goes."""
    return folder / f"{job.name}.json"


def _has_begun(pipe: Connection) -> bool:
    """Whether the job has said so."""
    try:
        return pipe.poll() and bool(pipe.recv_bytes())
    except (EOFError, OSError):  # it has ended
        return False


def log_path(spec: Path) -> Path:
    """Where what a job prints goes: beside its spec."""
    return spec.with_suffix(".log")


def write_spec(folder: Path, job: Job) -> Path:
    """Write the spec of a job; an outcome of an earlier try is removed."""
    path = spec_path(folder, job)
    write_atomically(path, job.spec.text.encode())
    outcome_path(path).unlink(missing_ok=True)
    return path


def print_to(log: Path) -> None:
    """Let all that this process prints go to a log."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)


def _last_lines(log: Path, count: int = 40) -> list[str]:
    try:
        return [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][
            -count:
        ]
    except OSError:
        return []


def _child(spec: Path, log: Path, pipe: Connection, environ: dict[str, str]) -> None:
    """A fresh process: everything that it prints goes to the log. The server that forked it may be older than the
    parent's environment."""
    os.environ.clear()
    os.environ.update(environ)
    as_worker()
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    print_to(log)
    faulthandler.enable()
    sys.exit(main([str(spec)], begun=lambda: pipe.send_bytes(b"begun")))


def _end_with_parent(pipe: Connection) -> None:
    """Wait for the other end of the pipe to close, as it does when the parent ends, however that comes."""
    with suppress(EOFError, OSError):
        pipe.recv_bytes()
    os._exit(128 + signal.SIGTERM)
