"""Result cells by path, or by a part of their name that only one has, or only one that is finished."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..upstream.registry import nearest
from .cell import status
from .result_files import read_cell

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
    names = {path.relative_to(out / "cells").as_posix(): path for path in sorted((out / "cells").rglob("*.json"))}
    if not names:
        raise ValueError(f"{out} has no result cells: give --out the folder that a run has written to")
    found = [name for name in names if wanted in name]
    if len(found) > 1:
        found = _finished([(name, names[name]) for name in found]) or found
    if len(found) == 1:
        return read_cell(names[found[0]]), names[found[0]]
    if not found:
        raise ValueError(f"no cell of {out} has {wanted!r} in its name: {nearest(wanted, list(names)[:LISTED])}")
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    raise ValueError(f"{wanted!r} is in the names of {len(found)} cells, add to it: {', '.join(found[:LISTED])}{more}")


def _finished(found: Sequence[tuple[str, Path]]) -> list[str]:
    """The names of those that hold a result."""
    return [name for name, path in found if status(path) == "ok"]


def folder_of(path: Path) -> Path:
    """The result folder in which a cell lies, as ``cell_path`` laid it."""
    return path.parents[3] if len(path.parents) > 3 and path.parents[2].name == "cells" else path.parent
