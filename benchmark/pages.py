"""The leaderboard's rows as text: tables for the terminal, and the markdown page."""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .columns import COLUMNS, percent
from .rows import REFERENCE, Row, by_table, sample_counts

EMPTY = "No finished cell yet."


def terminal(rows: Sequence[Row], width: int = 120) -> str:
    """The tables as plain text, at most ``width`` characters wide where leaving out columns can do that; which ones is
    said below each table."""
    lines = []
    for table in by_table(rows):
        texts = _fitting(table, width)
        widths = [max(map(len, column)) for column in texts.values()]
        lines.append(one_line(heading(table, rows)))
        for first, *others in zip(*texts.values(), strict=True):
            padded = [first.ljust(widths[0]), *(text.rjust(w) for text, w in zip(others, widths[1:], strict=True))]
            lines.append("  ".join(padded).rstrip())
        dropped = [column.title for column in COLUMNS if column.title not in texts]
        notes = [f"Not in this width, but in leaderboard.md: {', '.join(dropped)}."] if dropped else []
        for note in [*_reading(table), *notes, *_remarks(table), *_apart(table, rows)]:
            lines += textwrap.wrap(
                one_line(note), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        lines.append("")
    return "\n".join(lines) if lines else f"{EMPTY}\n"


def _fitting(table: Sequence[Row], width: int) -> dict[str, list[str]]:
    """The columns that fit into ``width``: titles, and below each its title and a text for each row. Reasons are left
    out: they have lines of their own."""
    short = [replace(row, reason=None) for row in table]
    texts = {column.title: [column.title, *(one_line(column.text(row)) for row in short)] for column in COLUMNS}
    for column in sorted(COLUMNS, key=lambda column: -column.drop):
        if column.drop and len("  ".join(max(text, key=len) for text in texts.values())) > width:
            del texts[column.title]
    return texts


def markdown(rows: Sequence[Row], problems: Sequence[str] = (), command: str | None = None, png: str = "") -> str:
    """The page. ``problems`` are the files that could not be read, ``png`` the address of the picture."""
    page = ["# Leaderboard", ""]
    if command:
        page += ["Made by", "", *("    " + line for line in command.splitlines()), ""]
    for note in dict.fromkeys(_data_note(row.corpus, data) for row in rows for data in _sections(row.cells, "data")):
        page += [f"> {note}", ""]
    if png:
        page += [f"![Accuracy against time]({png})", ""]
    if not rows:
        page += [EMPTY, ""]
    for table in by_table(rows):
        page += [f"## {escape(heading(table, rows))}", ""]
        page += [f"{escape(note)}\n" for note in _apart(table, rows)]
        page += [f"| {' | '.join(column.title for column in COLUMNS)} |"]
        page += ["| --- |" + " ---: |" * (len(COLUMNS) - 1)]
        page += [f"| {' | '.join(escape(column.text(row)) for column in COLUMNS)} |" for row in table]
        page += ["", *(f"- {escape(note)}" for note in [*_reading(table), *_facts(table), *_remarks(table)]), ""]
    page += ["## What the columns mean", "", *(f"- **{column.title}**: {column.meaning}." for column in COLUMNS), ""]
    if problems:
        page += ["## Files that could not be read", "", *(f"- {escape(line)}" for line in problems), ""]
    return "\n".join(page)


def heading(table: Sequence[Row], rows: Sequence[Row]) -> str:
    """The title of a table out of those that ``rows`` make."""
    first, number = table[0], len(_siblings(table, rows))
    synthetic = " (synthetic data)" if any((cell["data"] or {}).get("synthetic") for cell in first.cells) else ""
    which = f", table {first.table + 1} of {number}" if number > 1 else ""
    return f"{first.downstream} on {first.corpus}{synthetic}, preset {first.preset}{which}"


def lengths(table: Sequence[Row]) -> str:
    """The lengths of the utterances on which inference was timed; empty when it was not."""
    return _join(f"{row.inference_length_s:g} s" for row in table if row.inference_length_s is not None)


def _siblings(table: Sequence[Row], rows: Sequence[Row]) -> list[list[Row]]:
    """The tables of the same task, corpus and preset, this one included."""
    return by_table(row for row in rows if row.task == table[0].task)


def _apart(table: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Why this table stands apart from others of the same task."""
    own, others = table[0].settings, [sibling[0].settings for sibling in _siblings(table, rows)]
    keys = sorted({key for other in others for key in own.keys() | other.keys() if own.get(key) != other.get(key)})
    told = ", ".join(f"{key} (here {own.get(key, 'not set')})" for key in keys)
    return [f"Not ranked together with the other tables of this task, which differ in: {told}."] if keys else []


def _reading(table: Sequence[Row]) -> list[str]:
    """The lines without which the numbers of the table can't be read: chance, reference, baseline, disturbances."""
    scored = [row for row in table if row.score is not None]
    if not scored:
        return []
    chances = _join(f"{percent(row.chance)} %" for row in scored)
    reference = _join(f"{percent(row.score)} %" for row in scored if row.upstream == REFERENCE)
    missing = f"no row, add it with --upstream {REFERENCE}"
    chance = f"Chance: {chances}. Log-Mel features without an encoder ({REFERENCE}): {reference or missing}."
    baseline = _join(row.baseline for row in scored if row.baseline)
    if not baseline:
        return [chance, "Not timed."]
    return [
        chance,
        f"Times as a ratio (x) to {baseline}, in rounds interleaved with it: median (quartiles) of the rounds' ratios. "
        f"Inference of utterances of {lengths(scored) or 'no length'}; RTF: computing time over audio time, smaller is "
        f"faster. {_disturbances(scored)}",
    ]


def _disturbances(scored: Sequence[Row]) -> str:
    counts = sample_counts(cell for row in scored for cell in row.cells)
    worst = [row for row in scored if row.num_disturbed > row.num_samples / 2]
    told = ", ".join(f"{row.label} ({row.num_disturbed} of {row.num_samples})" for row in worst)
    return (
        f"{counts['num_disturbed']} of {counts['num_samples']} timing samples were taken while other programs used the "
        f"machine{f', among them more than half of those of {told}' if told else ''}."
    )


def _facts(table: Sequence[Row]) -> list[str]:
    """Task, data, machine and software of a table; where cells differ, all values."""
    cells = [cell for row in table for cell in row.cells]
    tasks, data, times, machines = (_sections(cells, name) for name in ("task", "data", "time", "environment"))
    lines = []
    if tasks:
        better = {True: "higher is better", False: "lower is better"}
        heads = (f"{t['metric']} ({better[t['higher_is_better']]}), {t['head']} head, over {t['unit']}" for t in tasks)
        lines += [f"Task: {_join(heads)}. Split: {_join(t['split'] for t in tasks)}"]
    if data:
        sizes = _join(", ".join(f"{num} {name}" for name, num in d["splits"].items()) for d in data)
        speakers, folds = (_join(d[key] for d in data) for key in ("num_speakers_test", "num_folds"))
        items = _join(row.items for row in table if row.items is not None)
        lines += [f"Data: utterances {sizes}; {speakers} test speakers; folds {folds}; {items} scored items."]
    if times:
        settings = _join(f"threads: {t['threads']}, {json.dumps(t['setting'], sort_keys=True)}" for t in times)
        lines += [f"Timing: {settings}."]
    where = _join(f"{e['cpu']}, {e['cores']} cores, {_gigabytes(e['ram_bytes'])} GB, {e['os']}" for e in machines)
    threads, python = (_join(e[key] for e in machines) for key in ("threads", "python"))
    packages = _join(", ".join(f"{name} {v}" for name, v in e["packages"].items() if v) for e in machines)
    changed = {True: " with local changes", False: ""}
    commits = _join((e["git_commit"] or "unknown")[:12] + changed[bool(e["git_dirty"])] for e in machines)
    return [
        *lines,
        f"Machine: {where}; threads: {threads}.",
        f"Software: Python {python}; {packages}; commit {commits}.",
    ]


def _remarks(table: Sequence[Row]) -> list[str]:
    """One line for each row that is not what it should be."""
    lines = []
    for row in table:
        seeds = ", ".join(map(str, row.seeds))
        lines += [f"{row.label}: {row.status} (seed {seeds}): {row.reason}"] if row.reason else []
        lines += [f"{row.label}: {note}" for note in row.notes]
    return lines


def _sections(cells: Iterable[dict], name: str) -> list[dict]:
    """A section of all cells that have it."""
    return [cell[name] for cell in cells if cell[name]]


def _data_note(corpus: str, data: dict) -> str:
    title = f"**{escape(corpus)} is synthetic data.**" if data["synthetic"] else f"{escape(corpus)}:"
    return f"{title} {escape(data['note'])}"


def _gigabytes(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / 1e9:.1f}"


def _join(values: Iterable[object]) -> str:
    """Different values once each."""
    return " / ".join(dict.fromkeys(map(str, values)))


def one_line(text: object) -> str:
    """``text`` without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escape(text: object) -> str:
    """``text`` on one line, to be read as it is by markdown, in tables too."""
    safe = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|$~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", safe)
