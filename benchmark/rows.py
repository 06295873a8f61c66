"""Result cells to the rows of the leaderboard: what is averaged in a row, and which rows may be ranked together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .comparison import compare
from .names import BASELINE, DATA_PLACES, MEL
from .plain import flat, text
from .row_times import Spread, largest_memory, row_times
from .scored import Scored, read_scored
from .seeds import pair, sort_seeds
from .statistics import clustered_interval

PACKAGES = ("torch", "torchaudio", "numpy")  # whose versions must agree
OWN_SECTIONS = frozenset({"attention", "checkpoint"})  # of the configuration, in which rows of a table may differ
TASK_CODE = "task.source_hash"
PLACES = frozenset({*DATA_PLACES, "seed", "upstream"})  # what a fingerprint, or the row, stands for

Group = list[dict]  # the cells of a row: one for each pair of seeds


@dataclass(frozen=True)
class Row:
    """One upstream on one task: all its seeds that were made under the same settings and ended with the same status.

    Scores, losses and seconds are means over the seeds of pre-training, of what is not pre-trained over those of the
    probe; memory is the largest; None = not known. ``table`` counts the tables of one task, corpus and preset: rows of
    different tables were made under different settings and must not be ranked against each other. ``settings`` is what
    its table has in common.
    """

    corpus: str
    preset: str
    downstream: str
    upstream: str
    label: str  # the upstream, with what tells it from its namesakes in the same table
    table: int
    status: str
    reason: str | None
    seeds: tuple[int, ...]  # of pre-training; empty when nothing is pre-trained
    probe_seeds: tuple[int, ...]
    higher_is_better: bool = True
    score: float | None = None
    score_min: float | None = None
    score_max: float | None = None
    seed_spread: float | None = None  # standard deviation of the score over seeds of pre-training
    probe_spread: float | None = None  # and over seeds of the probe
    interval: tuple[float, float] | None = None  # 95 %, clustered by speaker
    compared_to: str | None = None  # the label of the row that differences are taken to
    difference: tuple[float, float, float] | None = None  # and its 95 % interval, paired and clustered by speaker
    detectable: float | None = None  # the smallest true difference to it that the table would probably tell
    ranks: tuple[int, int] | None = None  # that the row may have; those of a table hold together at 95 %
    num_speakers: int | None = None  # with test items
    chance: float | None = None
    dev: float | None = None
    items: int | None = None
    order: str | None = None  # of time in the number of frames, as the attention declares it
    parameters: int | None = None
    macs_10s: int | None = None
    pretrain_loss: float | None = None
    pretrain_s: float | None = None  # as it was, with whatever else the machine did
    lane_pretrain_s: float | None = None  # the same steps at the speed of the timing lane
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
    scored: Scored | None = field(default=None, repr=False)

    @property
    def task(self) -> tuple[str, str, str]:
        """Corpus, preset and downstream: the tables of one task differ in their settings only."""
        return self.corpus, self.preset, self.downstream


def rows(cells: Sequence[dict]) -> list[Row]:
    """One row for each upstream on each task, table by table, best score first; rows without a score come last."""
    groups: dict[str, Group] = {}
    for cell in cells:
        where = {key: value for key, value in cell["cell"].items() if key not in ("seed", "probe_seed")}
        groups.setdefault(text([where, cell["status"], _settings(cell), _variant(cell)]), []).append(cell)
    tasks: dict[tuple[str, ...], list[Group]] = {}
    for _, group in sorted(groups.items()):
        tasks.setdefault(tuple(group[0]["cell"][key] for key in ("corpus", "preset", "downstream")), []).append(group)
    found = []
    for _, task_groups in sorted(tasks.items()):
        tables = sorted(_tables(task_groups), key=lambda table: -len(table[1]))  # the fullest first
        for number, (settings, members) in enumerate(tables):
            table = [_row(group, number, settings, members) for group in members]
            found += sorted(_compared(table), key=_order)
    return found


def task_names(rows: Iterable[Row]) -> dict[tuple[str, int], str]:
    """What tables with a score are called, by task and number: as the task, with the number where it has several."""
    tables = sorted({(row.downstream, row.table) for row in rows if row.score is not None})
    times = Counter(task for task, _ in tables)
    return {(task, table): task if times[task] == 1 else f"{task}, table {table + 1}" for task, table in tables}


def by_table(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each table, in the order in which they come."""
    tables: dict[tuple, list[Row]] = {}
    for row in rows:
        tables.setdefault((row.task, row.table), []).append(row)
    return list(tables.values())


def _tables(groups: list[Group]) -> list[tuple[dict[str, object], list[Group]]]:
    """Groups that may be ranked together, with their common settings. Pre-trained and timed groups set up the tables;
    the others (the reference, failed cells) may lack settings and go to every table that agrees with what they have.
    Of the former only the code of the task may be unknown: older files do not tell it."""
    tables: list[tuple[dict[str, object], list[Group]]] = []
    for group in sorted(groups, key=lambda group: (not _is_complete(group[0]), -len(_settings(group[0])))):
        own, complete = _settings(group[0]), _is_complete(group[0])
        agreeing = [
            members
            for known, members in tables
            if _agree(known, own) and (not complete or (known.keys() ^ own.keys()) <= {TASK_CODE})
        ]
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
    """What must be equal for two rows to be ranked together: data, task, configuration without the upstream's own part
    (the probe's section is the budget of tuning), machine, threads, device and versions. Flat, dotted keys; what a cell
    does not know is left out."""
    machine = cell["environment"]
    packages, python = machine["packages"] or {}, machine["python"] or ""
    shared = {key: value for key, value in (cell["config"] or {}).items() if key not in OWN_SECTIONS}
    parts = {
        "config": {key: value for key, value in flat(shared).items() if key not in PLACES},
        "data": {key: (cell["data"] or {}).get(key) for key in ("fingerprint", "splits", "num_folds")},
        "data.pretraining": {"fingerprint": ((cell["data"] or {}).get("pretraining") or {}).get("fingerprint")},
        "task": {key: (cell["task"] or {}).get(key) for key in ("metric", "head", "split", "source_hash")},
        "environment": {key: machine.get(key) or None for key in ("cpu", "cores", "threads", "gpu")},
        "version": {"python": ".".join(python.split(".")[:2]) or None, **{key: packages.get(key) for key in PACKAGES}},
        "device": machine.get("device") or ((cell["time"] or {}).get("setting") or {}).get("device"),
    }
    return {key: value for key, value in flat(parts).items() if value is not None}


def _variant(cell: Mapping) -> dict[str, object]:
    """What tells an upstream from its namesakes: its own sections of the configuration and its source."""
    own = {key: value for key, value in (cell["config"] or {}).items() if key in OWN_SECTIONS}
    return {**flat(own), "source": (cell["upstream"] or {}).get("source_hash")}


def _row(group: Group, table: int, settings: Mapping[str, object], members: list[Group]) -> Row:
    first = group[0]
    reasons = dict.fromkeys(cell["reason"] for cell in group if cell["reason"])
    row = {
        **{key: first["cell"][key] for key in ("corpus", "preset", "downstream", "upstream")},
        "label": _label(group, members),
        "table": table,
        "status": first["status"],
        "reason": "; ".join(reasons) or None,
        "order": (first["upstream"] or {}).get("order"),
        "parameters": (first["upstream"] or {}).get("parameters"),
        "macs_10s": (first["upstream"] or {}).get("macs_10s"),
        "settings": settings,
        "cells": tuple(group),
    }
    if first["status"] != "ok":
        seeds, probe_seeds = (tuple(sorted(set(numbers))) for numbers in zip(*map(pair, group), strict=True))
        return Row(**row, seeds=seeds, probe_seeds=probe_seeds)
    sorted_seeds = sort_seeds(group, pretrained=first["pretrain"] is not None)
    averaged, higher_is_better = sorted_seeds.averaged, first["task"]["higher_is_better"]
    scored, interval, problem = _scored(averaged, higher_is_better)
    tests = [cell["scores"]["test"] for cell in averaged]
    return Row(
        **row,
        seeds=sorted_seeds.pretraining,
        probe_seeds=sorted_seeds.probes,
        higher_is_better=higher_is_better,
        score=_mean(tests),
        score_min=min(tests),
        score_max=max(tests),
        seed_spread=sorted_seeds.pretraining_spread,
        probe_spread=sorted_seeds.probe_spread,
        interval=interval,
        num_speakers=None if scored is None else scored.num_speakers,
        notes=tuple(filter(None, [*_row_notes(group), sorted_seeds.note, problem, *_probe_notes(group)])),
        chance=_mean(cell["scores"]["chance"] for cell in averaged),
        dev=_mean(cell["scores"]["dev"] for cell in averaged),
        items=first["scores"]["items"],
        pretrain_loss=_mean(cell["pretrain"]["valid_loss"] for cell in averaged if cell["pretrain"]),
        pretrain_s=_mean(cell["pretrain"]["seconds"] for cell in averaged if cell["pretrain"]),
        train_bytes=largest_memory(group, "train_bytes"),
        inference_bytes=largest_memory(group, "inference_bytes"),
        scored=scored,
        **row_times(group),
    )


def _row_notes(group: Group) -> list[str]:
    """What the upstream says of itself, how many recordings were left out as broken, and why times are missing."""
    numbers = sorted({len((cell["data"] or {}).get("left_out") or ()) for cell in group} - {0})
    told = f"{' or '.join(map(str, numbers))} recordings left out as broken (--skip-broken)" if numbers else ""
    failed = dict.fromkeys(cell["time"]["error"] for cell in group if (cell["time"] or {}).get("error"))
    return [group[0]["upstream"].get("note") or "", told, *(f"timing failed: {error}" for error in failed)]


def _probe_notes(group: Group) -> list[str]:
    """What the task's expert says about the scores; not in files before schema 2."""
    return list(dict.fromkeys(note for cell in group for note in (cell["probe"] or {}).get("notes", ())))


def _label(group: Group, members: list[Group]) -> str:
    """The upstream's name and, if the table has it more than once, the values in which it differs from the others."""
    name, own = group[0]["cell"]["upstream"], _variant(group[0])
    namesakes = [other[0] for other in members if other[0]["cell"]["upstream"] == name and other[0]["upstream"]]
    variants = [_variant(cell) for cell in namesakes if group[0]["upstream"]]
    differing = [key for key in own if any(variant.get(key) != own[key] for variant in variants)]
    told = ", ".join(f"{key.rpartition('.')[2]} {own[key]}" for key in differing)
    return f"{name} ({told})" if told else name


def _scored(
    cells: Sequence[dict], higher_is_better: bool
) -> tuple[Scored | None, tuple[float, float] | None, str | None]:
    """The outcomes of a row, averaged over its seeds, the interval of its score, and what is missing and why."""
    try:
        scored = read_scored(cells, higher_is_better)
    except ValueError as error:
        return None, None, f"no interval, difference and rank: {error}"
    interval = clustered_interval(scored.points, scored.totals * scored.num_seeds, scored.speakers)
    return scored, interval, None if interval else "no interval: the test split has fewer than two speakers"


def _compared(table: Sequence[Row]) -> list[Row]:
    """The rows of a table with their differences and ranks."""
    known = {f"{row.label} {number}": row for number, row in enumerate(table)}  # two rows may have one label
    scored = {key: row.scored for key, row in known.items() if row.scored is not None}
    named = ([key for key in sorted(scored) if known[key].upstream == name] for name in (BASELINE, MEL))
    baseline = next((keys[0] for keys in named if keys), None)
    compared = compare(scored, baseline, all(row.higher_is_better for row in table))
    rows = []
    for key, row in known.items():
        found = compared.get(key)
        if found is not None:
            row = replace(
                row,
                compared_to=baseline and known[baseline].label,
                difference=found.difference,
                detectable=found.detectable,
                ranks=found.ranks,
                notes=(*row.notes, found.note) if found.note else row.notes,
            )
        rows.append(row)
    return rows


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _order(row: Row) -> tuple:
    if row.score is None:
        return (1, row.status, row.label)
    return (0, -row.score if row.higher_is_better else row.score, row.label)
