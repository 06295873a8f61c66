"""Result cells to the rows of the leaderboard: what is averaged in a row, and which rows may be ranked together."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .result_files import read_utterances
from .statistics import clustered_interval, ratio_spread

REFERENCE = "mel"  # the row without an encoder
INFERENCE_LENGTH_S = 10.0  # inference is shown at this utterance length, or at the longest one measured below it
OWN_SECTIONS = frozenset({"upstream", "attention"})  # sections of the configuration in which rows of a table may differ
PLACES = frozenset({"data.root", "data.alignments", "seed"})  # what the fingerprint of the data, or the row, stands for

Spread = tuple[float, float, float]  # median, first quartile, third quartile
Group = list[dict]  # the cells of a row: one for each seed


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
    order: str | None = None  # of time in the number of frames, as the attention declares it
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

    @property
    def task(self) -> tuple[str, str, str]:
        """Corpus, preset and downstream: the tables of one task differ in their settings only."""
        return self.corpus, self.preset, self.downstream


def rows(cells: Sequence[dict]) -> list[Row]:
    """One row for each upstream on each task, table by table, best score first; rows without a score come last."""
    groups: dict[str, Group] = {}
    for cell in cells:
        where = {key: value for key, value in cell["cell"].items() if key != "seed"}
        groups.setdefault(_key([where, cell["status"], _settings(cell), _variant(cell)]), []).append(cell)
    tasks: dict[tuple[str, ...], list[Group]] = {}
    for _, group in sorted(groups.items()):
        tasks.setdefault(tuple(group[0]["cell"][key] for key in ("corpus", "preset", "downstream")), []).append(group)
    found = []
    for _, task_groups in sorted(tasks.items()):
        tables = sorted(_tables(task_groups), key=lambda table: -len(table[1]))  # the fullest first
        for number, (settings, members) in enumerate(tables):
            found += sorted((_row(group, number, settings, members) for group in members), key=_rank)
    return found


def by_table(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each table, in the order in which they come."""
    tables: dict[tuple, list[Row]] = {}
    for row in rows:
        tables.setdefault((row.task, row.table), []).append(row)
    return list(tables.values())


def _tables(groups: list[Group]) -> list[tuple[dict[str, object], list[Group]]]:
    """Groups that may be ranked together, with their common settings. Pre-trained and timed groups set up the tables;
    the others (the reference, failed cells) may lack settings and go to every table that agrees with what they have."""
    tables: list[tuple[dict[str, object], list[Group]]] = []
    for group in sorted(groups, key=lambda group: (not _is_complete(group[0]), -len(_settings(group[0])))):
        own, complete = _settings(group[0]), _is_complete(group[0])
        agreeing = [members for known, members in tables if (known == own if complete else _agree(known, own))]
        for members in agreeing:
            members.append(group)
        if not agreeing:
            tables.append((own, [group]))
    return tables


def _is_complete(cell: Mapping) -> bool:
    return cell["status"] == "ok" and cell["pretrain"] is not None and cell["time"] is not None


def _agree(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _settings(cell: Mapping) -> dict[str, object]:
    """What must be equal for two rows to be ranked together: data, task, configuration without the upstream's own part,
    processor, threads and device. Flat, dotted keys; what a cell does not know is left out."""
    shared = {key: value for key, value in (cell["config"] or {}).items() if key not in OWN_SECTIONS}
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


def _flat(tree: Mapping, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _row(group: Group, table: int, settings: Mapping[str, object], members: list[Group]) -> Row:
    first = group[0]
    reasons = dict.fromkeys(cell["reason"] for cell in group if cell["reason"])
    row = {
        **{key: first["cell"][key] for key in ("corpus", "preset", "downstream", "upstream")},
        "label": _label(group, members),
        "table": table,
        "status": first["status"],
        "reason": "; ".join(reasons) or None,
        "seeds": tuple(sorted(cell["cell"]["seed"] for cell in group)),
        "order": (first["upstream"] or {}).get("order"),
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
        notes=(*filter(None, [first["upstream"].get("note")]), *notes),
        chance=_mean(cell["scores"]["chance"] for cell in group),
        dev=_mean(cell["scores"]["dev"] for cell in group),
        items=first["scores"]["items"],
        pretrain_loss=_mean(cell["pretrain"]["valid_loss"] for cell in group if cell["pretrain"]),
        pretrain_s=_mean(cell["pretrain"]["seconds"] for cell in group if cell["pretrain"]),
        train_bytes=_largest(group, "train_bytes"),
        inference_bytes=_largest(group, "inference_bytes"),
        **_times(group),
    )


def _label(group: Group, members: list[Group]) -> str:
    """The upstream's name and, if the table has it more than once, the values in which it differs from the others."""
    name, own = group[0]["cell"]["upstream"], _variant(group[0])
    namesakes = [other[0] for other in members if other[0]["cell"]["upstream"] == name and other[0]["upstream"]]
    variants = [_variant(cell) for cell in namesakes if group[0]["upstream"]]
    differing = [key for key in own if any(variant.get(key) != own[key] for variant in variants)]
    told = ", ".join(f"{key.rpartition('.')[2]} {own[key]}" for key in differing)
    return f"{name} ({told})" if told else name


def _interval(group: Group) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """The interval over the utterances of all seeds; without one, a note that says why."""
    try:
        files = [read_utterances(cell) for cell in group]
    except ValueError as error:
        return None, (f"no interval: {error}",)
    correct, total, speaker = (np.concatenate([file[key] for file in files]) for key in ("correct", "total", "speaker"))
    interval = clustered_interval(correct, total, speaker)
    return interval, () if interval else ("no interval: the test split has fewer than two speakers",)


def _times(group: Group) -> dict:
    """The row's fields on time. Rounds of all seeds are pooled; a measurement that several cells share counts once."""
    times = list({_key(cell["time"]["phases"]): cell["time"] for cell in group if cell["time"]}.values())
    lengths_s = {phase: _length_s(phase) for time in times for phase in time["phases"]}
    lengths_s = {phase: length_s for phase, length_s in lengths_s.items() if length_s <= INFERENCE_LENGTH_S}
    inference = max(lengths_s, key=lengths_s.__getitem__, default="")
    features, encoder = _seconds_per_audio_s(times, "features"), _seconds_per_audio_s(times, inference)
    if encoder is None and (group[0]["upstream"] or {}).get("parameters") == 0:
        encoder = 0.0  # no parameters, no encoder
    return {
        "baseline": ", ".join(sorted({time["baseline"] for time in times})) or None,
        "train_ratio": _pooled_ratio(times, "train_step"),
        "inference_ratio": _pooled_ratio(times, inference),
        "inference_length_s": lengths_s.get(inference),
        "real_time_factor": None if features is None or encoder is None else features + encoder,
        **sample_counts(group),
    }


def _length_s(phase: str) -> float:
    """The utterance length of a phase of inference; infinite for other phases."""
    match = re.fullmatch(r"inference_(\d+(?:\.\d+)?)s", phase)
    return float(match[1]) if match else float("inf")


def sample_counts(cells: Iterable[dict]) -> dict[str, int]:
    """Timing samples and disturbed ones; a phase that several cells share counts once."""
    phases = {_key(phase): phase[1] for cell in cells if cell["time"] for phase in cell["time"]["phases"].items()}
    flags = [flag for phase in phases.values() for flag in phase["disturbed"]]
    return {"num_samples": len(flags), "num_disturbed": sum(flags)}


def _pooled_ratio(times: list[dict], name: str) -> Spread | None:
    phases = [time["phases"][name] for time in times if name in time["phases"]]
    phases = [phase for phase in phases if phase["baseline_samples_s"]]
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


def _largest(group: Group, key: str) -> int | None:
    known = [cell["memory"][key] for cell in group if cell["memory"] and cell["memory"][key] is not None]
    return max(known, default=None)


def _rank(row: Row) -> tuple:
    if row.score is None:
        return (1, row.status, row.label)
    return (0, -row.score if row.cells[0]["task"]["higher_is_better"] else row.score, row.label)


def _key(value: object) -> str:
    """A text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, default=str)
