"""The leaderboard's tables as the page shows them: the texts of the other pages, and numbers to sort by."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..by_length import length_table
from ..columns import COLUMNS, Column, columns, number, percent
from ..facts import facts, reading, remarks
from ..names import MEL, seeds_text
from ..pages import apart, heading, title
from ..panels import inference_ms, panels
from ..rows import Row, by_table
from .scatter import Scatter, scatter
from .styles import Style

BRIEF = 4  # columns that the terminal would drop later are shown at once, others when asked for
BAR = 100  # width of the little pictures of intervals, in their own units


@dataclass(frozen=True)
class Cell:
    """``text`` is what counts, ``spread`` its interval or the like; ``value`` sorts, None = not known."""

    text: str
    spread: str
    value: float | None
    brief: bool


@dataclass(frozen=True)
class Bar:
    """A score and its interval in the width of all scores of the table, 0 to `BAR`."""

    place: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A row: its cells, and links to its result files."""

    label: str
    words: str  # that a filter looks at
    cells: list[Cell]
    bar: Bar | None
    links: list[tuple[str, str]]
    top: bool  # cannot be told from the best
    kind: str  # "baseline", "reference", "" or why there is no score: "failed", "skipped", ...
    reason: str | None


@dataclass(frozen=True)
class Table:
    """One table with all that is told of it."""

    anchor: str
    name: str  # of the task, with what tells it from other tables of it
    title: str
    heading: str
    columns: tuple[Column, ...]
    ascending: bool  # the order of its scores
    lines: list[Line]
    mel: float | None  # the place of the row without an encoder, as in bars
    apart: list[str]
    reading: list[str]
    facts: list[str]
    remarks: list[str]
    plots: list[Scatter]
    by_length: list[list[str]]
    scored: bool


Score = tuple[str, float | None, bool]  # as text, to sort by, and whether it cannot be told from the best


@dataclass(frozen=True)
class Overview:
    """Scores of every row that has one, by table: the lines are those of the fullest table first, each a label, what a
    filter looks at, and the scores."""

    tables: list[Table]
    lines: list[tuple[str, str, list[Score]]]


def tables(rows: Sequence[Row], out: Path, styles: Mapping[str, Style]) -> list[Table]:
    """All tables, in the order of the other pages."""
    found = by_table(rows)
    names = Counter(table[0].downstream for table in found)
    return [_table(table, rows, out, styles, number, names) for number, table in enumerate(found, 1)]


def overview(rows: Sequence[Row], tables: Sequence[Table]) -> Overview | None:
    """None where there are fewer than two tables with scores to look at side by side."""
    shown = [(table, own) for table, own in zip(tables, by_table(rows), strict=True) if table.scored]
    if len(shown) < 2:
        return None
    scores = [{row.label: row for row in own if row.score is not None} for _, own in shown]
    labels = dict.fromkeys(label for found in sorted(scores, key=len, reverse=True) for label in found)
    words = {label: dict.fromkeys(line.words for table, _ in shown for line in table.lines if line.label == label)
             for label in labels}  # fmt: skip
    lines = [(label, " ".join(words[label]), [_score(found.get(label)) for found in scores]) for label in labels]
    return Overview([table for table, _ in shown], lines)


def _score(row: Row | None) -> Score:
    return ("-", None, False) if row is None else (percent(row.score), row.score, _is_top(row))


def _table(
    table: Sequence[Row],
    rows: Sequence[Row],
    out: Path,
    styles: Mapping[str, Style],
    place_in_page: int,
    names: Mapping[str, int],
) -> Table:
    shown, scored = columns(table), [row for row in table if row.score is not None]
    ends = [end for row in scored for end in (row.score or 0.0, *(row.interval or ()))]
    low, high = min(ends, default=0.0), max(ends, default=1.0)

    def place(value: float) -> float:
        return round(BAR * (value - low) / (high - low), 1) if high > low else BAR / 2

    higher, name = all(row.higher_is_better for row in scored), title(table, rows)
    once = Counter(row.label for row in scored)
    tips = {row.label: _tip(row) for row in scored if once[row.label] == 1}
    return Table(
        anchor=f"table-{place_in_page}",
        name=table[0].downstream if names[table[0].downstream] == 1 else name,
        title=name,
        heading=heading(table, rows),
        columns=shown,
        ascending=not higher,
        lines=[_line(row, shown, out, place) for row in table],
        mel=next((place(row.score) for row in scored if row.upstream == MEL and row.score is not None), None),
        apart=apart(table, rows),
        reading=reading(table),
        facts=facts(table),
        remarks=remarks(table),
        plots=[drawn for panel in panels(table, name) if (drawn := scatter(panel, higher, styles, tips))],
        by_length=length_table(table),
        scored=bool(scored),
    )


def _line(row: Row, shown: Sequence[Column], out: Path, place: Callable[[float], float]) -> Line:
    bar = None
    if row.score is not None:
        low, high = row.interval or (row.score, row.score)
        bar = Bar(place(row.score), place(low), place(high))
    kind = "" if row.score is not None else row.status
    if not kind and row.compared_to == row.label:
        kind = "baseline"
    elif not kind and row.upstream == MEL:
        kind = "reference"
    words = (
        row.label,
        row.upstream,
        row.status,
        row.order,
        *((cell["upstream"] or {}).get("title") for cell in row.cells),
    )
    return Line(
        label=row.label,
        words=" ".join(dict.fromkeys(word.lower() for word in words if word)),
        cells=[_cell(column, row) for column in shown],
        bar=bar,
        links=[_link(cell, out) for cell in row.cells],
        top=_is_top(row),
        kind=kind,
        reason=row.reason,
    )


def _cell(column: Column, row: Row) -> Cell:
    text, _, spread = column.text(row).partition(" (")
    if column is COLUMNS[0]:
        text, spread = row.label, ""
    return Cell(text, f"({spread}" if spread else "", column.value and column.value(row), column.drop <= BRIEF)


def _is_top(row: Row) -> bool:
    return row.ranks is not None and row.ranks[0] == 1


def _link(cell: Mapping[str, Any], out: Path) -> tuple[str, str]:
    """The address of a result file from the page, and what it is called."""
    key = cell["cell"]
    return quote(cell["_path"].relative_to(out).as_posix()), seeds_text(key["seed"], key["probe_seed"])


def _tip(row: Row) -> str:
    """What the picture of a table tells of a point."""
    milliseconds = inference_ms(row)
    texts = {column.title: column.text(row) for column in columns([row])}
    parts = [
        f"{texts['score % (95 %)']} %",
        f"rank {texts['rank']}",
        "" if row.lane_pretrain_s is None else f"{number(row.lane_pretrain_s)} s of pre-training",
        "" if milliseconds is None else f"{number(milliseconds)} ms of inference per 10 s of audio",
        f"training step {texts['train x']} x" if row.train_ratio else "",
        f"inference {texts['infer x']} x" if row.inference_ratio else "",
        f"{texts['params']} parameters, {texts['MACs']} MACs",
    ]
    return "; ".join(filter(None, parts))
