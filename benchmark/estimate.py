"""What a plan will take in time, disk and memory: measured where it can be, and said where it is assumed."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter

import torch
from tqdm import tqdm

from ..recipes.corpora import Utterance
from .cell import Cell
from .environment import describe
from .measure import Cost, measure_upstream
from .measure_probe import measure_probe
from .memory import Memory, peak_bytes, peak_memory, start_count
from .names import BASELINE, MEL, is_pretrained
from .plan import Plan
from .prepare import needed
from .result_files import read_cells
from .steps import Step, steps_of, study_of

ASSUMED = (
    "hidden states of upstreams that are already pre-trained count as not cached",
    "a pre-training that was interrupted counts as not begun",
    "batches of pre-training come as fast as they are used",
    "log-Mel features take as long by second of audio as the extraction of mel",
    "probes train for all their epochs, though dev may end them earlier",
    "the timing lane takes no round again because of other programs",
    "the machine stays as busy as it was during this measurement",
)


@dataclass
class Estimate:
    """Seconds of each step; infinite where the measurement was cut short, 0 where it failed (see ``problems``).

    Args:
        seconds: by step.
        costs: what was measured, by upstream.
        measured_s: what the measurement took.
        peak_bytes: the most memory that the measurement needed at once.
        lane_memory: of the baseline in the timing lane, with the keys of a result file; empty when it was not needed.
        problems: what could not be measured, and why.
        known: tasks whose seconds come from finished cells.
    """

    seconds: dict[Step, float] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    measured_s: float = 0.0
    peak_bytes: int = 0
    lane_memory: Memory = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    def total_s(self, steps: Iterable[Step]) -> float:
        """Of these steps, each counted once."""
        return sum(self.seconds[step] for step in set(steps))


def estimate(
    plan: Plan, cells: Iterable[Cell], give_up_s: float = math.inf, clock: Callable[[], float] = perf_counter
) -> Estimate:
    """Measure what these cells need; after ``give_up_s`` seconds the upstreams that are left are not measured."""
    started = clock()
    wanted = sorted({step for steps in steps_of(plan, cells).values() for step in steps}, key=str)
    found, device = Estimate(), plan.request.device
    utterances = _utterances(plan)
    known = _finished_probes(plan)
    kinds: dict[str, set[str]] = {}
    for step in wanted:
        kinds.setdefault(step.upstream or MEL, set()).add("extraction" if step.kind == "log-Mel" else step.kind)
    start_count(torch.device(device))
    weighing_s = _weigh(plan, found) if any("timing" in kind for kind in kinds.values()) else 0.0
    for name in tqdm(sorted(kinds, key=lambda name: (name != MEL, name != BASELINE)), desc="measure", disable=None):
        if clock() - started > give_up_s:
            found.problems.append(f"{name}: not measured, the time for measuring was over")
            found.costs[name] = Cost(pretrain_s=math.inf, maps_s=math.inf, extract_s=math.inf, lane_s=math.inf)
            continue
        study = study_of(plan, name)
        try:
            found.costs[name] = measure_upstream(study, plan.speech.pretraining, utterances, kinds[name], device)
        except Exception as error:  # a plug-in may raise anything; its cells will fail with it
            found.problems.append(f"{name}: could not be measured ({type(error).__name__}: {error}); it is tried")
            found.costs[name] = Cost()
    probes: dict[tuple[str, tuple[int, int], int], float] = {}
    for step in wanted:
        cost = found.costs[step.upstream or MEL]
        if step.kind != "probe":
            found.seconds[step] = _seconds(step, cost, plan, weighing_s)
            continue
        as_known = known.get((step.task, _states_of(step.upstream)))
        shape = (step.task, cost.shape, cost.frame_repeat)
        if shape not in probes and as_known is None:
            probes[shape] = _probe_s(plan, *shape, found)
        found.seconds[step] = probes[shape] if as_known is None else as_known
        if as_known is not None and step.task not in found.known:
            found.known.append(step.task)
    found.peak_bytes = peak_bytes(torch.device(device))
    found.measured_s = clock() - started
    return found


def _utterances(plan: Plan) -> list[Utterance]:
    """The utterances whose hidden states the tasks read."""
    try:
        return needed(plan.tasks, plan.speech.probing, plan.studies[MEL])
    except Exception:  # the cells will fail with it
        return list(plan.speech.probing.utterances)


def _seconds(step: Step, cost: Cost, plan: Plan, weighing_s: float) -> float:
    if step.kind == "timing":
        return cost.lane_s + (0.0 if step.upstream == MEL else weighing_s)
    if step.kind == "log-Mel":
        return cost.realtime * plan.speech.pretraining.seconds
    return {"pre-training": cost.pretrain_s, "mean maps": cost.maps_s, "extraction": cost.extract_s}[step.kind]


def _weigh(plan: Plan, found: Estimate) -> float:
    """Seconds of the process that weighs the baseline's memory: each upstream of the timing lane has one."""
    request, started = plan.request, perf_counter()
    try:
        threads = torch.get_num_threads()
        found.lane_memory = peak_memory(BASELINE, request.preset, request.overrides, threads, request.device)
    except Exception as error:  # a number less in the estimate
        found.problems.append(f"memory in the timing lane: {error}")
    return perf_counter() - started


def _probe_s(plan: Plan, task: str, shape: tuple[int, int], repeat: int, found: Estimate) -> float:
    if not shape[0]:  # its upstream was not measured
        return 0.0
    try:
        settings = plan.studies[MEL].probe
        return measure_probe(task, plan.speech.probing, shape, repeat, settings, plan.request.device)
    except Exception as error:  # a plug-in may raise anything; its cells will fail with it
        found.problems.append(f"{task}: could not be measured ({type(error).__name__}: {error}); it is tried")
        return 0.0


def _states_of(upstream: str) -> str:
    """Upstreams that share it have hidden states of one size: the attentions here, each of the others alone."""
    return "" if is_pretrained(upstream) else upstream


def _finished_probes(plan: Plan) -> dict[tuple[str, str], float]:
    """Median seconds of finished probes on this data, machine and settings: by task and ``_states_of``."""
    here, asked = describe(torch.get_num_threads()), json.loads(json.dumps(plan.studies[MEL].resolved()))
    seconds: dict[tuple[str, str], list[float]] = {}
    for cell in read_cells(plan.request.out / "cells")[0]:
        alike = (
            cell["status"] == "ok"
            and cell["data"]["fingerprint"] == plan.speech.probing.fingerprint
            and all(cell["config"].get(section) == asked[section] for section in ("model", "probe"))
            and all(cell["environment"][key] == here[key] for key in ("cpu", "threads"))
        )
        if alike:
            key = (cell["cell"]["downstream"], _states_of(cell["config"].get("upstream", cell["cell"]["upstream"])))
            seconds.setdefault(key, []).append(cell["probe"]["seconds"])
    return {key: statistics.median(found) for key, found in seconds.items()}
