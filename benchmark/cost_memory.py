"""The cost audit's memory: what a row needs at a length, foretold from shorter ones and then measured."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .cost_case import PHASES, TRAIN, Case, module_bytes, weighed
from .power_law import growth
from .workers import Worker

Cell = dict[str, Any]  # what is known of a row at a length; see `empty_cell`
SMALL_FRAMES = 1024  # up to here everything fits, and nothing is estimated before the first try
COLD_SLOWER = 2  # how much longer a call may take that fetches all its memory from the system
PROCESS_BYTES = 300 << 20  # a worker's own, beyond module and tensors


def empty_cell(row: str, num_frames: int) -> Cell:
    """Nothing known yet. ``memory`` and ``time`` hold a mapping for each phase that was measured, ``problems`` a
    sentence for each that was not. ``timed`` is false while only the memory has been looked at."""
    return {"row": row, "num_frames": num_frames, "memory": {}, "time": {}, "problems": {}, "timed": True}


def foretell(cell: Cell, case: Case, shorter: Sequence[Cell], expected: Mapping[str, float], max_case_s: float) -> None:
    """Note in ``problems`` the phases that would take too long or not fit into memory."""
    for phase, seconds in expected.items():
        if seconds > max_case_s:
            cell["problems"][phase] = f"not run: one call would take about {seconds:.0f} s"
    if not case.max_bytes or (not shorter and case.num_frames <= SMALL_FRAMES):
        return
    try:
        own_bytes = _module_bytes(case, shorter)
    except ValueError as error:
        cell["problems"] = dict.fromkeys(PHASES, told(error, case))
        return
    for phase in PHASES:
        # at the least: module, and softmax of its logits; in training the gradients of both
        needed = max(own_bytes * (4 if phase == TRAIN else 2), own_bytes + _peak_bytes(case, shorter, phase))
        if needed + PROCESS_BYTES > case.max_bytes:
            cell["problems"].setdefault(phase, f"out of memory: needs about {needed / 1e9:.1f} GB")


def expected_s(shorter: Sequence[Cell], num_frames: int, order: str) -> dict[str, float]:
    """Seconds of a call for each phase that a shorter length has, by the declared order."""
    found: dict[str, float] = {}
    for cell in shorter:  # the longest comes last and wins
        for phase in PHASES:
            first_s = cell["memory"].get(phase, {}).get("first_call_s")
            samples_s = cell["time"].get(phase, {}).get("samples_s")
            seconds = float(np.median(samples_s)) if samples_s else first_s
            if seconds is not None:
                found[phase] = seconds * growth(order, cell["num_frames"], num_frames)
    return found


def weigh(cell: Cell, case: Case, max_case_s: float) -> None:
    """Peak memory of each phase that has neither that nor a problem, in a process of its own."""
    phases = [phase for phase in PHASES if phase not in cell["problems"] and phase not in cell["memory"]]
    if not phases:
        return
    try:
        worker = Worker(partial(weighed, case), case.row)
    except ValueError as error:
        cell["problems"].update(dict.fromkeys(phases, told(error, case)))
        return
    try:
        for phase in phases:
            try:
                found = cell["memory"][phase] = worker.ask(phase)
            except ValueError as error:
                cell["problems"][phase] = told(error, case)
                continue
            if found["first_call_s"] > COLD_SLOWER * max_case_s:
                cell["problems"][phase] = f"not timed: one call took {found['first_call_s']:.0f} s"
    finally:
        worker.stop()


def resident_bytes(cell: Cell) -> int:
    """What the process of a row holds while it is timed."""
    memory = cell["memory"].values()
    most = max((found["peak_bytes"] for found in memory), default=0)
    return PROCESS_BYTES + max((found["module_bytes"] for found in memory), default=0) + most


def told(error: ValueError, case: Case) -> str:
    """What a table says about an error; lack of memory in its own words."""
    text = str(error).removeprefix("ValueError: ").removeprefix(f"{case.row}: ")
    if any(sign in text for sign in ("can't allocate memory", "not enough memory", "MemoryError", "bad_alloc")):
        return f"out of memory: needs more than {(case.max_bytes or 0) / 1e9:.1f} GB"
    return text


def available_bytes() -> int | None:
    """Nine tenths of the memory that is free now (Linux); None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 (not a file of ours)
            fields = dict(line.split(":", 1) for line in file)
        return int(0.9 * 1024 * int(fields["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        return None


def _module_bytes(case: Case, shorter: Sequence[Cell]) -> int:
    """Of the attention at this length, as if what grows grew as n^2."""
    known = {cell["num_frames"]: m["module_bytes"] for cell in shorter for m in cell["memory"].values()}
    if len(known) < 2:
        worker = Worker(partial(module_bytes, case), case.row)
        try:
            known = {num_frames: worker.ask(num_frames) for num_frames in (64, 128)}
        finally:
            worker.stop()
    (short, less), (long, more) = sorted(known.items())[-2:]
    return round(less + (more - less) * (case.num_frames**2 - short**2) / (long**2 - short**2))


def _peak_bytes(case: Case, shorter: Sequence[Cell], phase: str) -> float:
    """Foretold from how it grew between the two longest of the shorter lengths; 0 without two, where trying is safer
    than a guess."""
    known = sorted((c["num_frames"], c["memory"][phase]["peak_bytes"]) for c in shorter if phase in c["memory"])
    if len(known) < 2 or min(known[-1][1], known[-2][1]) <= 0:
        return 0.0
    (short, less), (long, more) = known[-2:]
    power = float(np.clip(np.log(more / less) / np.log(long / short), 1.0, 2.0))
    return more * (case.num_frames / long) ** power
