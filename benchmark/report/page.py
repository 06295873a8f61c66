"""``leaderboard.html``: what is in a result folder, on one page that can be sorted, filtered and carried away."""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..by_length import READING
from ..columns import COLUMNS, columns
from ..names import MEL
from ..pages import EMPTY, data_notes, one_line
from ..rows import Row, by_table
from . import axes
from .attention import UNREADABLE, analyses
from .audit import FOLDER, find_audit
from .curves import groups
from .styles import styles
from .tables import BAR, BRIEF, overview, tables

TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"


def page(
    rows: Sequence[Row], out: Path, problems: Sequence[str] = (), command: str | None = None, unfinished: str = ""
) -> str:
    """The page, from the rows that the other pages show and what else is in ``out``: logs, audit and analyses.

    Args:
        rows: of the leaderboard.
        out: the result folder, in which the page will stand; links are told from there.
        problems: a line for each file that could not be read.
        command: that made the results.
        unfinished: what the run has not made yet.
    """
    problems, audit = list(problems), None
    told_of, unreadable = analyses(out)
    try:
        audit = find_audit(out)
    except UNREADABLE as error:
        told = str(error) if isinstance(error, ValueError) else f"{out / FOLDER / 'cost.json'}: {error!r}"
        unreadable.append(told.replace(f"{out}{os.sep}", ""))
    looks = styles(row.label for row in rows)
    shown = tables(rows, out, looks)
    return _template().render(
        tables=shown,
        overview=overview(rows, shown),
        curves=groups(rows, out, looks),
        audit=audit,
        analyses=told_of,
        problems=[*problems, *unreadable],
        command=command,
        unfinished=unfinished,
        counts=_counts(rows),
        data_notes=data_notes(rows),
        meanings=_meanings(rows),
        by_length_reading=READING,
        empty=EMPTY,
    )


def _counts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """How much there is: numbers and words."""
    cells = {str(cell["_path"]): cell for row in rows for cell in row.cells}.values()
    statuses = Counter(cell["status"] for cell in cells)
    keys = [cell["cell"] for cell in cells]
    named = {"upstream": "upstreams", "downstream": "tasks", "corpus": "corpora", "seed": "seeds"}
    singular = {"downstream": "task"}
    told = []
    for name, plural in named.items():
        number = len({key[name] for key in keys if key[name] != MEL})
        told.append((str(number), singular.get(name, name) if number == 1 else plural))
    words = {status: status for status in sorted(statuses)} | {"ok": "finished"}
    return [*told, *((str(statuses[status]), f"cells {words[status]}") for status in words if statuses[status])]


def _meanings(rows: Sequence[Row]) -> Mapping[str, str]:
    found = [*map(columns, by_table(rows))] or [COLUMNS]
    return {column.title: column.meaning for shown in found for column in shown}


@cache
def _template() -> Any:
    """The template with style and script in it, and the digests that let a browser run these and nothing else."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (loader.get_source(environment, name)[0] for name in (STYLE, SCRIPT))
    environment.globals.update(
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
        axes=axes,
        BAR=BAR,
        BRIEF=BRIEF,
    )
    return environment.get_template(TEMPLATE)


def _finalize(value: object) -> object:
    """Texts without what would steer a terminal or turn the direction of reading."""
    return (
        one_line(value)
        if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable()
        else value
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
