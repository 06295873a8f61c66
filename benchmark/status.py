"""How far a result folder is, from its files alone: what is finished, what runs, what is left."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..recipes.run_files import read_log
from .durations import told
from .names import is_pretrained, seeds_text
from .request_file import FILE, is_running, read_request
from .result_files import NoCell, read_cell, read_cells, safe_name

LISTED = 12  # lines of missing and of failed cells


def status(out: Path, now_s: float | None = None) -> str:
    """Lines about ``out``; nothing there is written or locked, so that a run may go on meanwhile.

    Args:
        out: what a run was given as ``--out``.
        now_s: seconds since 1970; by default the clock's.

    Raises:
        ValueError: when ``out`` is no result folder.
    """
    now_s = time.time() if now_s is None else now_s
    request = read_request(out)
    if request is None:
        if not (out / "cells").is_dir():
            what = "holds no result of run_benchmark.py" if out.is_dir() else "is no folder"
            raise ValueError(f"{out} {what}: give --out a folder that a run has written to")
        counted = Counter(cell["status"] for cell in read_cells(out / "cells")[0])
        return f"{out}: {_counts(counted)}; no request is stored there ({FILE}), so what is missing is not known"
    started_s = datetime.fromisoformat(request["started"]).timestamp()
    cells = [(cell, _read(out / cell["path"])) for cell in request["cells"]]
    if request["ended"] is None:
        cells = [(cell, None if _is_waiting(out, cell, found, request, started_s) else found) for cell, found in cells]
    counted = Counter(found["status"] if found else "missing" for _, found in cells)
    running = is_running(request["process"])
    lines = [f"{out}: {len(cells)} cells asked for, {_counts(counted)}"]
    lines += [f"asked with: {request['command']}"] if request["command"] else []
    lines.append(f"{_process(request, running)}; last change {told(max(0.0, now_s - _changed(out)))} ago")
    runs = unfinished_trainings(out, request["steps"], started_s)
    if running is not False and request["ended"] is None:
        lines += [text for _, text, _ in runs]
    else:
        lines += [f"interrupted: {text}" for _, text, _ in runs]
    for word in ("failed", "timeout", "skipped"):
        lines += _listed(f"{word}:", [f"{_name(cell)}: {found['reason']}" for cell, found in cells
                                      if found and found["status"] == word])  # fmt: skip
    missing = [cell for cell, found in cells if found is None]
    lines += _listed("missing:", map(_name, missing))
    if missing:
        lines.append(f"time left: {_left(missing, [found for _, found in cells if found], {n: s for n, _, s in runs})}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_cell(path)
    except NoCell:
        return None


def _is_waiting(
    out: Path,
    cell: Mapping[str, Any],
    found: Mapping[str, Any] | None,
    request: Mapping[str, Any],
    started_s: float,
) -> bool:
    """Whether a run that has not ended has yet to try a cell that an earlier one failed or skipped."""
    if found is None or found["status"] == "ok" or cell["downstream"] in request.get("refused", ()):
        return False
    return _written_s(out / cell["path"]) < started_s


def _written_s(path: Path) -> float:
    """When a file was written last, in seconds since 1970; 0 when it was renamed or removed meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _counts(counted: Mapping[str, int]) -> str:
    words = {"ok": "finished", "failed": "failed", "timeout": "timed out", "skipped": "skipped", "missing": "missing"}
    return ", ".join(
        f"{counted.get(key, 0)} {word}" for key, word in words.items() if key != "timeout" or key in counted
    )


def _process(request: Mapping[str, Any], running: bool | None) -> str:
    process = request["process"]
    where = f"process {process['pid']} on {process['machine']}"
    if request["ended"] and request.get("error"):  # not in the files of older versions
        return f"ended {request['ended']} by an error while {request['doing']}: {request['error']}"
    if request["ended"]:
        return f"ended {request['ended']} by itself"
    if running:
        return f"running ({where}) since {request['started']}: {request['doing']}"
    if running is None:
        return f"{where} is not seen from here; it last said: {request['doing']}"
    return f"not running: {where} was stopped while {request['doing']}; the same command goes on with what is missing"


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['upstream']} on {cell['downstream']}, {seeds_text(cell['seed'], cell['probe_seed'])}"


def _listed(title: str, texts: Iterable[str]) -> list[str]:
    """At most ``LISTED`` lines and how many there are besides."""
    lines = [f"{title} {text}" for text in texts]
    more = [f"{title} and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [*lines[:LISTED], *more]


def _changed(out: Path) -> float:
    """When a file of the folder was written last, in seconds since 1970."""
    return max(map(_written_s, out.rglob("*")), default=0.0)


def unfinished_trainings(
    out: Path, steps: Mapping[str, int], started_s: float
) -> list[tuple[tuple[str, int], str, float]]:
    """((upstream, seed), a line, seconds left) of each pre-training that has no checkpoint yet and a log to which
    something was written since ``started_s``: others are of earlier runs, and perhaps of other settings."""
    found = []
    labels = {safe_name(label): label for label in steps}
    for path in sorted(out.glob("pretrain/*/*/log.jsonl")):
        name, _, rest = path.parent.name.partition("--seed")
        name = labels.get(name, name)
        if (path.parent / "checkpoint").exists() or not rest or _written_s(path) < started_s:
            continue
        log = read_log(path)
        if not log:
            continue
        last, seed = log[-1], int(rest.partition("--")[0])
        step, total = int(last["step"]), steps.get(name)
        left_s = max(0, total - step) * last["elapsed_s"] / step if total else 0.0
        of = f" of {total}, about {told(left_s)} left" if total else ""
        text = f"pre-training {name}, seed {seed}: step {step}{of}; loss {last['loss']:.3f}"
        found.append(((name, seed), text, left_s))
    return found


def _left(missing: list[dict[str, Any]], found: list[dict[str, Any]], running: Mapping[tuple[str, int], float]) -> str:
    """Time that the missing cells will take, by what the finished ones took, else by the estimate before the run."""
    done = [cell for cell in found if cell["status"] == "ok"]
    probes: dict[str, list[float]] = {}
    trainings: dict[tuple[str, int], float] = {}
    extractions: dict[tuple[str, int], float] = {}
    for cell in done:
        key = (cell["cell"]["upstream"], cell["cell"]["seed"])
        probes.setdefault(cell["cell"]["downstream"], []).append(cell["probe"]["seconds"])
        extractions[key] = cell["probe"]["extraction_s"] or 0.0
        if cell["pretrain"]:
            trainings[key] = cell["pretrain"]["seconds"]
    if not done:
        known = [cell["estimate_s"] for cell in missing if cell["estimate_s"] is not None]
        if len(known) < len(missing):
            return "not known before a cell is finished; --dry-run measures it"
        return f"about {told(sum(known))} at most, by the estimate before the run"
    total_s, unknown = 0.0, 0
    for cell in missing:
        if cell["downstream"] in probes:
            total_s += statistics.median(probes[cell["downstream"]])
        else:
            unknown += 1
    for key in {(cell["upstream"], cell["seed"]) for cell in missing} - extractions.keys():
        total_s += _alike(key, extractions)
        if is_pretrained(key[0]):
            total_s += running[key] if key in running else _alike(key, trainings)
    short = f", without the probes of {unknown} cells on tasks of which none is finished" if unknown else ""
    return f"about {told(total_s)}, by what the finished cells took{short}"


def _alike(key: tuple[str, int], seconds: Mapping[tuple[str, int], float]) -> float:
    """Of the same upstream with another seed, else of all."""
    same = [taken for (name, _), taken in seconds.items() if name == key[0]]
    return statistics.median(same or seconds.values()) if seconds else 0.0
