"""Result cells by path, or by a part of their name that only one has: as a whole part, or finished, where more do."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..upstream.registry import nearest
from .cell import status
from .result_files import read_cell, without_brackets

LISTED = 8


def find_cell(wanted: str, out: Path) -> tuple[dict[str, Any], Path]:
    """The cell and its path.

    Args:
        wanted: the path of a result file, or a part of its path below ``out/cells``.
        out: the result folder where parts of names are looked up.

    Raises:
        ValueError: when there is none, more than one, or one that cannot be read.
    """
    if Path(wanted).is_file():
        return read_cell(Path(wanted)), Path(wanted)
    paths = sorted((out / "cells").rglob("*.json"))
    wanted = without_brackets(unquote(wanted))  # s3prl:fbank as people write it, or as the name of a file
    names = {unquote(path.relative_to(out / "cells").as_posix()): path for path in paths}
    if not names:
        raise ValueError(f"{out} has no finished cell: give --out the folder of a run that has made some")
    found = [name for name in names if wanted in name]
    if len(found) > 1:
        found = [name for name in found if _has_part(name, wanted)] or found
    if len(found) > 1:
        found = _finished([(name, names[name]) for name in found]) or found
    if len(found) == 1:
        return read_cell(names[found[0]]), names[found[0]]
    if not found:
        raise ValueError(f"no cell of {out} has {wanted!r} in its name: {nearest(wanted, list(names)[:LISTED])}")
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    told, shorter = "", [name.rpartition("--")[0] for name in found]  # without digest
    if len({name.rpartition("--")[0] for name in shorter}) == 1 and len(set(shorter)) == len(found):
        told, found = " that differ in their seeds", shorter
    listed = f"{', '.join(found[:LISTED])}{more}"
    raise ValueError(f"{wanted!r} is in the names of {len(found)} cells{told}, give one of these: {listed}")


def _has_part(name: str, wanted: str) -> bool:
    """Whether ``wanted`` is in a name as one or more whole parts, which ``/`` and ``--`` divide."""
    return re.search(rf"(^|/|--){re.escape(wanted)}($|/|--|\.json$)", name) is not None


def _finished(found: Sequence[tuple[str, Path]]) -> list[str]:
    """The names of those that hold a result that this version can read."""

    def is_ok(path: Path) -> bool:
        with suppress(ValueError):
            return status(path) == "ok"
        return False

    return [name for name, path in found if is_ok(path)]


def folder_of(path: Path) -> Path:
    """The result folder in which a cell lies, as ``cell_path`` laid it."""
    return path.parents[3] if len(path.parents) > 3 and path.parents[2].name == "cells" else path.parent
