"""What the last command in a result folder asked for, and what it is doing: ``request.json``, for ``--status``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .cell_schema import COUNT, MAP, MAYBE, ROWS, SECONDS, TEXT, fields_problems, fits
from .cell_schema import FILE as BELOW
from .plan import Plan
from .result_files import write_atomically

FILE, SCHEMA = "request.json", 1
FIELDS = {
    "command": TEXT + MAYBE, "ended": TEXT + MAYBE, "process": MAP, "budget_s": SECONDS + MAYBE,
    "steps": MAP, "doing": TEXT + MAYBE, "cells": ROWS,
}  # fmt: skip
PROCESS = {"pid": COUNT, "machine": TEXT, "born": TEXT + MAYBE}
CELL = {
    "upstream": TEXT, "downstream": TEXT, "seed": COUNT, "probe_seed": COUNT, "path": BELOW,
    "estimate_s": SECONDS + MAYBE,
}  # fmt: skip


class Journal:
    """Writes ``request.json`` at the start of a run, and again whenever the run turns to something else.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Plan) -> None:
        request, self._path = plan.request, plan.request.out / FILE
        self._content: dict[str, Any] = {
            "schema": SCHEMA,
            "command": request.command,
            "started": _now(),
            "ended": None,
            "error": None,
            "process": {"pid": os.getpid(), "machine": platform.node(), "born": born(os.getpid())},
            "budget_s": request.budget_s,
            "steps": {study.label: study.recipe.pretrain.steps for study in plan.studies.values()},
            "doing": "planning",
            "refused": sorted(plan.refused),
            "cells": [
                {
                    "upstream": cell.study.label,
                    "downstream": cell.task,
                    "seed": cell.seed,
                    "probe_seed": cell.probe_seed,
                    "path": plan.path(cell).relative_to(request.out).as_posix(),
                    "estimate_s": None,
                }
                for cell in plan.cells
            ],
        }
        self._write()

    def estimated(self, seconds: Mapping[str, float]) -> None:
        """Note what each cell will take by itself, by its path below the result folder."""
        for cell in self._content["cells"]:
            cell["estimate_s"] = seconds.get(cell["path"])
        self._write()

    def doing(self, what: str) -> None:
        """Note what the run is doing now."""
        self._content["doing"] = what
        self._write()

    def end(self, error: str | None = None) -> None:
        """Note that the run ended by itself, or by an error; what it was doing then stays."""
        self._content |= {"ended": _now(), "error": error}
        if error is None:
            self._content["doing"] = None
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, (json.dumps(self._content, indent=1, ensure_ascii=False) + "\n").encode())


def missing(out: Path, request: Mapping[str, Any]) -> int:
    """How many of the cells that were asked for have no result file."""
    return sum(not (out / cell["path"]).is_file() for cell in request["cells"])


def read_request(out: Path) -> dict[str, Any] | None:
    """The last request in a result folder; None when there is none that this version can read."""
    try:
        content = json.loads((out / FILE).read_text(encoding="utf-8"))
        datetime.fromisoformat(content["started"])
        sound = content["schema"] == SCHEMA and not any(fields_problems("", content, FIELDS))
        sound = sound and not any(fields_problems("process", content["process"], PROCESS))
        sound = sound and all(fits(steps, COUNT) for steps in content["steps"].values())
        sound = sound and not any(any(fields_problems("cells", cell, CELL)) for cell in content["cells"])
        return content if sound else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def is_running(process: Mapping[str, Any]) -> bool | None:
    """Whether the process that wrote a request still runs; None where that cannot be seen, as on another machine."""
    if process["machine"] != platform.node():
        return None
    return None if process["born"] is None else born(process["pid"]) == process["born"]


def born(pid: int) -> str | None:
    """When a process started, in ticks since the machine did (Linux): tells it from a later one with its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
