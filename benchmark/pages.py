"""The leaderboard's rows as text: tables for the terminal, and the markdown page."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .by_length import READING, length_table
from .columns import COLUMNS, columns
from .facts import direction, facts, made_on, reading, remarks, sections
from .rows import Row, by_table

EMPTY = "No finished cell yet."


def terminal(rows: Sequence[Row], width: int = 120) -> str:
    """The tables as plain text, at most ``width`` characters wide where leaving out columns can do that; which ones is
    said below each table, and what holds for all tables once at the end."""
    lines, tables = [], by_table(rows)
    below = [_below(table, rows, width) for table in tables]
    common = [note for note in below[0] if all(note in notes for notes in below)] if len(below) > 1 else []
    for table, notes in zip(tables, below, strict=True):
        lines += _wrapped(heading(table, rows), width)
        scored = any(row.score is not None for row in table)
        texts = _fitting(table, width) if scored else {}
        widths = [max(map(len, column)) for column in texts.values()]
        for first, *others in zip(*texts.values(), strict=True):
            padded = [first.ljust(widths[0]), *(text.rjust(w) for text, w in zip(others, widths[1:], strict=True))]
            lines.append("  ".join(padded).rstrip())
        for note in notes:
            lines += [] if note in common else _wrapped(note, width)
        lines.append("")
    for number, note in enumerate(common):
        lines += _wrapped(f"{'' if number else 'Of all tables: '}{note}", width)
    lines += [""] if common else []
    return "\n".join(lines) if lines else f"{EMPTY}\n"


def _below(table: Sequence[Row], rows: Sequence[Row], width: int) -> list[str]:
    """What is told below a table in the terminal."""
    shown = _fitting(table, width) if any(row.score is not None for row in table) else None
    left_out = [column.title for column in columns(table) if shown is not None and column.title not in shown]
    left_out += ["scores and times by utterance length"] if length_table(table) else []
    notes = [f"Not here, but in leaderboard.md: {', '.join(left_out)}."] if left_out else []
    return [*reading(table), *notes, *remarks(table), *apart(table, rows)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(one_line(text), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _fitting(table: Sequence[Row], width: int) -> dict[str, list[str]]:
    """The columns that fit into ``width``: titles, and below each its title and a text for each row."""
    shown = columns(table)
    texts = {column.title: [column.title, *(one_line(column.text(row)) for row in table)] for column in shown}
    for column in sorted(shown, key=lambda column: -column.drop):
        if column.drop and len("  ".join(max(text, key=len) for text in texts.values())) > width:
            del texts[column.title]
    return texts


def markdown(
    rows: Sequence[Row],
    problems: Sequence[str] = (),
    command: str | None = None,
    png: str = "",
    unfinished: str = "",
) -> str:
    """The page. ``problems`` are the files that could not be read, ``png`` the address of the picture, ``unfinished``
    says what the run has not made yet."""
    page = ["# Leaderboard", ""]
    if command:
        page += ["Made by", "", *("    " + line for line in command.splitlines()), ""]
    if unfinished:
        page += [f"**{escape(unfinished)}**", ""]
    for about in data_notes(rows):
        page += data_note(*about)
    if png:
        page += [f"![Scores against time]({png})", ""]
    if not rows:
        page += [EMPTY, ""]
    for table in by_table(rows):
        page += [f"## {escape(heading(table, rows))}", ""]
        page += [f"{escape(note)}\n" for note in apart(table, rows)]
        if any(row.score is not None for row in table):
            shown = columns(table)
            page += grid([[c.title for c in shown], *([c.text(row) for c in shown] for row in table)])
        page += [*(f"- {escape(note)}" for note in [*reading(table), *facts(table), *remarks(table)]), ""]
        if by_length := length_table(table):
            page += [f"{escape(READING)}\n", *grid(by_length)]
    meanings = [(c.title, c.meaning) for shown in [*map(columns, by_table(rows))] or [COLUMNS] for c in shown]
    page += ["## What the columns mean", "", *(f"- **{escape(t)}**: {text}." for t, text in dict(meanings).items()), ""]
    if problems:
        page += ["## Files that could not be read", "", *(f"- {escape(line)}" for line in problems), ""]
    return "\n".join(page)


def grid(lines: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table of texts, the header first, numbers to the right, and the empty line that ends it."""
    header, *rest = (f"| {' | '.join(map(escape, line))} |" for line in lines)
    return [header, "| --- |" + " ---: |" * (len(lines[0]) - 1), *rest, ""]


def heading(table: Sequence[Row], rows: Sequence[Row]) -> str:
    """The title of a table out of those that ``rows`` make, and what its scores are."""
    tasks = dict.fromkeys(
        f"{cell['task']['metric']}, {direction(cell['task']['higher_is_better'])}"
        for row in table
        for cell in row.cells
        if cell["task"]
    )
    return ": ".join(filter(None, [title(table, rows), " / ".join(tasks)]))


def title(table: Sequence[Row], rows: Sequence[Row]) -> str:
    """Task, data, preset and number of a table out of those that ``rows`` make."""
    first, number = table[0], len(_siblings(table, rows))
    synthetic = " (synthetic data)" if any((cell["data"] or {}).get("synthetic") for cell in first.cells) else ""
    which = f", table {first.table + 1} of {number}" if number > 1 else ""
    return f"{first.downstream} on {first.corpus}{synthetic}, preset {first.preset}{which}"


def _siblings(table: Sequence[Row], rows: Sequence[Row]) -> list[list[Row]]:
    """The tables of the same task, corpus and preset, this one included."""
    return by_table(row for row in rows if row.task == table[0].task)


def apart(table: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Why this table stands apart from others of the same task."""
    told = differing(table[0].settings, [sibling[0].settings for sibling in _siblings(table, rows)])
    return [f"Not ranked together with the other tables of this task, which differ in: {told}."] if told else []


def differing(own: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> str:
    """The keys in which one of ``others`` has another value than ``own``, and the value there; empty when none has."""
    keys = sorted({key for other in others for key in own.keys() | other.keys() if own.get(key) != other.get(key)})
    return ", ".join(f"{key} (here {own.get(key, 'not set')})" for key in keys)


def data_notes(rows: Sequence[Row]) -> list[tuple[str, bool, str]]:
    """What is said of each corpus: its name, whether it is synthetic, and a note."""
    found = ((row.corpus, data["synthetic"], data["note"]) for row in rows for data in sections(row.cells, "data"))
    return list(dict.fromkeys(found))


def data_note(corpus: str, synthetic: bool, note: str) -> list[str]:
    """That as a quotation, and the empty line that ends it."""
    title = f"**{escape(corpus)} is synthetic data.**" if synthetic else f"{escape(corpus)}:"
    return [f"> {title} {escape(note)}", ""]


def where_made(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section that ends a page."""
    return ["## Where it was made", "", *(f"- {escape(line)}" for line in made_on(machines)), ""]


def one_line(text: object) -> str:
    """``text`` without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escape(text: object) -> str:
    """``text`` on one line, to be read as it is by markdown, in tables too."""
    safe = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|$~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", safe)
