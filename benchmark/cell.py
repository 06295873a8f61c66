"""One cell of the grid: an upstream, a task, a seed; from hidden states to a result file."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .. import downstream
from ..downstream.probe import ProbeResult, probe
from ..upstream.contract import entry
from ..upstream.printable import printable
from ..upstream.s3prl_upstreams import parse, s3prl_version
from .environment import describe
from .names import BASELINE, MEL, is_foreign
from .prepare import Prepared, Speech, digest, lineage, source_of_maps
from .result_files import SCHEMA, NoCell, cell_path, read_cell, write_cell, write_utterances
from .settings import Study, difference
from .sources import source_hash, task_hash
from .stopwatch import Record
from .workloads import stacked_frames

logger = logging.getLogger(__name__)

MACS_S = 10.0  # the utterance length for which multiply-accumulates are told
FOREIGN_NOTE = (
    f"one of s3prl's upstreams, not pre-trained here; it encodes one utterance at a time, because padding would change "
    f"its features; its times are those of all it does, from waveform to hidden states, as a ratio to all that "
    f"{BASELINE} does"
)


@dataclass(frozen=True)
class Cell:
    """What a result file is about."""

    study: Study
    task: str
    seed: int  # of pre-training
    probe_seed: int

    def key(self, speech: Speech) -> dict[str, Any]:
        """The names under which it is filed."""
        return {
            "upstream": self.study.label,
            "downstream": self.task,
            "seed": self.seed,
            "probe_seed": self.probe_seed,
            "preset": self.study.recipe.preset,
            "corpus": speech.probing.name,
        }

    def path(self, out: Path, speech: Speech) -> Path:
        """Where its result goes; the name changes with everything that decides the scores."""
        parts = [
            lineage(self.study, speech, self.seed),
            self.task,
            asdict(self.study.probe),
            self.probe_seed,
            speech.probing.fingerprint,
        ]
        return cell_path(out, self.key(speech), digest([parts, task_hash(self.task)]))


def status(path: Path) -> str:
    """What the result file says; ``missing`` when there is none, or a damaged one. ``ValueError`` for one that is sound
    and yet cannot be read here, which must not be overwritten."""
    try:
        return read_cell(path)["status"]
    except NoCell:
        return "missing"


def run_cell(
    cell: Cell,
    prepared: Prepared,
    speech: Speech,
    record: Record | None,
    overrides: Sequence[str],
    out: Path,
    device: str,
) -> None:
    """Probe, then write outcomes and result; raises what the probe raises."""
    scored = probe(cell.task, speech.probing, prepared.states, cell.probe_seed, device, cell.study.probe)
    path = cell.path(out, speech)
    write_utterances(path.with_suffix(".csv"), scored.outcomes)
    write_cell(path, _result(cell, prepared, scored, speech, record, overrides, out, device))


def reason_of(error: BaseException) -> str:
    """An error on one line; one that is not meant for the user with its kind."""
    reason = " ".join(printable(error).split()) or type(error).__name__
    return reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"


@dataclass(frozen=True)
class Failure:
    """Why a cell could not be made: ``failed``, or ``timeout``."""

    reason: str
    traceback: str = ""
    status: str = "failed"

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """An error that was raised."""
        return cls(reason_of(error), "".join(traceback.format_exception(error)))


def write_failure(
    cell: Cell, failure: Failure, speech: Speech, overrides: Sequence[str], threads: int, device: str, out: Path
) -> None:
    """Record that a cell failed, and why; a finished cell stays as it is."""
    over = ("missing", "skipped", "timeout", "failed")
    _write_unmade(cell, asdict(failure), over, speech, overrides, threads, device, out)


def write_skipped(
    cell: Cell, reason: str, speech: Speech, overrides: Sequence[str], threads: int, device: str, out: Path
) -> None:
    """Record that a cell was not tried, and why; one that is finished, or that failed when it was, stays as it is."""
    told = {"status": "skipped", "reason": " ".join(reason.split())}
    _write_unmade(cell, told, ("missing", "skipped"), speech, overrides, threads, device, out)


def _write_unmade(
    cell: Cell,
    told: dict[str, Any],
    over: Sequence[str],
    speech: Speech,
    overrides: Sequence[str],
    threads: int,
    device: str,
    out: Path,
) -> None:
    """Write a cell without results, unless there is one that says the same, or has another status than ``over``."""
    path = cell.path(out, speech)
    if status(path) not in over or (status(path) == "skipped" and read_cell(path)["reason"] == told["reason"]):
        return
    unmade = {
        "schema": SCHEMA,
        **told,
        "cell": cell.key(speech),
        **dict.fromkeys(("upstream", "task", "data", "pretrain", "probe", "scores", "time", "memory")),
        "config": cell.study.resolved(),
        "difference": difference(cell.study.upstream, cell.study.recipe.preset, overrides),
        "environment": {**describe(threads, device), "device": device},
    }
    write_cell(path, unmade)


def _result(
    cell: Cell,
    prepared: Prepared,
    scored: ProbeResult,
    speech: Speech,
    record: Record | None,
    overrides: Sequence[str],
    out: Path,
    device: str,
) -> dict[str, Any]:
    study, info = cell.study, downstream.load(cell.task).INFO
    done = prepared.pretrained
    time = {**record["time"], **({"error": record["error"]} if record.get("error") else {})} if record else None
    return {
        "schema": SCHEMA,
        "status": "ok",
        "reason": None,
        "cell": cell.key(speech),
        "upstream": {
            **_facts(study),
            "parameters": prepared.num_parameters,
            "hidden_dim": prepared.states.frame_shape[1],
        },
        "task": {
            "name": cell.task,
            "metric": info.metric,
            "higher_is_better": info.higher_is_better,
            "head": info.head,
            "unit": info.unit,
            "split": scored.split,
            "source_hash": task_hash(cell.task),
        },
        "data": {
            "fingerprint": speech.probing.fingerprint,
            "pretraining": {"fingerprint": speech.pretraining.fingerprint, "seconds": speech.pretraining.seconds},
            "synthetic": speech.probing.synthetic,
            "note": speech.probing.note,
            "left_out": list(speech.probing.left_out),
            "splits": scored.splits,
            "num_speakers_test": scored.num_speakers_test,
            "num_folds": scored.num_folds,
            "lengths": prepared.lengths,
        },
        "config": study.resolved(),
        "difference": difference(study.upstream, study.recipe.preset, overrides),
        "pretrain": None
        if done is None
        else {
            "steps": done.steps,
            "valid_loss": done.valid_loss,
            "train_loss": done.train_loss,
            "seconds": done.seconds,
            "log": done.log.relative_to(out).as_posix(),
            "checkpoint": done.checkpoint.relative_to(out).as_posix(),
        },
        "scores": {
            "dev": scored.dev,
            "test": scored.test,
            "chance": scored.chance,
            "items": scored.items,
            "utterances": cell.path(out, speech).with_suffix(".csv").name,
        },
        "probe": {
            "seconds": scored.seconds,
            "extraction_s": prepared.extraction_s,
            "layer_weights": scored.layer_weights,
            "chosen_epoch": scored.chosen_epoch,
            "epochs": scored.epochs_run,
            "tried": scored.tried,
            "chosen": scored.chosen,
            "chosen_on": "dev",
            "race_ended": scored.race_ended,
            "notes": scored.notes,
        },
        "time": time,
        "memory": record["memory"] if record else None,
        "environment": {**describe(torch.get_num_threads(), device), "device": device},
    }


def _start_note(study: Study) -> str:
    """What a reader must know of a row that starts from the maps of another one."""
    source = source_of_maps(study)
    return f"starts from the maps of a trained {source.upstream}, whose pre-training is not counted" if source else ""


def _facts(study: Study) -> dict[str, Any]:
    order: str | None
    macs: int | None
    if study.upstream == MEL:
        title, order, macs, note = "log-Mel features", "n", 0, ""
    elif is_foreign(study.upstream):
        title, order, macs, note = f"{parse(study.upstream).name} of s3prl {s3prl_version()}", None, None, FOREIGN_NOTE
    else:
        info, model = entry(study.recipe.upstream).info, study.recipe.model
        frames = stacked_frames(MACS_S, model.stack)
        attention = info.macs(frames, model.hidden_dim, model.num_heads, **study.recipe.attention)
        layer = attention + 2 * model.ffn_ratio * frames * model.hidden_dim**2
        title, order, note = info.title, info.order_with(study.recipe.attention), info.note or _start_note(study)
        macs = model.num_layers * layer + frames * model.input_dim * model.hidden_dim
    facts = {"name": study.label, "title": title, "macs_10s": macs, "order": order, "note": note}
    return {**facts, "source_hash": source_hash(study.upstream)}


if __name__ == "__main__":
    from .cell_spec import main

    sys.exit(main())
