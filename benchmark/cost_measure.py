"""The cost audit at one length: memory row by row, then time in groups that fit into memory, each with the baseline."""

import math
from collections.abc import Mapping, Sequence

from .cost_case import Case
from .cost_memory import Cell, available_bytes, empty_cell, expected_s, foretell, resident_bytes, weigh
from .cost_time import CostSettings, time_together
from .names import BASELINE

SHARE_IN_ONE_GROUP = 0.5  # of the memory; the rest is for what allocators keep and cut to pieces


def measure_length(
    rows: Sequence[str],
    num_frames: int,
    settings: CostSettings,
    orders: Mapping[str, str],
    past: Sequence[Cell],
    weigh_only: bool = False,
) -> list[Cell]:
    """A cell for each of ``rows`` at one length.

    ``orders`` are the declared ones; ``past`` holds cells of other lengths, from which memory and time are foretold
    before anything is tried, and cells of this length that were only weighed, whose phases are not weighed again. Those
    that could not be weighed are tried anew: the machine may have been full.
    """
    limit_s = math.inf if weigh_only else settings.max_case_s  # what is slow today may be fast on an idle machine
    max_bytes = available_bytes()
    together = list(dict.fromkeys([BASELINE, *rows]))
    sizes = {"hidden_dim": settings.hidden_dim, "num_heads": settings.num_heads, "threads": settings.threads}
    cases = {row: Case(row, num_frames, **sizes, max_bytes=max_bytes) for row in together}
    cells, expected = {}, {}
    for row, case in cases.items():
        known = [cell for cell in past if cell["row"] == row and cell["num_frames"] < num_frames]
        shorter = sorted(known, key=lambda cell: cell["num_frames"])
        weighed = [cell for cell in past if cell["row"] == row and cell["num_frames"] == num_frames]
        cells[row] = {**empty_cell(row, num_frames), "memory": dict(weighed[-1]["memory"]) if weighed else {}}
        expected[row] = expected_s(shorter, num_frames, orders.get(row, ""))
        foretell(cells[row], case, shorter, expected[row], limit_s)
        weigh(cells[row], case, limit_s)
    if weigh_only:
        return [{**cells[row], "timed": False} for row in rows]
    needed = {row: resident_bytes(cell) for row, cell in cells.items() if row != BASELINE}
    capacity = SHARE_IN_ONE_GROUP * max_bytes if max_bytes else float("inf")
    for group in groups(needed, capacity - resident_bytes(cells[BASELINE])):
        baseline = cells[BASELINE]
        if baseline["time"]:  # the first group's samples are its own, those of others stand beside theirs
            baseline = {**empty_cell(BASELINE, num_frames), "problems": dict(baseline["problems"])}
        grouped = {BASELINE: baseline, **{row: cells[row] for row in group}}
        time_together(grouped, [cases[row] for row in grouped], settings, expected)
    return [cells[row] for row in rows]


def groups(needed_bytes: Mapping[str, int], capacity_bytes: float) -> list[list[str]]:
    """Rows that are measured together, the small ones first; a row that exceeds the capacity is a group of its own.
    There is a group even without rows, for the baseline."""
    found: list[list[str]] = [[]]
    used = 0
    for row, needed in sorted(needed_bytes.items(), key=lambda item: item[1]):
        if found[-1] and used + needed > capacity_bytes:
            found.append([])
            used = 0
        found[-1].append(row)
        used += needed
    return found
