"""Reads the table of a manifest: a CSV with a header, every row with its line number, every mistake told at once."""

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .alignments import check_id, seconds_of, utf8_told
from .corpus import SPLITS, TOLD, near_names

NEEDED = ("path", "speaker")
OPTIONAL = ("id", "chapter", "session", "subset", "split", "text", "start", "end", "phones")
CLOSE = 0.83  # difflib's similarity of a misspelt name; ``splits`` and ``start_s`` are closer, ``state`` is not


@dataclass(frozen=True)
class Row:
    """One row as it stands in the table, whitespace stripped; ``start_s`` and ``end_s`` are None where the cell is
    empty, ``labels`` are the other columns that are not."""

    line: int
    id: str
    path: str
    speaker: str
    chapter: str
    subset: str
    split: str
    text: str
    start_s: float | None
    end_s: float | None
    phones: str
    labels: dict[str, str]


class Problems:
    """The mistakes of a manifest by kind; ``check`` tells all of them in one message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[tuple[str, str], list[str]] = {}

    def add(self, what: str, cure: str, line: int, detail: str = "") -> None:
        """Note that ``what`` is so in a line."""
        self._found.setdefault((what, cure), []).append(f"line {line}: {detail}" if detail else f"line {line}")

    def check(self) -> None:
        """Raises ``ValueError`` when there are mistakes."""
        told = []
        for (what, cure), lines in self._found.items():
            more = f"; and {len(lines) - TOLD} more" if len(lines) > TOLD else ""
            rows = "1 row" if len(lines) == 1 else f"{len(lines)} rows"
            told.append(f"{rows} where {what} ({'; '.join(lines[:TOLD])}{more}): {cure}")
        if told:
            raise ValueError(f"{self.path}: {'; '.join(told)}")


def read_table(path: Path, label: str, problems: Problems) -> list[Row]:
    """The rows of a manifest that are well formed; what is wrong with the others goes to ``problems``.

    Args:
        path: ``.tsv`` is separated by tabs, everything else by commas; UTF-8, with or without a byte order mark.
        label: the column whose values are also filed as ``labels["label"]``.
        problems: takes the mistakes of rows.

    Raises:
        ValueError: for a file that is no such table, lacks a column, or has no rows.
    """
    lines = _lines(path)
    if not lines:
        raise ValueError(f"{path}: is empty: write a header (path,speaker,...) and a row for each utterance")
    header = [name.strip() for name in lines[0][1]]
    _check_header(path, header, label)
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            what = f"the number of cells is not that of the header, {len(header)}"
            problems.add(what, "quote cells that hold the separator", line, f"{len(cells)} cells")
            continue
        row = _row(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)), label, problems)
        if row is not None:
            rows.append(row)
    if len(lines) == 1:
        raise ValueError(f"{path}: has a header but no rows: write a row for each utterance")
    _check_ids(rows, "id" in header, problems)
    return rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number of its first line, cells) of header and rows; blank lines are left out."""
    found = []
    try:
        with utf8_told(path, "a manifest is"), path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            first = 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    found.append((first, cells))
                first = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}:{first}: not well-formed CSV ({error}): correct the quotes of this row") from error
    return found


def _check_header(path: Path, header: list[str], label: str) -> None:
    wrong = [f"there is no column {name!r} ({near_names(name, header)})" for name in NEEDED if name not in header]
    wrong += [f"column {name!r} comes twice" for name in dict.fromkeys(header) if name and header.count(name) > 1]
    wrong += ["a column has no name"] if "" in header else []
    for name in dict.fromkeys(header):
        if meant := _meant(name, header, label):
            wrong.append(f"column {name!r} looks like {meant!r}: call it that, or otherwise if it is a label")
    if label != "label" and label not in header:
        told = f"data.label names the column {label!r}, which is not there ({near_names(label, header)})"
        if not wrong:
            raise ValueError(f"{path}: {told}: correct data.label")
        wrong.append(told)
    if wrong:
        separator = "tabs" if path.suffix.lower() == ".tsv" else "commas"
        raise ValueError(f"{path}: {'; '.join(wrong)}: correct the header, whose names are separated by {separator}")


def _meant(name: str, header: list[str], label: str) -> str:
    """The reserved name that a column is misspelt of, which would make it a label; empty where it is not."""
    told = [reserved for reserved in NEEDED if reserved not in header]  # as missing
    reserved = [other for other in (*NEEDED, *OPTIONAL) if other not in told]
    if name in reserved or not name:
        return ""
    if name.casefold() in reserved:
        return name.casefold()
    lacking = [other for other in reserved if other not in header] if name != label else []
    twisted = [other for other in lacking if sorted(other) == sorted(name.casefold())]  # two letters changed places
    return next(iter(twisted or difflib.get_close_matches(name.casefold(), lacking, n=1, cutoff=CLOSE)), "")


def _row(line: int, cells: dict[str, str], label: str, problems: Problems) -> Row | None:
    """The row, or None when a cell is wrong."""
    good = True
    for name in NEEDED:
        if not cells[name]:
            problems.add(f"the {name} is empty", "fill it in", line)
            good = False
    split = cells.get("split", "")
    if split not in ("", *SPLITS):
        cure = "write train, dev or test, or leave it empty for an utterance that no task uses"
        problems.add("the split is unknown", cure, line, repr(split))
        good = False
    try:
        times_s = [seconds_of(cells[name]) if cells.get(name) else None for name in ("start", "end")]
    except ValueError:
        times_s = [math.nan, math.nan]
    start_s, end_s = times_s
    if not all(time_s is None or 0 <= time_s < math.inf for time_s in times_s) or not (
        end_s is None or (start_s or 0.0) < end_s
    ):
        detail = f"{cells.get('start', '')!r} to {cells.get('end', '')!r}"
        problems.add("start and end are not seconds with 0 <= start < end", "correct the times", line, detail)
        good = False
    id = cells.get("id", "") or _id_of(cells["path"], cells.get("start", ""), cells.get("end", ""))
    try:
        check_id("", id)
    except ValueError:
        problems.add("the id is not a plain name", "write one without slashes", line, repr(id))
        good = False
    if not good:
        return None
    chapter = "chapter" if "chapter" in cells else "session"
    known = {*NEEDED, *OPTIONAL} - ({"session"} if chapter == "chapter" else set())
    labels = {name: value for name, value in cells.items() if value and name not in known}
    if cells.get(label):
        labels["label"] = cells[label]
    elif label != "label":
        labels.pop("label", None)
    return Row(
        line=line,
        id=id,
        path=cells["path"],
        speaker=cells["speaker"],
        chapter=cells.get(chapter, ""),
        subset=cells.get("subset", "") or split or "all",
        split=split,
        text=cells.get("text", ""),
        start_s=start_s,
        end_s=end_s,
        phones=cells.get("phones", ""),
        labels=labels,
    )


def _id_of(path: str, start: str, end: str) -> str:
    """An id from the path as it is written, and the part: ``clips/a.wav`` from 1.5 s on is ``clips-a_1.5-end``."""
    pure = PurePosixPath(path.replace("\\", "/"))
    parts = pure.with_suffix("").parts if pure.name else ()
    name = "-".join(part for part in parts if part not in ("/", ".", "..")).replace(":", "")
    return f"{name}_{start or '0'}-{end or 'end'}" if start or end else name


def _check_ids(rows: list[Row], given: bool, problems: Problems) -> None:
    first: dict[str, int] = {}
    for row in rows:
        if row.id in first:
            cure = "give each row its own" if given else "add a column id with one of its own for each row"
            problems.add("the id is that of another row", cure, row.line, f"{row.id!r}, also line {first[row.id]}")
        first.setdefault(row.id, row.line)
