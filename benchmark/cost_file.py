"""The cost audit's file: raw samples of every row and length, and the machine, from which all pages are made."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cost_case import entry_of
from .cost_memory import Cell
from .cost_time import CostSettings
from .environment import describe
from .names import BASELINE
from .result_files import write_atomically
from .sources import source_hash

SCHEMA = 1
CELL_KEYS = {"row", "num_frames", "memory", "time", "problems", "source_hash", "run"}
SHOWN_FRAMES = (1024, 4096)  # lengths at which the table shows multiply-accumulates

Audit = dict[str, Any]  # {"schema", "baseline", "fit_from", "settings", "runs", "rows", "cells"}


def read_audit(folder: Path) -> Audit:
    """The audit in ``folder``; ``ValueError`` names the file and the cure when it cannot be read."""
    path = folder / "cost.json"
    try:
        audit = json.loads(path.read_text(encoding="utf-8"))
        missing = {"baseline", "fit_from", "settings", "runs", "rows", "cells"} - set(audit)
        if audit.get("schema") != SCHEMA or missing:
            raise ValueError(f"schema {audit.get('schema')!r}, lacks {', '.join(sorted(missing)) or 'nothing'}")
        for cell in audit["cells"]:
            if lacking := CELL_KEYS - set(cell):
                raise ValueError(f"a cell lacks {', '.join(sorted(lacking))}")
            if not 0 <= cell["run"] < len(audit["runs"]):
                raise ValueError(f"a cell is of run {cell['run']}, which is not there")
        if not audit["cells"]:
            raise ValueError("it has no cells")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a readable audit ({error}): give the folder of one, or move it away") from None
    return audit


def open_audit(folder: Path, settings: CostSettings, fit_from: int, command: str) -> Audit:
    """The audit in ``folder`` to go on with, or a new one, with this run added to its runs.

    Raises:
        ValueError: when the one there was made with other settings, on another processor or with another PyTorch.
    """
    run: dict[str, Any] = {"command": command, "environment": describe(settings.threads)}
    if not (folder / "cost.json").exists():
        start = {"schema": SCHEMA, "baseline": BASELINE, "fit_from": fit_from, "settings": asdict(settings)}
        return {**start, "runs": [run], "rows": {}, "cells": []}
    audit = read_audit(folder)
    before = {**audit["settings"], **_machine(audit["runs"][-1])}
    now = {**asdict(settings), **_machine(run)}
    different = [f"{key}={before.get(key)}" for key in now if now[key] != before.get(key)]
    if different:
        raise ValueError(
            f"{folder / 'cost.json'} was measured with {', '.join(different)}: "
            f"give the same options, on the same processor and PyTorch, to go on with it, or another --out"
        )
    return {**audit, "fit_from": fit_from, "runs": [*audit["runs"], run]}


def _machine(run: dict[str, Any]) -> dict[str, Any]:
    """What times of one audit must have in common."""
    return {"cpu": run["environment"]["cpu"], "torch": run["environment"]["packages"]["torch"]}


def save_audit(folder: Path, audit: Audit) -> None:
    """Write it, whole or not at all."""
    write_atomically(folder / "cost.json", (json.dumps(audit, indent=1, allow_nan=False) + "\n").encode())


def facts(row: str, settings: CostSettings, lengths: list[int]) -> dict[str, Any]:
    """What the upstream of a row says about itself, and ``problem``, why it cannot be measured at all, or None."""
    try:
        found = entry_of(row)
        sizes = (settings.hidden_dim, settings.num_heads)
        macs = {str(n): found.info.macs(n, *sizes, **found.own) for n in sorted({*lengths, *SHOWN_FRAMES})}
    except Exception as error:  # a plug-in may raise anything
        known = {"title": row, "family": "", "order": "", "macs": {}, "source_hash": ""}
        return {**known, "problem": str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"}
    return {
        "title": found.info.title,
        "family": found.info.family,
        "order": found.info.order_with(found.own),
        "macs": macs,
        "source_hash": source_hash(found.name),
        "problem": None,
    }


def missing_rows(audit: Audit, rows: list[str], num_frames: int) -> list[str]:
    """Those of ``rows`` that the audit does not have at this length, complete, with the code as it is."""
    have = {cell["row"] for cell in _current(audit, num_frames) if is_timed(cell)}
    return [row for row in rows if audit["rows"][row]["problem"] is None and row not in have]


def past_cells(audit: Audit, num_frames: int) -> list[Cell]:
    """What helps to measure at this length: of other lengths a cell of each row, the one that was made last, and those
    of this one that were only weighed, with the code as it is."""
    others = {(c["row"], c["num_frames"]): c for c in sorted(audit["cells"], key=_run) if c["num_frames"] != num_frames}
    return [*others.values(), *(cell for cell in _current(audit, num_frames) if not is_timed(cell))]


def cells_of(audit: Audit, row: str) -> dict[int, Cell]:
    """Length -> cell of a row, the shortest first; the timed one where one that was only weighed stands beside it."""
    own = sorted((cell for cell in audit["cells"] if cell["row"] == row), key=is_timed)
    return dict(sorted({cell["num_frames"]: cell for cell in own}.items()))


def is_timed(cell: Cell) -> bool:
    """Whether more than the memory has been looked at."""
    return cell.get("timed", True)


def _run(cell: Cell) -> int:
    return cell["run"]


def _current(audit: Audit, num_frames: int) -> list[Cell]:
    facts = audit["rows"]
    return [
        cell
        for cell in audit["cells"]
        if cell["num_frames"] == num_frames and cell["source_hash"] == facts.get(cell["row"], {}).get("source_hash")
    ]


def with_cells(audit: Audit, cells: list[Cell]) -> Audit:
    """The audit with these cells of its last run, in place of older ones of the same row and length. A timed cell stays
    beside one that was only weighed, when its code has changed since, until there is another timed one."""
    new = [{**c, "source_hash": audit["rows"][c["row"]]["source_hash"], "run": len(audit["runs"]) - 1} for c in cells]
    timed = {(cell["row"], cell["num_frames"]): is_timed(cell) for cell in new}

    def stays(cell: Cell) -> bool:
        key = (cell["row"], cell["num_frames"])
        return key not in timed or (is_timed(cell) and not timed[key])

    kept = [cell for cell in audit["cells"] if stays(cell)]
    return {**audit, "cells": sorted(kept + new, key=lambda cell: (cell["num_frames"], cell["row"]))}
