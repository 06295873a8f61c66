"""What a result file must look like: its sections, what each of them holds, and of which kind it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

SCHEMA = 2
STATUSES = ("ok", "failed", "skipped", "timeout")
NULL_WHEN_OK = ("pretrain", "time", "memory")  # mel and s3prl's are not pre-trained; a cell may be written untimed
NEVER_NULL = ("cell", "environment")  # a failed cell may lack every other section

TEXT, FLAG, MAP, ROWS = "text", "flag", "object", "list"
COUNT = "whole number from 0"  # below 2**63
NUMBER = "number"  # finite
SECONDS = "number from 0"
FILE = "path below the result folder"
MAYBE = " or null"
COUNTS, TEXTS = "object of whole numbers", "object of texts or nulls"

FIELDS: dict[str, dict[str, str]] = {  # section -> what must be there
    "cell": {
        "upstream": TEXT,
        "downstream": TEXT,
        "seed": COUNT,
        "probe_seed": COUNT,
        "preset": TEXT,
        "corpus": TEXT,
    },
    "upstream": {
        "name": TEXT,
        "title": TEXT,
        "source_hash": TEXT,
        "parameters": COUNT,
        "macs_10s": COUNT + MAYBE,
        "order": TEXT + MAYBE,
        "hidden_dim": COUNT,
    },
    "task": {"name": TEXT, "metric": TEXT, "higher_is_better": FLAG, "head": TEXT, "unit": TEXT, "split": TEXT},
    "data": {
        "fingerprint": TEXT,
        "synthetic": FLAG,
        "note": TEXT,
        "splits": COUNTS,
        "num_speakers_test": COUNT,
        "num_folds": COUNT,
    },
    "config": {},
    "difference": {},
    "pretrain": {"steps": COUNT, "valid_loss": NUMBER, "train_loss": NUMBER, "seconds": SECONDS, "log": FILE},
    "probe": {
        "seconds": SECONDS,
        "extraction_s": SECONDS,
        "layer_weights": ROWS,
        "chosen_epoch": ROWS,
        "epochs": COUNT,
        "tried": ROWS + MAYBE,
        "chosen": ROWS + MAYBE,
        "chosen_on": TEXT + MAYBE,
    },
    "scores": {"dev": NUMBER + MAYBE, "test": NUMBER, "chance": NUMBER, "items": COUNT, "utterances": FILE},
    "time": {"baseline": TEXT, "interleaved_with": ROWS, "threads": COUNT, "setting": MAP, "phases": MAP},
    "memory": {"train_bytes": COUNT + MAYBE, "inference_bytes": COUNT + MAYBE},
    "environment": {
        "cpu": TEXT,
        "cores": COUNT + MAYBE,
        "threads": COUNT,
        "ram_bytes": COUNT + MAYBE,
        "os": TEXT,
        "python": TEXT,
        "packages": TEXTS,
        "git_commit": TEXT + MAYBE,
        "git_dirty": FLAG + MAYBE,
    },
}
LATER: dict[str, dict[str, str]] = {  # what older files do not have
    "upstream": {"note": TEXT + MAYBE},
    "data": {"lengths": ROWS, "left_out": ROWS, "pretraining": MAP + MAYBE},
    "pretrain": {"checkpoint": FILE},
    "probe": {"notes": ROWS, "race_ended": COUNT},
    "time": {"error": TEXT},
    "environment": {"device": TEXT, "gpu": TEXT},
}
BUCKET = {"bucket": TEXT, "utterances": COUNT, "seconds": SECONDS, "padded_s": SECONDS}  # of data.lengths
TRIAL = {"learning_rate": NUMBER, "dev": ROWS}  # of probe.tried; null where a probe did not end
OPTIONS = ("data", "model", "attention", "pretrain", "probe", "timing")  # of config
PHASE = {"audio_s": NUMBER + MAYBE, "samples_s": ROWS, "baseline_samples_s": ROWS, "disturbed": ROWS}  # of time.phases


def problems(cell: object) -> list[str]:
    """What keeps ``cell`` from being a cell of this schema, all of it at once."""
    if not isinstance(cell, Mapping):
        return ["it is not an object"]
    found = []
    if cell.get("schema") != SCHEMA:
        found.append(f"schema is {cell.get('schema')!r:.40}, not {SCHEMA}")
    status, reason = cell.get("status"), cell.get("reason")
    if status not in STATUSES:
        found.append(f"status is {status!r:.40}, not one of {', '.join(STATUSES)}")
    if "reason" not in cell or not (reason is None if status == "ok" else isinstance(reason, str) and reason):
        found.append(f"reason is {reason!r:.80}: null when ok, otherwise a sentence")
    for section, fields in FIELDS.items():
        value = cell.get(section)
        if section not in cell:
            found.append(f"{section} is missing")
        elif value is None:
            if section in NEVER_NULL or (status == "ok" and section not in NULL_WHEN_OK):
                found.append(f"{section} is null")
        elif not isinstance(value, Mapping):
            found.append(f"{section} is not an object")
        else:
            found += fields_problems(section, value, fields)
            found += fields_problems(section, value, {k: v for k, v in LATER.get(section, {}).items() if k in value})
    return found or list(_inner(cell))


def fields_problems(where: str, value: Mapping[str, Any], fields: Mapping[str, str]) -> Iterator[str]:
    """Which of the fields a mapping lacks, or has of another kind."""
    for name, kind in fields.items():
        if name not in value:
            yield f"{where}.{name} is missing"
        elif not fits(value[name], kind):
            yield f"{where}.{name} is {value[name]!r:.40}, not a {kind}"


def _inner(cell: Mapping[str, Any]) -> Iterator[str]:
    """Of a cell whose sections are well formed: what is inside their lists and objects."""
    for place, entry in enumerate((cell["data"] or {}).get("lengths", ())):
        where = f"data.lengths[{place}]"
        yield from (
            fields_problems(where, entry, BUCKET) if isinstance(entry, Mapping) else [f"{where} is not an object"]
        )
    for name in ("left_out", "notes"):
        entries = (cell["data" if name == "left_out" else "probe"] or {}).get(name, ())
        if not all(isinstance(text, str) for text in entries):
            yield f"{name} holds what is no text"
    time = cell["time"] or {}
    if not all(isinstance(name, str) for name in time.get("interleaved_with", ())):
        yield "time.interleaved_with holds what is no text"
    for name, phase in time.get("phases", {}).items():
        yield from _phase(f"time.phases.{name}", phase)
    probe = cell["probe"] or {}
    if not all(isinstance(row, list) and all(fits(w, NUMBER) for w in row) for row in probe.get("layer_weights", ())):
        yield "probe.layer_weights is not a list of lists of numbers"
    for name, fields in (("tried", TRIAL), ("chosen", {"learning_rate": NUMBER})):
        for entry in probe.get(name) or ():
            where = f"an entry of probe.{name}"
            yield from fields_problems(where, entry, fields) if isinstance(entry, Mapping) else [f"{where}: no object"]
    for entry in probe.get("tried") or ():
        scores = entry.get("dev") if isinstance(entry, Mapping) else None
        if isinstance(scores, list) and not all(fits(score, NUMBER + MAYBE) for score in scores):
            yield "probe.tried holds scores that are no numbers"
    for name in OPTIONS:
        if not fits((cell["config"] or {}).get(name, {}), MAP):
            yield f"config.{name} is not an object"


def _phase(where: str, phase: object) -> Iterator[str]:
    if not isinstance(phase, Mapping):
        yield f"{where} is not an object"
        return
    wrong = list(fields_problems(where, phase, PHASE))
    if wrong:
        yield from wrong
        return
    if not all(fits(value, SECONDS) and value > 0 for value in (*phase["samples_s"], *phase["baseline_samples_s"])):
        yield f"{where} holds samples that are no seconds above 0"
    if len(phase["disturbed"]) != len(phase["samples_s"]) or not all(fits(flag, FLAG) for flag in phase["disturbed"]):
        yield f"{where} needs one disturbed flag for each sample"
    if len(phase["baseline_samples_s"]) not in (0, len(phase["samples_s"])):
        yield f"{where} needs one baseline sample for each sample, or none"


def fits(value: object, kind: str) -> bool:
    """Whether a value is of one of the kinds above."""
    if kind.endswith(MAYBE):
        return value is None or fits(value, kind.removesuffix(MAYBE))
    if kind in (TEXT, FILE):
        return isinstance(value, str) and (kind == TEXT or _is_below(value))
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == MAP:
        return isinstance(value, Mapping)
    if kind == ROWS:
        return isinstance(value, list)
    if kind == COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if kind == COUNTS:
        return isinstance(value, Mapping) and all(fits(number, COUNT) for number in value.values())
    if kind == TEXTS:
        return isinstance(value, Mapping) and all(fits(text, TEXT + MAYBE) for text in value.values())
    assert kind in (NUMBER, SECONDS), kind
    sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return sound and math.isfinite(value) and (kind == NUMBER or value >= 0)  # type: ignore[arg-type,operator]


def _is_below(path: str) -> bool:
    """Whether a path, relative to a folder, cannot lead out of it."""
    parts = path.replace("\\", "/").split("/")
    return bool(path) and "\0" not in path and path[0] not in "/\\" and ".." not in parts and ":" not in parts[0]
