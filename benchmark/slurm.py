"""Jobs through Slurm, by submitit: pre-trainings and cells as job arrays, timing alone on a node.

    python run_benchmark.py --executor slurm slurm.partition=cpu slurm.cpus_per_task=8

The command stays until all is done. Ctrl-C and SIGTERM cancel its jobs; when it is killed (SIGKILL) or its machine
fails they go on. Either way the same command finds what they made.
The result folder and ``$S3PRL_ATTENTION_CACHE`` must be on file systems that all nodes see.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from ..recipes.config import parse_overrides
from ..upstream.options import typed
from .cell import Failure
from .cell_spec import Outcome, main, read_outcome, write_outcome
from .executors import Job, died, log_path, new_folder, print_to, timed_out, write_spec

logger = logging.getLogger(__name__)

LOOK_S = 2.0  # between two questions to Slurm
GONE_S = 90.0  # how long the outcome of an ended job may take to be seen on a network file system
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "RESIZING", "STAGE_OUT")
ARRAY = 1000  # jobs in an array at most, Slurm's own default


@dataclass(frozen=True)
class SlurmSettings:
    """Resources of a job, and where it runs; the defaults of a preset are in ``SIZES``.

    Args:
        partition, account, qos, constraint: as for sbatch; empty for the cluster's default.
        cpus_per_task: cores, which are the threads of the job.
        mem_gb: memory.
        gpus_per_node: 0 for none.
        timeout_min: minutes after which Slurm ends the job.
        array_parallelism: jobs of an array that may run at a time.
        setup: shell lines before the job, such as ``module load``.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    cpus_per_task: int = 2
    mem_gb: int = 4
    gpus_per_node: int = 0
    timeout_min: int = 60
    array_parallelism: int = 64
    setup: list[str] = field(default_factory=list)


SIZES = {  # of the presets; others have the defaults
    "smoke": SlurmSettings(cpus_per_task=1, mem_gb=2, timeout_min=20),
    "demo": SlurmSettings(cpus_per_task=2, mem_gb=4, timeout_min=4 * 60),
    "study": SlurmSettings(cpus_per_task=4, mem_gb=16, timeout_min=24 * 60),
    "paper": SlurmSettings(cpus_per_task=8, mem_gb=64, gpus_per_node=1, timeout_min=72 * 60),
}


def load_settings(preset: str, device: str, words: Sequence[str] = ()) -> SlurmSettings:
    """Those of a preset, whose GPUs are for ``device`` cuda, with ``slurm.option=value`` words; ``ValueError`` for an
    unknown option or a wrong type."""
    given = parse_overrides(words, ("slurm",)).get("slurm", {})
    usual = asdict(SIZES.get(preset, SlurmSettings())) | ({"gpus_per_node": 0} if device == "cpu" else {})
    found = typed(SlurmSettings, usual | given, "slurm")
    if (
        min(found.cpus_per_task, found.mem_gb, found.timeout_min, found.array_parallelism) < 1
        or found.gpus_per_node < 0
    ):
        raise ValueError(f"slurm: cores, memory, minutes and parallel jobs must be at least 1, got {found}")
    return found


def import_submitit() -> Any:
    """submitit; ``ValueError`` with the cure where it is not installed."""
    try:
        import submitit
    except ImportError:
        raise ValueError("--executor slurm needs submitit: pip install 's3prl-attention[slurm]'") from None
    return submitit


class Slurm:
    """Every job that can be started is; Slurm decides when.

    Args:
        out: the result folder.
        settings: resources of each job.
        timeout_s: for each job, instead of the settings'.
    """

    def __init__(self, out: Path, settings: SlurmSettings, timeout_s: float | None = None) -> None:
        self._submitit, self._folder = import_submitit(), new_folder(out)
        minutes = settings.timeout_min if timeout_s is None else max(1, round(timeout_s / 60))
        self._settings = replace(settings, timeout_min=minutes)
        self._running: dict[str, tuple[Job, Path, Any]] = {}
        self._lost_at: dict[str, float] = {}

    def free(self) -> int:
        """As many as an array may have."""
        return ARRAY

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit them as one array, a timing as a job that has its node to itself."""
        paths = [write_spec(self._folder, job) for job in jobs]
        exclusive = any(job.spec.kind == "timing" for job in jobs)
        executor = self._executor(exclusive)
        submitted = executor.map_array(_work, [str(path.absolute()) for path in paths])
        logger.info("Slurm: jobs %s", ", ".join(job.job_id for job in submitted))
        for job, path, handle in zip(jobs, paths, submitted, strict=True):
            self._running[job.name] = (job, path, handle)

    def ended(self, wait_s: float) -> list[tuple[Job, Outcome]]:
        """Ask Slurm at most every two seconds."""
        if self._running:
            sleep(max(wait_s, LOOK_S))
        states = self._states()
        if states is None:
            return []
        found = []
        for name, (job, path, handle) in list(self._running.items()):
            outcome = read_outcome(path) or self._ended(name, path, states.get(handle.job_id, ""))
            if outcome is not None:
                del self._running[name]
                found.append((job, outcome))
        return found

    def stop(self) -> None:
        """Cancel what has not ended."""
        for _, _, handle in self._running.values():
            handle.cancel(check=False)
        self._running.clear()

    def _states(self) -> dict[str, str] | None:
        """Of all jobs that Slurm still knows, by id: for some minutes also those that have ended. None where Slurm does
        not answer."""
        ids = ",".join(handle.job_id for _, _, handle in self._running.values())
        command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={ids}"]
        if not ids:
            return {}
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Invalid job id" not in done.stderr:
            logger.warning("Slurm does not answer, asking again: %s", done.stderr.strip()[:200])
            return None
        return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line.strip())

    def _ended(self, name: str, path: Path, state: str) -> Outcome | None:
        """The outcome of a job that told none; None while it may still do so."""
        if state in ALIVE:
            self._lost_at.pop(name, None)
            return None
        if monotonic() - self._lost_at.setdefault(name, monotonic()) < GONE_S:
            return None  # what it wrote may be on its way
        if state == "TIMEOUT":
            return timed_out(path, 60.0 * self._settings.timeout_min)
        outcome = died(path, 137 if state == "OUT_OF_MEMORY" else 1)
        assert outcome.failure is not None
        told = f"Slurm: {state or 'unknown job'}: {outcome.failure.reason}"
        return replace(outcome, failure=replace(outcome.failure, reason=told))

    def _executor(self, exclusive: bool) -> Any:
        settings, folder = self._settings, self._folder / "slurm"
        executor = self._submitit.SlurmExecutor(folder=folder.absolute())
        named = {"partition": settings.partition, "account": settings.account, "qos": settings.qos}
        named["constraint"] = settings.constraint
        more: dict[str, Any] = {name: value for name, value in named.items() if value}
        if settings.gpus_per_node:
            more["gpus_per_node"] = settings.gpus_per_node
        if exclusive:
            more["exclusive"] = True
        executor.update_parameters(
            job_name="s3prl-attention",
            nodes=1,
            ntasks_per_node=1,
            cpus_per_task=settings.cpus_per_task,
            mem=f"{settings.mem_gb}GB",
            time=settings.timeout_min,
            array_parallelism=settings.array_parallelism,
            signal_delay_s=min(90, 30 * settings.timeout_min),
            setup=[*settings.setup, f"export OMP_NUM_THREADS={settings.cpus_per_task}"],
            **more,
        )
        return executor


def _work(spec: str) -> int:
    """On the node: what the spec says, with all that is printed in a log beside it."""
    print_to(log_path(Path(spec)))

    def end(number: int, frame: Any) -> None:
        """Slurm is about to end the job: by its time limit, or for one that comes first."""
        outcome = Outcome(
            "failed", Failure("Slurm ended it: slurm.timeout_min or --timeout allows more", status="timeout")
        )
        write_outcome(Path(spec), outcome)
        os._exit(1)

    signal.signal(signal.SIGUSR2, end)
    return main([spec])
