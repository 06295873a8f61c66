"""The attention analyses that a result folder has, each with its tables and its pictures as data addresses."""

import base64
import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..columns import number

SCHEMA = 1
FOLDER, FILE = "attention", "analysis.json"
# What a damaged file may raise: it is told, and the page is made all the same.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error)
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """``address`` is the picture itself; None where the file cannot be shown, and then ``title`` says why. ``size`` is
    its width and height in pixels, where they are known."""

    title: str
    alt: str
    address: str | None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Cell:
    """What a table shows, and what it is sorted by where that is a number."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Analysis:
    """One analysed model. ``cases`` has a line for each layer, its header first; ``columns`` are those of ``table``."""

    title: str
    facts: str
    command: str
    notes: list[str]
    cases: list[list[str]]
    columns: list[str]
    table: list[list[Cell]]
    pictures: list[Picture]
    link: str

    @property
    def widest(self) -> int:
        """Pixels of the widest picture, beside which narrow ones are shown narrow; 0 when nothing is known."""
        return max((picture.size[0] for picture in self.pictures if picture.size), default=0)


def analyses(out: Path) -> tuple[list[Analysis], list[str]]:
    """All below ``out/attention``, in the order of their paths, and a line for each that cannot be read."""
    found, problems = [], []
    for path in sorted((out / FOLDER).rglob(FILE)):
        try:
            found.append(_read(path, out))
        except UNREADABLE as error:
            told = f"{type(error).__name__}: {error}"
            problems.append(f"{path.relative_to(out)} is no readable analysis ({told}): make it again")
    return found, problems


def _read(path: Path, out: Path) -> Analysis:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']!r}, this version reads {SCHEMA}")
    sizes = ("layers", "heads", "utterances", "frames")
    counts = {name: content[name] for name in sizes if content.get(name) is not None}
    facts = [f"{len(found) if isinstance(found, list) else found} {name}" for name, found in counts.items()]
    columns = list(dict.fromkeys(name for line in content["table"] for name in line))
    return Analysis(
        title=f"{content['title']} on {content['corpus']}, preset {content['preset']}, seed {content['seed']}",
        facts=", ".join([str(content["upstream"]), *facts]),
        command=content["command"],
        notes=[str(note) for note in content["notes"]],
        cases=_cases(content["cases"], [str(line["layer"]) for line in content["table"]]),
        columns=columns,
        table=[[_cell(line.get(name)) for name in columns] for line in content["table"]],
        pictures=list(_pictures(content["pictures"], path.parent)),
        link=quote(path.relative_to(out).as_posix()),
    )


def _cases(cases: dict[str, Any], layers: list[str]) -> list[list[str]]:
    """Heads by layer and case; layers are called as in the table."""
    names = list(dict.fromkeys(layers))
    lines = [[name, *map(str, counts)] for name, counts in zip(names, cases["by_layer"], strict=True)]
    return [["layer", *map(str, cases["names"])], *lines]


def _cell(value: object) -> Cell:
    """Whole numbers as they are, others to three digits."""
    if value is None:
        return Cell("-")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Cell(str(value))
    return Cell(str(value), value) if isinstance(value, int) else Cell(number(value), value)


def _pictures(listed: Iterable[dict[str, str]], folder: Path) -> Iterable[Picture]:
    for picture in listed:
        file = folder / Path(picture["file"]).name  # beside the analysis, wherever the name would lead
        title, alt = picture["title"], picture["alt"]
        if file.suffix in TYPES and file.is_file():
            content = file.read_bytes()
            address = f"data:{TYPES[file.suffix]};base64,{base64.b64encode(content).decode('ascii')}"
            yield Picture(title, alt, address, _size(content) if file.suffix == ".png" else None)
        else:
            yield Picture(f"{title}: {file.name} is not there, or neither PNG nor SVG", alt, None)


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, which every PNG begins with."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height
