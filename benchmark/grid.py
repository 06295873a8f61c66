"""The whole run: every upstream on every task; finished cells stay, failures are recorded, a leaderboard ends it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch

from .. import downstream
from ..recipes.pretrain import check_device
from ..upstream.plugins import UPSTREAMS
from .cell import Cell, finished, run_cell, write_failure
from .environment import describe
from .leaderboard import Written, write
from .prepare import Speech, load_speech, prepare
from .settings import BASELINE, MEL, Study, check_overrides, load_study
from .stopwatch import Record, read_record, time_upstreams, timing_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What one command asks for. ``upstreams`` and ``downstreams`` empty: all of them."""

    preset: str
    out: Path
    upstreams: Sequence[str] = ()
    downstreams: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    overrides: Sequence[str] = field(default=())
    device: str = "cpu"
    command: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run made: the leaderboard's files, and how many cells were asked for, made now, and failed."""

    written: Written
    num_cells: int
    num_made: int
    num_failed: int


def run(request: Request) -> Outcome:
    """Do what is missing of a request; ``KeyboardInterrupt`` passes through, with all finished cells on disk.

    Raises:
        ValueError: before any work, for a wrong name, option or corpus.
    """
    upstreams = [UPSTREAMS.check(name) for name in request.upstreams or UPSTREAMS.names() if name != MEL]
    tasks = [downstream.TASKS.check(name) for name in request.downstreams or downstream.names()]
    check_overrides(upstreams, request.overrides)
    check_device(request.device)
    studies = {name: load_study(name, request.preset, request.overrides) for name in (*upstreams, MEL, BASELINE)}
    speech = load_speech(studies[MEL].recipe.data)
    request.out.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(studies[name], task, seed, probe_seed)
        for name in dict.fromkeys([*upstreams, MEL])
        for seed, probe_seed in seed_pairs(request.seeds, pretrained=name != MEL)
        for task in tasks
    ]
    waiting = [cell for cell in cells if not finished(cell.path(request.out, speech))]
    logger.info("%d of %d cells are finished in %s", len(cells) - len(waiting), len(cells), request.out)
    num_failed = 0
    try:
        if waiting:
            records = _timed(request, studies, {cell.study.upstream for cell in waiting})
            for (name, seed), group in groupby(waiting, lambda cell: (cell.study.upstream, cell.seed)):
                num_failed += _run_upstream(request, studies[name], seed, list(group), tasks, speech, records.get(name))
    finally:
        written = write(request.out, request.command)
    return Outcome(written, len(cells), len(waiting), num_failed)


def seed_pairs(seeds: Sequence[int], pretrained: bool) -> list[tuple[int, int]]:
    """(seed of pre-training, seed of the probe), so that what either of them changes can be told apart.

    Every seed pre-trains once and is probed with the first; the first is also probed with every other. What is not
    pre-trained is probed only.
    """
    first = seeds[0]
    probed = [(first, other) for other in seeds[1:]]
    return [(seed, first) for seed in (seeds if pretrained else seeds[:1])] + probed


def _run_upstream(
    request: Request,
    study: Study,
    seed: int,
    cells: list[Cell],
    tasks: Sequence[str],
    speech: Speech,
    record: Record | None,
) -> int:
    """All waiting cells of one upstream and seed; the number of those that failed."""
    num_failed = 0
    try:
        prepared = prepare(study, speech, tasks, seed, request.out, request.device)
    except Exception as error:  # whatever it is, the other upstreams go on
        logger.error("%s failed: %s", study.upstream, error)
        for cell in cells:
            write_failure(cell, error, speech, request.overrides, torch.get_num_threads(), request.out)
        return len(cells)
    for cell in cells:
        try:
            run_cell(cell, prepared, speech, record, request.overrides, request.out, request.device)
            logger.info("%s on %s, seed %d.%d: done", study.upstream, cell.task, seed, cell.probe_seed)
        except Exception as error:  # whatever it is, the other cells go on
            logger.error("%s on %s failed: %s", study.upstream, cell.task, error)
            write_failure(cell, error, speech, request.overrides, torch.get_num_threads(), request.out)
            num_failed += 1
    return num_failed


def _timed(request: Request, studies: dict[str, Study], names: set[str]) -> dict[str, Record]:
    """The timing records of upstreams; what is missing is timed now, together with the baseline."""
    threads = torch.get_num_threads()
    machine = f"{describe(threads)['cpu']} {request.device}"
    paths = {name: timing_path(request.out, study, threads, machine) for name, study in studies.items()}
    missing = {name for name in names if read_record(paths[name]) is None}
    if missing:
        wanted = {name: study for name, study in studies.items() if name in missing | {BASELINE, MEL}}
        time_upstreams(wanted, paths, threads, request.device, request.overrides)
    found = {name: read_record(paths[name]) for name in names}
    return {name: record for name, record in found.items() if record is not None}
