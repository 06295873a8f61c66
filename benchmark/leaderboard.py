"""The leaderboard, from the result files alone: a markdown page, two csv files, a picture, a table for the terminal."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .by_length import length_csv
from .facts import direction, lengths
from .names import MEL
from .pages import markdown, terminal, title
from .plot import Panel, Point, draw
from .result_files import read_cells, write_atomically
from .rows import Row, by_table, rows

__all__ = ["Written", "markdown", "picture", "rows", "terminal", "write"]

CSV_COLUMNS = {
    "interval": ("interval_low", "interval_high"),
    "difference": ("difference", "difference_low", "difference_high"),
    "ranks": ("rank_low", "rank_high"),
    "train_ratio": ("train_ratio", "train_ratio_q25", "train_ratio_q75"),
    "inference_ratio": ("inference_ratio", "inference_ratio_q25", "inference_ratio_q75"),
}  # fields of a row that take more than one column


@dataclass(frozen=True)
class Written:
    """What `write` made; ``png`` is None when there was no row. ``problems`` names the files that could not be read."""

    markdown: Path
    csv: Path
    png: Path | None
    rows: list[Row]
    problems: list[str]


def write(out: Path, command: str | None = None, unfinished: str = "") -> Written:
    """Make ``leaderboard.md``, ``.csv`` and ``.png`` and ``leaderboard_by_length.csv`` in ``out`` from the result files
    in ``out/cells``. The page shows the ``command`` line and, where there is any, what is ``unfinished``."""
    cells, problems = read_cells(out / "cells")
    found = [replace(row, notes=tuple(_relative(note, out) for note in row.notes)) for row in rows(cells)]
    png = out / "leaderboard.png"
    if found:
        write_atomically(png, picture(found))
    else:
        png.unlink(missing_ok=True)
    problems_told = [_relative(line, out) for line in problems]
    page = markdown(found, problems_told, command, png.name if found else "", unfinished)
    write_atomically(out / "leaderboard.csv", _csv(found).encode())
    write_atomically(out / "leaderboard_by_length.csv", length_csv(found).encode())
    write_atomically(out / "leaderboard.md", page.encode())
    return Written(out / "leaderboard.md", out / "leaderboard.csv", png if found else None, found, problems)


def _relative(text: str, out: Path) -> str:
    """``text`` with paths in ``out`` told from there: pages are published, home folders need not be."""
    return text.replace(f"{out}{os.sep}", "")


def _csv(rows: Sequence[Row]) -> str:
    """All numbers, unrounded, a line for each row; intervals and spreads in columns of their own."""
    names = [item.name for item in fields(Row) if item.name not in ("settings", "cells", "scored")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column for name in names for column in CSV_COLUMNS.get(name, (name,)))
    for row in rows:
        line: list[object] = []
        for name in names:
            value = getattr(row, name)
            if name in CSV_COLUMNS:
                line += value or [None] * len(CSV_COLUMNS[name])
            else:
                line.append(" ".join(map(str, value)) if isinstance(value, tuple) else value)
        writer.writerow(line)
    return text.getvalue()


def picture(rows: Sequence[Row]) -> bytes:
    """A PNG: for each table with scores, these against seconds of pre-training and against time of inference."""
    tables = by_table(rows)
    scored = [table for table in tables if any(row.score is not None for row in table)]
    return draw([panel for table in scored or tables[:1] for panel in _panels(table, title(table, rows))])


def _panels(table: Sequence[Row], name: str) -> list[Panel]:
    scored = [row for row in table if row.score is not None]
    mel = next((100 * row.score for row in scored if row.upstream == MEL and row.score is not None), None)
    chance = next((100 * row.chance for row in scored if row.chance is not None), None)
    tasks = [row.cells[0]["task"] for row in scored]
    metric = next((f"{task['metric']}, % ({direction(task['higher_is_better'])})" for task in tasks), "score, %")
    reach = tuple(100 * end for row in scored if row.upstream != MEL for end in (row.score or 0, *(row.interval or ())))
    timed_on = f", timed on {lengths(scored)}" if lengths(scored) else ""
    return [
        Panel(
            title=name,
            x_label=x_label,
            y_label=f"test {metric}",
            points=_points(scored, time),
            dashed=None if mel is None else (f"{MEL}, no encoder ({mel:.1f} %)", mel),
            dotted=None if chance is None else (f"chance ({chance:.1f} %)", chance),
            reach=reach,
            if_empty=f"no finished cell with a time of {what}",
        )
        for what, x_label, time in (
            (
                "pre-training",
                "pre-training, s: its steps at the pace of the timing lane",
                lambda row: row.lane_pretrain_s,
            ),
            ("inference", f"inference with features, ms per 10 s of audio{timed_on}", _inference_ms),
        )
    ]


def _inference_ms(row: Row) -> float | None:
    return None if row.real_time_factor is None else 10_000 * row.real_time_factor


def _points(table: Sequence[Row], time: Callable[[Row], float | None]) -> tuple[Point, ...]:
    """The rows with a score and a time; the reference is a line, not a point."""
    shown = [(row, time(row)) for row in table if row.upstream != MEL]
    return tuple(
        Point(row.label, x, 100 * row.score, row.interval and (100 * row.interval[0], 100 * row.interval[1]))
        for row, x in shown
        if row.score is not None and x is not None
    )
