"""Result files: one JSON file a cell with a csv of per-utterance outcomes beside it, written whole or not at all."""

import contextlib
import csv
import glob
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..recipes.corpora.cache import replace_file, writing
from ..upstream.printable import printable
from .cell_schema import FIELDS, SCHEMA
from .cell_schema import problems as problems_of
from .names import is_foreign

SUMS = "checksums"
OUTCOME_COLUMNS = ("fold", "utterance", "speaker", "correct", "total")
LATER_COLUMNS = ("seconds", "substitutions", "insertions", "deletions")  # not in files of schema 1
MOST_LETTERS = 96  # of a part of a file name: systems allow 255 for all parts together
NUMBERS = ("correct", "total", *LATER_COLUMNS)


class NoCell(ValueError):
    """A result file that is not there, or is damaged, so that nothing is lost when it is made anew."""


def write_cell(path: Path, cell: Mapping) -> None:
    """Write ``cell`` as JSON to ``path``, atomically. AssertionError when it does not follow the schema; keys that
    start with ``_`` (what `read_cells` adds) are left out. NaN and infinity are refused: JSON has neither. Checksums of
    the cell and of the csv that is beside it by now are added. What earlier code or data could not make of the same
    cell, with the same configuration, is removed once it is made."""
    kept = {key: value for key, value in cell.items() if not key.startswith("_") and key != SUMS}
    try:
        plain: dict[str, Any] = json.loads(json.dumps(kept, allow_nan=False))
    except ValueError as error:
        raise AssertionError(f"{path.name} holds NaN or infinity: write null and a reason instead ({error})") from error
    problems = problems_of(plain)
    assert not problems, f"{path.name} is not a schema {SCHEMA} cell: " + "; ".join(problems)
    plain[SUMS] = {"utterances": _csv_sha256(path, plain)}
    plain[SUMS]["cell"] = _cell_sha256(plain)
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())
    if plain["status"] == "ok":
        _remove_cured(path, plain)


def _remove_cured(path: Path, made: Mapping) -> None:
    for other in path.parent.glob(f"{glob.escape(path.stem.rpartition('--')[0])}--*.json"):
        with contextlib.suppress(ValueError):  # what cannot be read is told when the results are
            cell = read_cell(other)
            if cell["status"] != "ok" and (cell["cell"], cell["config"]) == (made["cell"], made["config"]):
                other.unlink(missing_ok=True)


def write_utterances(path: Path, outcomes: Iterable[Mapping]) -> None:
    """Write one csv line per scored utterance, atomically. Each outcome is a mapping with `OUTCOME_COLUMNS` and
    `LATER_COLUMNS`: ``total`` scored items of which ``correct`` were right, in ``seconds`` of audio."""
    text = io.StringIO()
    columns = (*OUTCOME_COLUMNS, *LATER_COLUMNS)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        assert set(outcome) == set(columns), f"an outcome has keys {sorted(outcome)}, not {columns}"
        assert 0 <= outcome["correct"] <= outcome["total"] < math.inf, f"correct or total out of range: {dict(outcome)}"
        writer.writerow(outcome)
    write_atomically(path, text.getvalue().encode())


def read_cell(path: Path) -> dict:
    """The cell in ``path``; ValueError names the file and the cure when it cannot be used: ``NoCell`` where it can be
    made anew."""
    cure = "delete it and run again to make it anew"
    try:
        cell = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
        raise NoCell(f"{path} is not a readable result file ({error}): {cure}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}): see to its disk and its rights, and run again") from error
    schema = cell.get("schema") if isinstance(cell, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(f"{path} has schema {schema}, this version reads {SCHEMA}: update s3prl-attention")
    if isinstance(cell, dict) and SUMS in cell and _sum(cell, "cell") != _cell_sha256(cell):
        raise NoCell(f"{path} does not match its checksum, it changed after it was written: {cure}")
    cell = _upgraded(cell)
    problems = problems_of(cell)
    if problems:
        raise NoCell(f"{path} is not a schema {SCHEMA} cell ({'; '.join(problems)}): {cure}")
    return cell


def read_cells(folder: Path) -> tuple[list[dict], list[str]]:
    """Every readable cell below ``folder``, in path order and with its ``"_path"`` added, and one line for each file
    that is not readable."""
    cells, problems = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            cells.append({**read_cell(path), "_path": path})
        except ValueError as error:
            problems.append(" ".join(str(error).split()))
    return cells, problems


def read_utterances(cell: Mapping) -> dict[str, np.ndarray]:
    """The columns of the csv beside a cell that `read_cells` gave: `NUMBERS` as float64, the others text. What files of
    schema 1 do not have is left out. ValueError names a csv that is missing, damaged or does not hold the cell's
    ``scores.items`` items, and the cure."""
    cure = f"delete {cell['_path'].name} and run again to make both anew"
    path = cell["_path"].parent / cell["scores"]["utterances"]
    try:
        content = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        names = [*OUTCOME_COLUMNS, *(name for name in LATER_COLUMNS if rows and name in rows[0])]
        columns = {name: np.array([row[name] for row in rows]) for name in names}
        columns |= {name: columns[name].astype(float) for name in NUMBERS if name in columns}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        told = printable(f"{type(error).__name__}: {error}")[:200]
        raise ValueError(f"{path} is not a readable file of utterances ({told}): {cure}") from error
    if _sum(cell, "utterances") not in (None, hashlib.sha256(content).hexdigest()):
        raise ValueError(f"{path} does not match its checksum, it changed after it was written: {cure}")
    if columns["total"].sum() != cell["scores"]["items"]:
        found = f"{columns['total'].sum():g} scored items, its cell {cell['scores']['items']}"
        raise ValueError(f"{path} holds {found}: {cure}")
    return columns


def cell_path(out: Path, cell_key: Mapping, digest: str) -> Path:
    """Where the cell goes: ``out/cells/<corpus>/<preset>/<upstream>--<downstream>--seed<seed>.<probe_seed>--<digest>
    .json``, each name percent-encoded where a file system might refuse it (``s3prl:fbank`` becomes ``s3prl%3Afbank``).
    """
    safe = {key: safe_name(str(value)) for key, value in cell_key.items()}
    seeds = f"seed{safe['seed']}.{safe['probe_seed']}"
    name = f"{safe['upstream']}--{safe['downstream']}--{seeds}--{safe_name(digest)}.json"
    return out / "cells" / safe["corpus"] / safe["preset"] / name


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; after a crash at any moment the file there is the old one or the new one, whole, and
    what a killed process was writing is removed. A full or read-only disk is a ``ValueError`` that names the file."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def _cell_sha256(cell: Mapping) -> str:
    """Of all that a cell says but this, however it is laid out."""
    plain = {**cell, SUMS: {"utterances": _sum(cell, "utterances")}}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _csv_sha256(path: Path, cell: Mapping) -> str | None:
    """Of the outcomes beside a cell; None where it has none."""
    outcomes = path.with_suffix(".csv")
    return hashlib.sha256(outcomes.read_bytes()).hexdigest() if cell.get("scores") and outcomes.is_file() else None


def _sum(cell: Mapping, of: str) -> str | None:
    """A checksum that a cell states; files of older versions have none."""
    sums = cell.get(SUMS)
    return sums.get(of) if isinstance(sums, Mapping) else None


def _upgraded(cell: dict) -> dict:
    """A cell of an older schema as this one has it: schema 1 had one seed for both, and probes without a sweep."""
    if not isinstance(cell, dict) or cell.get("schema") != 1:
        return cell
    key, probe = cell.get("cell"), cell.get("probe")
    if isinstance(key, dict) and "seed" in key:
        key = {"probe_seed": key["seed"], **key}
    told = {**dict.fromkeys(FIELDS["probe"]), **(probe if isinstance(probe, dict) else {})}
    return {**cell, "schema": SCHEMA, "cell": key, "probe": told if cell.get("status") == "ok" else probe}


def safe_name(name: str) -> str:
    """``name``, percent-encoded where a file system might refuse it; the brackets of a row, which shells and globs take
    for a pattern, become a plus: ``fixed_init[init=raw]`` is ``fixed_init+init=raw``. A long one is cut, and has digits
    that tell it from others."""
    assert name, "a cell needs a name in every field"
    name = without_brackets(name)
    encoded = quote(name, safe=" +,=@")
    if len(encoded) > MOST_LETTERS:
        encoded = f"{encoded[: MOST_LETTERS - 13]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded  # neither hidden, nor "..", on any system


def without_brackets(row: str) -> str:
    """``fixed_init[init=raw]`` -> ``fixed_init+init=raw``, as file names have it."""
    return row if is_foreign(row) else re.sub(r"\[([^\[\]]*)\]", r"+\1", row)
