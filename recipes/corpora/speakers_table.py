"""Reads ``SPEAKERS.TXT``: who is which sex, and in which subset of the whole corpus."""

from pathlib import Path
from typing import NamedTuple

NAME = "SPEAKERS.TXT"


class Speaker(NamedTuple):
    """One line of the table."""

    sex: str
    subset: str


def read_speakers(root: Path) -> dict[str, Speaker]:
    """Speaker id -> sex and subset; empty where the corpus has no table.

    Raises:
        ValueError: with the line, where one is not ``ID | SEX | SUBSET | ...``.
    """
    path = root / NAME
    if not path.is_file():
        return {}
    found = {}
    text = path.read_text(encoding="utf-8", errors="replace")  # names, which are not read, may be in any encoding
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 3 or not all(cells[:3]):
            raise ValueError(f"{path}:{number}: a line is 'ID | SEX | SUBSET | ...', got {line[:60]!r}: correct it")
        found[cells[0]] = Speaker(*cells[1:3])
    return found
