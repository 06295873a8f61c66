"""The leaderboard, from the result files alone: HTML and markdown, two csv files, a picture, and the terminal."""

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .by_length import length_csv
from .pages import markdown, terminal, title
from .panels import panels
from .plain import no_formula
from .plot import draw
from .report.page import page as html
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
    html: Path
    csv: Path
    png: Path | None
    rows: list[Row]
    problems: list[str]

    @property
    def files(self) -> list[Path]:
        """Those that people read."""
        return [path for path in (self.html, self.markdown, self.csv, self.png) if path]


def still_to_make(num_missing: int, num_cells: int) -> str:
    """How many cells are still to be made; empty when none is."""
    told = f"{num_missing} of the {num_cells} cells that were asked for are not made yet"
    return f"Unfinished: {told}; the same command goes on with them." if num_missing else ""


def write(out: Path, command: str | None = None, unfinished: str = "") -> Written:
    """Make ``leaderboard.html``, ``.md``, ``.csv`` and ``.png`` and ``leaderboard_by_length.csv`` in ``out`` from the
    result files in ``out/cells``. The pages show the ``command`` line and, where there is any, what is
    ``unfinished``."""
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
    write_atomically(out / "leaderboard.html", html(found, out, problems_told, command, unfinished).encode())
    md, html_page, csv_file = (out / f"leaderboard.{kind}" for kind in ("md", "html", "csv"))
    return Written(md, html_page, csv_file, png if found else None, found, problems)


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
        writer.writerow(map(no_formula, line))
    return text.getvalue()


def picture(rows: Sequence[Row]) -> bytes:
    """A PNG: for each table with scores, these against seconds of pre-training and against time of inference."""
    tables = by_table(rows)
    scored = [table for table in tables if any(row.score is not None for row in table)]
    return draw([panel for table in scored or tables[:1] for panel in panels(table, title(table, rows))])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: writes the pages of a result folder again, with what has been added to it since."""
    from .request_file import missing, read_request  # torch comes with it

    parser = argparse.ArgumentParser(prog="python -m s3prl_attention.benchmark leaderboard", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    out = parser.parse_args(arguments).out
    if not (out / "cells").is_dir():
        sys.exit(f"error: {out} holds no result of run_benchmark.py: give --out a folder that a run has written to")
    request = read_request(out) or {"command": None, "cells": []}
    written = write(out, request["command"], still_to_make(missing(out, request), len(request["cells"])))
    for problem in written.problems:
        print(problem, file=sys.stderr)
    print("written: " + ", ".join(map(str, written.files)))


if __name__ == "__main__":
    main()
