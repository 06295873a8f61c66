"""The leaderboard, from the result files alone: a markdown page, a csv, a picture and a table for the terminal."""

import csv
import io
import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from .results import read_cells, read_utterances, write_atomically
from .statistics import clustered_interval, ratio_spread

REFERENCE = "mel"  # the row without an encoder
INFERENCE_LENGTH_S = 10.0  # inference is shown at this utterance length, or at the longest one measured below it
OWN_SECTIONS = frozenset({"upstream", "attention"})  # sections of the configuration in which rows of a table may differ
PLACES = frozenset({"data.root", "data.alignments", "seed"})  # what the fingerprint of the data, or the row, stands for

Spread = tuple[float, float, float]  # median, first quartile, third quartile


@dataclass(frozen=True)
class Row:
    """One upstream on one task: all its seeds that were made under the same settings and ended with the same status.

    Scores, losses and seconds are means over the seeds, memory is the largest; None = not measured. ``table`` counts
    the tables of one task, corpus and preset: rows of different tables were made under different settings and must not
    be ranked against each other. ``settings`` is what its table has in common.
    """

    corpus: str
    preset: str
    downstream: str
    upstream: str
    label: str  # the upstream, with what tells it from its namesakes in the same table
    table: int
    status: str
    reason: str | None
    seeds: tuple[int, ...]
    score: float | None = None
    score_min: float | None = None
    score_max: float | None = None
    interval: tuple[float, float] | None = None  # 95 %, clustered by speaker, over the utterances of all seeds
    chance: float | None = None
    dev: float | None = None
    items: int | None = None
    parameters: int | None = None
    macs_10s: int | None = None
    pretrain_loss: float | None = None
    pretrain_s: float | None = None
    baseline: str | None = None
    train_ratio: Spread | None = None
    inference_ratio: Spread | None = None
    inference_length_s: float | None = None
    real_time_factor: float | None = None
    train_bytes: int | None = None
    inference_bytes: int | None = None
    num_samples: int = 0
    num_disturbed: int = 0
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)
    cells: tuple[dict, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Written:
    """What `write` made; ``png`` is None when there was no row. ``problems`` names the files that could not be read."""

    markdown: Path
    csv: Path
    png: Path | None
    rows: list[Row]
    problems: list[str]


@dataclass(frozen=True)
class Column:
    """A column of the tables. When the terminal is narrow the columns with the highest ``drop`` go first."""

    title: str
    text: Callable[[Row], str]
    meaning: str
    drop: int = 0


COLUMNS = (
    Column(
        "upstream", lambda r: r.label, f"the attention; `{REFERENCE}` is the same head on log-Mel features, no encoder"
    ),
    Column(
        "score % (95 %)",
        lambda r: _score(r),
        "share of right answers on the test split, with its 95 % interval (bootstrap over speakers: with few speakers "
        "it is too narrow)",
    ),
    Column("chance %", lambda r: _percent(r.chance), "what guessing scores on the same test split", 2),
    Column("seeds", lambda r: _seeds(r), "number of seeds averaged, with the lowest and highest score", 7),
    Column("dev %", lambda r: _percent(r.dev), "the score on the dev split, which choices were made on", 8),
    Column("params", lambda r: _count(r.parameters), "parameters of the upstream", 3),
    Column("MACs", lambda r: _count(r.macs_10s), "multiply-accumulates of the encoder for 10 s of audio", 10),
    Column("loss", lambda r: _number(r.pretrain_loss), "masked-L1 loss of pre-training on held-out data", 9),
    Column("pretrain s", lambda r: _number(r.pretrain_s), "wall-clock seconds of pre-training (not interleaved)", 6),
    Column("train x", lambda r: _ratio(r.train_ratio), "time of a training step, as a ratio to the baseline", 1),
    Column("infer x", lambda r: _ratio(r.inference_ratio), "time of encoder inference, as a ratio to the baseline", 1),
    Column(
        "RTF",
        lambda r: _number(r.real_time_factor),
        "real-time factor: seconds of computing (features and encoder) per second of audio; smaller is faster",
        4,
    ),
    Column(
        "MB tr/inf",
        lambda r: f"{_megabytes(r.train_bytes)}/{_megabytes(r.inference_bytes)}",
        "peak memory of training and of inference, 10^6 bytes",
        5,
    ),
)


def rows(cells: Sequence[dict]) -> list[Row]:
    """One row for each upstream on each task, table by table, best score first; rows without a score come last."""
    groups: dict[str, list[dict]] = {}
    for cell in cells:
        where = {key: value for key, value in cell["cell"].items() if key != "seed"}
        own = [where, cell["status"], _settings(cell), _variant(cell)]
        groups.setdefault(json.dumps(own, sort_keys=True, default=str), []).append(cell)
    tasks: dict[tuple[str, ...], list[list[dict]]] = {}
    for _, group in sorted(groups.items()):
        tasks.setdefault(tuple(group[0]["cell"][key] for key in ("corpus", "preset", "downstream")), []).append(group)
    found = []
    for _, task_groups in sorted(tasks.items()):
        tables = sorted(_tables(task_groups), key=lambda table: -len(table[1]))  # the fullest first
        for number, (settings, members) in enumerate(tables):
            table = [_row(group, number, settings, members) for group in members]
            found += sorted(table, key=_rank)
    return found


def _tables(groups: list[list[dict]]) -> list[tuple[dict[str, object], list[list[dict]]]]:
    """Groups that may be ranked together, with their common settings. Pre-trained and timed groups set up the tables;
    the others (the reference, failed cells) may lack settings and go to every table that agrees with what they have."""
    tables: list[tuple[dict[str, object], list[list[dict]]]] = []

    def is_complete(group: list[dict]) -> bool:
        return group[0]["status"] == "ok" and group[0]["pretrain"] is not None and group[0]["time"] is not None

    for group in sorted(groups, key=lambda group: (not is_complete(group), -len(_settings(group[0])))):
        own = _settings(group[0])
        if is_complete(group):
            agreeing = [members for settings, members in tables if settings == own]
        else:
            agreeing = [members for settings, members in tables if _agree(settings, own)]
        for members in agreeing:
            members.append(group)
        if not agreeing:
            tables.append((own, [group]))
    return tables


def _agree(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _settings(cell: Mapping) -> dict[str, object]:
    """What must be equal for two rows to be ranked together: data, task, configuration without the upstream's own part,
    processor, threads and device. Flat, dotted keys; what a cell does not know is left out."""
    shared = {key: value for key, value in cell["config"].items() if key not in OWN_SECTIONS} if cell["config"] else {}
    parts = {
        "config": {key: value for key, value in _flat(shared).items() if key not in PLACES},
        "data": {key: (cell["data"] or {}).get(key) for key in ("fingerprint", "splits", "num_folds")},
        "task": {key: (cell["task"] or {}).get(key) for key in ("metric", "head", "split")},
        "environment": {key: cell["environment"][key] or None for key in ("cpu", "threads")},
        "device": ((cell["time"] or {}).get("setting") or {}).get("device"),
    }
    return {key: value for key, value in _flat(parts).items() if value is not None}


def _variant(cell: Mapping) -> dict[str, object]:
    """What tells an upstream from its namesakes: its own sections of the configuration and its source."""
    own = {key: value for key, value in (cell["config"] or {}).items() if key in OWN_SECTIONS}
    return {**_flat(own), "source": (cell["upstream"] or {}).get("source_hash")}


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {} if value is None and not prefix else {prefix: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{prefix}.{key}" if prefix else key).items()}


def _row(group: list[dict], table: int, settings: Mapping[str, object], members: list[list[dict]]) -> Row:
    first = group[0]
    names = {key: first["cell"][key] for key in ("corpus", "preset", "downstream", "upstream")}
    reasons = dict.fromkeys(cell["reason"] for cell in group if cell["reason"])
    row = {
        **names,
        "label": _label(group, members),
        "table": table,
        "status": first["status"],
        "reason": "; ".join(reasons) or None,
        "seeds": tuple(sorted(cell["cell"]["seed"] for cell in group)),
        "parameters": (first["upstream"] or {}).get("parameters"),
        "macs_10s": (first["upstream"] or {}).get("macs_10s"),
        "settings": settings,
        "cells": tuple(group),
    }
    if first["status"] != "ok":
        return Row(**row)
    tests = [cell["scores"]["test"] for cell in group]
    interval, notes = _interval(group)
    return Row(
        **row,
        score=_mean(tests),
        score_min=min(tests),
        score_max=max(tests),
        interval=interval,
        notes=notes,
        chance=_mean(cell["scores"]["chance"] for cell in group),
        dev=_mean(cell["scores"]["dev"] for cell in group),
        items=first["scores"]["items"],
        pretrain_loss=_mean(cell["pretrain"]["valid_loss"] for cell in group if cell["pretrain"]),
        pretrain_s=_mean(cell["pretrain"]["seconds"] for cell in group if cell["pretrain"]),
        train_bytes=_largest(group, "train_bytes"),
        inference_bytes=_largest(group, "inference_bytes"),
        **_times(group),
    )


def _label(group: list[dict], members: list[list[dict]]) -> str:
    """The upstream's name and, if the table has it more than once, the values in which it differs from the others."""
    name, own = group[0]["cell"]["upstream"], _variant(group[0])
    variants = [
        _variant(other[0]) for other in members if other[0]["cell"]["upstream"] == name and other[0]["upstream"]
    ]
    differing = [key for key in own if group[0]["upstream"] and any(other.get(key) != own[key] for other in variants)]
    told = ", ".join(f"{key.rpartition('.')[2]} {own[key]}" for key in differing)
    return f"{name} ({told})" if told else name


def _interval(group: list[dict]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """The interval over the utterances of all seeds; without one, a note that says why."""
    try:
        files = [read_utterances(cell) for cell in group]
    except ValueError as error:
        return None, (f"no interval: {error}",)
    correct, total, speaker = (np.concatenate([file[key] for file in files]) for key in ("correct", "total", "speaker"))
    interval = clustered_interval(correct, total, speaker)
    return interval, () if interval else ("no interval: the test split has fewer than two speakers",)


def _times(group: list[dict]) -> dict:
    """The row's fields on time. Rounds of all seeds are pooled; a measurement that several cells share counts once."""
    timed = {json.dumps(cell["time"]["phases"], sort_keys=True): cell["time"] for cell in group if cell["time"]}
    times = [timed[key] for key in sorted(timed)]
    lengths = {name: _length_s(name) for time in times for name in time["phases"]}
    known = [length for length in lengths.values() if length is not None and length <= INFERENCE_LENGTH_S]
    length = max(known, default=None)
    inference = next((name for name, found in lengths.items() if length is not None and found == length), "")
    features, encoder = _seconds_per_audio_s(times, "features"), _seconds_per_audio_s(times, inference)
    if encoder is None and (group[0]["upstream"] or {}).get("parameters") == 0:
        encoder = 0.0  # no parameters, no encoder
    return {
        "baseline": ", ".join(sorted({time["baseline"] for time in times})) or None,
        "train_ratio": _pooled_ratio(times, "train_step"),
        "inference_ratio": _pooled_ratio(times, inference),
        "inference_length_s": length,
        "real_time_factor": None if features is None or encoder is None else features + encoder,
        **_sample_counts(group),
    }


def _sample_counts(cells: Iterable[dict]) -> dict[str, int]:
    """Timing samples and disturbed ones; a phase that several cells share counts once."""
    phases = [phase for cell in cells if cell["time"] for phase in cell["time"]["phases"].items()]
    flags = [phase["disturbed"] for _, phase in {json.dumps(phase): phase for phase in phases}.values()]
    return {"num_samples": sum(map(len, flags)), "num_disturbed": sum(map(sum, flags))}


def _length_s(phase: str) -> float | None:
    match = re.fullmatch(r"inference_(\d+(?:\.\d+)?)s", phase)
    return float(match[1]) if match else None


def _pooled_ratio(times: list[dict], name: str) -> Spread | None:
    phases = [time["phases"][name] for time in times if name in time["phases"]]
    phases = [phase for phase in phases if phase["samples_s"] and phase["baseline_samples_s"]]
    own, baseline = ([s for phase in phases for s in phase[key]] for key in ("samples_s", "baseline_samples_s"))
    return ratio_spread(own, baseline) if own else None


def _seconds_per_audio_s(times: list[dict], name: str) -> float | None:
    """Median seconds of computing per second of audio that a sample works on."""
    phases = [time["phases"][name] for time in times if name in time["phases"]]
    speeds = [s / phase["audio_s"] for phase in phases if phase["audio_s"] for s in phase["samples_s"]]
    return float(np.median(speeds)) if speeds else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _largest(group: list[dict], key: str) -> int | None:
    known = [cell["memory"][key] for cell in group if cell["memory"] and cell["memory"][key] is not None]
    return max(known, default=None)


def _rank(row: Row) -> tuple:
    if row.score is None:
        return (1, row.status, row.label)
    return (0, -row.score if row.cells[0]["task"]["higher_is_better"] else row.score, row.label)


def terminal(rows: Sequence[Row], width: int = 120) -> str:
    """The tables as plain text, at most ``width`` characters wide where leaving out columns can do that; which ones is
    said below each table."""
    lines = []
    for table in _by_table(rows):
        columns = list(COLUMNS)
        while True:
            texts = [[c.title, *(_one_line(c.text(replace(row, reason=None))) for row in table)] for c in columns]
            widths = [max(map(len, column)) for column in texts]
            least = max(columns, key=lambda column: column.drop)
            if sum(widths) + 2 * (len(widths) - 1) <= width or not least.drop:
                break
            columns.remove(least)
        lines.append(_one_line(_heading(table, rows)))
        for first, *others in zip(*texts, strict=True):
            padded = [first.ljust(widths[0]), *(text.rjust(w) for text, w in zip(others, widths[1:], strict=True))]
            lines.append("  ".join(padded).rstrip())
        dropped = [column.title for column in COLUMNS if column not in columns]
        notes = [f"Not in this width, but in leaderboard.md: {', '.join(dropped)}."] if dropped else []
        for note in [*_reading(table), *notes, *_remarks(table), *_apart(table, rows)]:
            lines += textwrap.wrap(
                _one_line(note), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        lines.append("")
    return "\n".join(lines) if lines else "No finished cell yet.\n"


def markdown(rows: Sequence[Row], problems: Sequence[str] = (), command: str | None = None, png: str = "") -> str:
    """The page. ``problems`` are the files that could not be read, ``png`` the address of the picture."""
    page = ["# Leaderboard", ""]
    if command:
        page += ["Made by", "", *("    " + line for line in command.splitlines()), ""]
    for line in dict.fromkeys(_data_note(row, cell["data"]) for row in rows for cell in row.cells if cell["data"]):
        page += [f"> {line}", ""]
    if png:
        page += [f"![Accuracy against time]({png})", ""]
    if not rows:
        page += ["No finished cell yet.", ""]
    for table in _by_table(rows):
        page += [f"## {_escape(_heading(table, rows))}", ""]
        page += [f"{_escape(note)}\n" for note in _apart(table, rows)]
        page += [f"| {' | '.join(column.title for column in COLUMNS)} |"]
        page += ["| --- |" + " ---: |" * (len(COLUMNS) - 1)]
        page += [f"| {' | '.join(_escape(column.text(row)) for column in COLUMNS)} |" for row in table]
        page += ["", *(f"- {_escape(note)}" for note in [*_reading(table), *_facts(table), *_remarks(table)]), ""]
    page += ["## What the columns mean", "", *(f"- **{column.title}**: {column.meaning}." for column in COLUMNS), ""]
    if problems:
        page += ["## Files that could not be read", "", *(f"- {_escape(line)}" for line in problems), ""]
    return "\n".join(page)


def _by_table(rows: Sequence[Row]) -> list[list[Row]]:
    tables: dict[tuple, list[Row]] = {}
    for row in rows:
        tables.setdefault((row.corpus, row.preset, row.downstream, row.table), []).append(row)
    return list(tables.values())


def _siblings(table: Sequence[Row], rows: Sequence[Row]) -> list[list[Row]]:
    """The tables of the same task, corpus and preset, this one included."""

    def task(row: Row) -> tuple[str, ...]:
        return row.corpus, row.preset, row.downstream

    return _by_table([row for row in rows if task(row) == task(table[0])])


def _heading(table: Sequence[Row], rows: Sequence[Row]) -> str:
    first, number = table[0], len(_siblings(table, rows))
    synthetic = " (synthetic data)" if any((cell["data"] or {}).get("synthetic") for cell in first.cells) else ""
    which = f", table {first.table + 1} of {number}" if number > 1 else ""
    return f"{first.downstream} on {first.corpus}{synthetic}, preset {first.preset}{which}"


def _apart(table: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Why this table stands apart from others of the same task."""
    others = [sibling[0].settings for sibling in _siblings(table, rows) if sibling[0].table != table[0].table]
    own = table[0].settings
    keys = sorted({key for other in others for key in own.keys() | other.keys() if own.get(key) != other.get(key)})
    told = ", ".join(f"{key} (here {own.get(key, 'not set')})" for key in keys)
    return [f"Not ranked together with the other tables of this task, which differ in: {told}."] if keys else []


def _reading(table: Sequence[Row]) -> list[str]:
    """The lines without which the numbers of the table can't be read: chance, reference, baseline, disturbances."""
    scored = [row for row in table if row.score is not None]
    if not scored:
        return []
    chances = _join(f"{_percent(row.chance)} %" for row in scored)
    reference = _join(f"{_percent(row.score)} %" for row in scored if row.upstream == REFERENCE)
    missing = f"no row, add it with --upstream {REFERENCE}"
    lines = [f"Chance: {chances}. Log-Mel features without an encoder ({REFERENCE}): {reference or missing}."]
    baseline = _join(row.baseline for row in scored if row.baseline)
    if not baseline:
        return [*lines, "Not timed."]
    length = _lengths(scored) or "no length"
    counts = _sample_counts(cell for row in scored for cell in row.cells)
    busy = ", ".join(f"{row.label} {row.num_disturbed} of {row.num_samples}" for row in scored if row.num_disturbed)
    return [
        *lines,
        f"Times as a ratio (x) to {baseline}, in rounds interleaved with it: median (quartiles) of the rounds' ratios. "
        f"Inference of utterances of {length}; RTF: computing time over audio time, smaller is faster. "
        f"{counts['num_disturbed']} of {counts['num_samples']} timing samples were taken while other programs used the "
        f"machine{f' ({busy})' if busy else ''}.",
    ]


def _facts(table: Sequence[Row]) -> list[str]:
    """Task, data, machine and software of a table; where cells differ, all values."""
    cells = [cell for row in table for cell in row.cells]
    tasks, data = [cell["task"] for cell in cells if cell["task"]], [cell["data"] for cell in cells if cell["data"]]
    times, machines = [cell["time"] for cell in cells if cell["time"]], [cell["environment"] for cell in cells]
    better = {True: "higher is better", False: "lower is better"}
    split = _join(task["split"] for task in tasks)
    heads = _join(f"{t['metric']} ({better[t['higher_is_better']]}), {t['head']} head, over {t['unit']}" for t in tasks)
    sizes = _join(", ".join(f"{num} {name}" for name, num in d["splits"].items()) for d in data)
    speakers, folds = (_join(d[key] for d in data) for key in ("num_speakers_test", "num_folds"))
    items = _join(row.items for row in table if row.items is not None)
    commits = _join(
        (e["git_commit"] or "unknown")[:12] + " with local changes" * bool(e["git_dirty"]) for e in machines
    )
    packages = _join(", ".join(f"{name} {v}" for name, v in e["packages"].items() if v) for e in machines)
    lines = [f"Task: {heads}. Split: {split}"] if tasks else []
    lines += (
        [f"Data: utterances {sizes}; {speakers} test speakers; folds {folds}; {items} scored items."] if data else []
    )
    settings = _join(f"threads: {t['threads']}, {json.dumps(t['setting'], sort_keys=True)}" for t in times)
    lines += [f"Timing: {settings}."] if times else []
    where = _join(f"{e['cpu']}, {e['cores']} cores, {_gigabytes(e['ram_bytes'])} GB, {e['os']}" for e in machines)
    threads, python = (_join(e[key] for e in machines) for key in ("threads", "python"))
    return [
        *lines,
        f"Machine: {where}; threads: {threads}.",
        f"Software: Python {python}; {packages}; commit {commits}.",
    ]


def _lengths(table: Sequence[Row]) -> str:
    return _join(f"{row.inference_length_s:g} s" for row in table if row.inference_length_s is not None)


def _remarks(table: Sequence[Row]) -> list[str]:
    """One line for each row that is not what it should be."""
    lines = []
    for row in table:
        seeds = ", ".join(map(str, row.seeds))
        lines += [f"{row.label}: {row.status} (seed {seeds}): {row.reason}"] if row.reason else []
        lines += [f"{row.label}: {note}" for note in row.notes]
    return lines


def _data_note(row: Row, data: Mapping) -> str:
    title = f"**{_escape(row.corpus)} is synthetic data.**" if data["synthetic"] else f"{_escape(row.corpus)}:"
    return f"{title} {_escape(data['note'])}"


def _score(row: Row) -> str:
    if row.score is None:
        return f"{row.status}: {row.reason}" if row.reason else row.status
    interval = "-".join(map(_percent, row.interval)) if row.interval else "-"
    return f"{_percent(row.score)} ({interval})"


def _seeds(row: Row) -> str:
    spread = (
        f" ({_percent(row.score_min)}-{_percent(row.score_max)})"
        if len(row.seeds) > 1 and row.score is not None
        else ""
    )
    return f"{len(row.seeds)}{spread}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None or value == 0:
        return "-" if value is None else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _count(number: int | None) -> str:
    if number is None or number < 1000:
        return "-" if number is None else str(number)
    size, letter = next(unit for unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= unit[0])
    return f"{_number(number / size)}{letter}"


def _ratio(spread: Spread | None) -> str:
    return f"{spread[0]:.2f} ({spread[1]:.2f}-{spread[2]:.2f})" if spread else "-"


def _megabytes(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 1e6:.0f}"


def _gigabytes(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / 1e9:.1f}"


def _join(values: Iterable[object]) -> str:
    return " / ".join(dict.fromkeys(map(str, values)))


def _one_line(text: object) -> str:
    """``text`` without line breaks and without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _escape(text: object) -> str:
    """``text`` on one line, to be read as it is by markdown, in tables too."""
    safe = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|$~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", safe)


def write(out: Path, command: str | None = None) -> Written:
    """Make ``leaderboard.md``, ``.csv`` and ``.png`` in ``out`` from the result files in ``out/cells``. ``command`` is
    the command line to be shown on the page."""
    cells, problems = read_cells(out / "cells")
    found = [replace(row, notes=tuple(_relative(note, out) for note in row.notes)) for row in rows(cells)]
    png = out / "leaderboard.png"
    if found:
        write_atomically(png, picture(found))
    else:
        png.unlink(missing_ok=True)
    page = markdown(found, [_relative(line, out) for line in problems], command, png.name if found else "")
    write_atomically(out / "leaderboard.csv", _csv(found).encode())
    write_atomically(out / "leaderboard.md", page.encode())
    return Written(out / "leaderboard.md", out / "leaderboard.csv", png if found else None, found, problems)


def _relative(text: str, out: Path) -> str:
    """``text`` with paths in ``out`` told from there: pages are published, home folders need not be."""
    return text.replace(f"{out}{os.sep}", "")


def _csv(rows: Sequence[Row]) -> str:
    """All numbers, unrounded, a line for each row; intervals and spreads in columns of their own."""
    parts = {
        "interval": ("interval_low", "interval_high"),
        "train_ratio": ("train_ratio", "train_ratio_q25", "train_ratio_q75"),
        "inference_ratio": ("inference_ratio", "inference_ratio_q25", "inference_ratio_q75"),
    }
    names = [item.name for item in fields(Row) if item.name not in ("settings", "cells")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column for name in names for column in parts.get(name, (name,)))
    for row in rows:
        line: list[object] = []
        for name in names:
            value = getattr(row, name)
            if name in parts:
                line += value or [None] * len(parts[name])
            else:
                line.append(" ".join(map(str, value)) if isinstance(value, tuple) else value)
        writer.writerow(line)
    return text.getvalue()


def picture(rows: Sequence[Row]) -> bytes:
    """A PNG: for each table, accuracy against seconds of pre-training and against time of inference."""
    from .plot import Panel, Point, draw

    def points(table: Sequence[Row], time: Callable[[Row], float | None]) -> tuple[Point, ...]:
        shown = [(row, time(row)) for row in table if row.upstream != REFERENCE]
        return tuple(
            Point(row.label, x, 100 * row.score, row.interval and (100 * row.interval[0], 100 * row.interval[1]))
            for row, x in shown
            if row.score is not None and x is not None
        )

    def inference_ms(row: Row) -> float | None:
        return None if row.real_time_factor is None else 10_000 * row.real_time_factor

    panels = []
    for table in _by_table(rows):
        scored = [row for row in table if row.score is not None]
        mel = next((100 * row.score for row in scored if row.upstream == REFERENCE and row.score is not None), None)
        chance = next((100 * row.chance for row in scored if row.chance is not None), None)
        length = f", timed on {_lengths(scored)}" if _lengths(scored) else ""
        metric = next((cell["task"]["metric"] for row in scored for cell in row.cells), "score")
        for title, x_label, values in (
            ("pre-training", "pre-training, seconds of wall-clock time", points(table, lambda row: row.pretrain_s)),
            ("inference", f"inference with features, ms per 10 s of audio{length}", points(table, inference_ms)),
        ):
            panels.append(
                Panel(
                    title=_heading(table, rows),
                    x_label=x_label,
                    y_label=f"test {metric}, %",
                    points=values,
                    dashed=None if mel is None else (f"{REFERENCE}, no encoder ({mel:.1f} %)", mel),
                    dotted=None if chance is None else (f"chance ({chance:.1f} %)", chance),
                    if_empty=f"no finished cell with a time of {title}",
                )
            )
    return draw(panels)
