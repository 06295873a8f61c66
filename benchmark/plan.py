"""What one command asks for, cell by cell in the order in which they are made, and what keeps some from being made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import downstream
from ..downstream.task import NotApplicable
from ..recipes.pretrain import check_device, check_seed
from ..upstream.plugins import UPSTREAMS
from ..upstream.s3prl_upstreams import check, parse
from .cell import Cell, status
from .names import BASELINE, MEL, is_foreign, is_pretrained
from .prepare import Speech, load_speech
from .settings import Study, check_overrides, load_study
from .stopwatch import machine_of, timing_path


@dataclass(frozen=True)
class Request:
    """What one command asks for. ``upstreams`` and ``downstreams`` empty: all of them. ``budget_s`` None: no limit.
    ``executor`` is one of ``EXECUTORS``, which does ``jobs`` at a time and ends one after ``timeout_s``; ``slurm`` are
    its options, ``slurm.name=value``."""

    preset: str
    out: Path
    upstreams: Sequence[str] = ()
    downstreams: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    overrides: Sequence[str] = field(default=())
    device: str = "cpu"
    command: str | None = None
    budget_s: float | None = None
    executor: str = "inline"
    jobs: int = 1
    timeout_s: float | None = None
    slurm: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """A request with its names, options and corpus looked up.

    Args:
        request: what was asked for.
        studies: by ``Study.upstream``: those asked for, ``mel`` and the baseline of all ratios. s3prl's with the
            absolute path of their checkpoint.
        tasks: the names of all tasks asked for.
        speech: the corpus.
        cells: in the order in which they are made.
        refused: tasks that this corpus cannot serve, with the reason.
        records: where the timing of each upstream of ``studies`` goes.
        paths: filled by ``path``: what names a cell takes a while to work out.
    """

    request: Request
    studies: dict[str, Study]
    tasks: tuple[str, ...]
    speech: Speech
    cells: tuple[Cell, ...]
    refused: dict[str, str]
    records: dict[str, Path]
    paths: dict[tuple[str, str, int, int], Path] = field(default_factory=dict, repr=False)

    def path(self, cell: Cell) -> Path:
        """Where the result of a cell goes."""
        key = (cell.study.upstream, cell.task, cell.seed, cell.probe_seed)
        if key not in self.paths:
            self.paths[key] = cell.path(self.request.out, self.speech)
        return self.paths[key]

    def status(self, cell: Cell) -> str:
        """As its result file says; ``missing`` when there is none, or a damaged one."""
        return status(self.path(cell))

    def turn(self, cell: Cell) -> int:
        """How many seeds a run has finished before it comes to this cell."""
        return turn(self.request.seeds, cell.seed, cell.probe_seed)


def make_plan(request: Request) -> Plan:
    """Look everything up; the corpus is loaded (a synthetic one made), nothing is written to ``request.out``.

    Raises:
        ValueError: for a wrong name, option or corpus.
    """
    asked = [name for name in request.upstreams or UPSTREAMS.names() if name != MEL]
    upstreams = [parse(name).text if is_foreign(name) else name for name in asked]
    tasks = tuple(downstream.expand(request.downstreams or downstream.names()))
    for seed in request.seeds:
        check_seed(seed)
    check_overrides(upstreams, request.overrides)
    if request.executor != "slurm":  # a job tells what its node has: this machine may only submit
        check_device(request.device)
    found = [load_study(name, request.preset, request.overrides) for name in (*upstreams, MEL, BASELINE)]
    studies = {study.upstream: study for study in found}  # rows that were written differently and are equal are one
    foreign = [parse(name) for name in upstreams if is_foreign(name)]
    if foreign:  # it imports all of s3prl
        check(foreign)
    speech = load_speech(studies[MEL].recipe.data)
    threads = torch.get_num_threads()
    machine = machine_of(request.device)
    rows = list({study.upstream: study for study in found[:-1]}.values())
    return Plan(
        request=request,
        studies=studies,
        tasks=tasks,
        speech=speech,
        cells=tuple(cells(rows, tasks, request.seeds)),
        refused=_refused(tasks, speech, studies[MEL]),
        records={name: timing_path(request.out, study, threads, machine) for name, study in studies.items()},
    )


def cells(studies: Sequence[Study], tasks: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    """All cells, seed by seed, so that a run that ends early has whole seeds; upstream by upstream within a seed."""
    for number in range(len(dict.fromkeys(seeds))):
        for study in studies:
            for seed, probe_seed in seed_pairs(seeds, pretrained=is_pretrained(study.upstream)):
                if turn(seeds, seed, probe_seed) == number:
                    yield from (Cell(study, task, seed, probe_seed) for task in tasks)


def seed_pairs(seeds: Sequence[int], pretrained: bool) -> list[tuple[int, int]]:
    """(seed of pre-training, seed of the probe), so that what either of them changes can be told apart.

    Every seed pre-trains once and is probed with the first; the first is also probed with every other. What is not
    pre-trained is probed only.
    """
    first, *others = dict.fromkeys(seeds)
    return [(seed, first) for seed in (first, *(others if pretrained else ()))] + [(first, other) for other in others]


def turn(seeds: Sequence[int], seed: int, probe_seed: int) -> int:
    """The place of a pair of seeds: that of the later one of the two."""
    places = list(dict.fromkeys(seeds))
    return max(places.index(seed), places.index(probe_seed))


def _refused(tasks: Sequence[str], speech: Speech, study: Study) -> dict[str, str]:
    refused = {}
    for task in tasks:
        try:
            downstream.load(task).folds(speech.probing, study.probe.subsets)
        except NotApplicable as error:
            refused[task] = str(error)
        except Exception:  # whatever it is, the cells of this task will fail with it and say so
            continue
    return refused
