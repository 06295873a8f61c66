"""What a pre-training keeps in its folder: the log, the states that it resumes from, and what tensorboard shows."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from time import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from ..upstream.checkpoint import load_checkpoint, part, restore, save_checkpoint
from .corpora.cache import writing

logger = logging.getLogger(__name__)

Pending = dict[str, list[float]]


class Log:
    """Lines of ``log.jsonl``: means since the last line, then what ``write`` is given.

    Lines after ``step`` are of steps that a killed run had taken since its last checkpoint; they are dropped. Without
    ``writes`` there is no file. ``pending`` has sum and number of each value since the last line; states of older
    versions have the values of every step instead.
    """

    def __init__(self, path: Path, step: int, pending: Pending | list[dict[str, float]], writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.pending: Pending = {} if isinstance(pending, list) else pending
        for values in pending if isinstance(pending, list) else ():
            self.add(**values)
        if writes:
            kept = [line for line in read_log(path) if line["step"] <= step]
            temporary = path.with_suffix(".tmp")
            with writing(path):
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
                temporary.replace(path)

    def add(self, **values: float) -> None:
        """Note one step."""
        for key, value in values.items():
            total, count = self.pending.get(key, (0.0, 0))
            self.pending[key] = [total + value, count + 1]

    def write(self, step: int, **values: float) -> dict[str, float]:
        """Append the line of ``step`` and return it; a value that some steps lack is the mean of the others."""
        line = {"step": step, **{key: total / count for key, (total, count) in self.pending.items()}, **values}
        self.pending.clear()
        if self.writes:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return line


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log, up to the first that is none, as is one that was cut short by a kill; a missing file has
    none."""
    lines: list[dict[str, float]] = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            break
        if not all(type(value) in (int, float) for value in line.values()):
            break
        lines.append(line)
    return lines


class Board:
    """The log's lines as curves for tensorboard; without ``writes`` there is no file.

    Where they cannot be written, as on a full disk, that is told once and the run goes on without. Lines are written by
    the caller: the thread that tensorboardX writes with would end with its first error, and the next lines wait for it.
    """

    def __init__(self, folder: Path, step: int, writes: bool) -> None:
        self._folder = folder
        self._writer: Any = None
        if writes:
            from tensorboardX.record_writer import RecordWriter  # here, because it takes long to import

            with self._told_once():
                folder.mkdir(parents=True, exist_ok=True)
                self._writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time())}.{gethostname()}"))
                self._write(file_version="brain.Event:2")
                self._write(step=step + 1, session_log={"status": "START"})  # hides lines of steps that a kill undid

    def add(self, step: int, line: dict[str, float]) -> None:
        """Show a line of the log."""
        if self._writer is not None:
            values = [{"tag": f"pretrain/{name}", "simple_value": value} for name, value in line.items()]
            with self._told_once():
                self._write(step=step, summary={"value": values})

    def _write(self, **event: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time(), **event).SerializeToString())
        self._writer.flush()

    @contextmanager
    def _told_once(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            logger.warning("%s: cannot be written (%s): the curves end here, the log has them", self._folder, reason)
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):  # what cannot be written was told
                self._writer.close()
            self._writer = None

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def same_lineage(folder: Path, config: dict[str, Any], made_of: dict[str, Any]) -> None:
    """Raises ``ValueError`` when a checkpoint's config is not of the run that ``made_of`` tells of."""
    if config.get("lineage") != json.loads(json.dumps(made_of)):
        raise ValueError(
            f"{folder} holds a run of another recipe, data or seed: choose another folder (the same audio with "
            f"other phone alignments is other data, so is audio with alignments that came later)"
        )


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: GradScaler, progress: dict[str, Any]
) -> None:
    """Write ``step-N`` to resume from, then remove the older ones."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    new = folder / f"step-{progress['step']:08d}"
    older = [path for path in _states(folder) if path != new]  # a damaged one of this step is replaced
    scale = {"scaler": scaler.state_dict()} if scaler.is_enabled() else {}
    save_checkpoint(new, tensors, progress | scale)
    for path in older:
        shutil.rmtree(path)


def resume(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: GradScaler, made_of: dict[str, Any]
) -> tuple[int, float, Pending | list[dict[str, float]]]:
    """Fill model, optimiser and scaler from the last state that is sound, if any: (steps done, seconds spent, what is
    not yet logged). One that is damaged is named in the log, and replaced when the run comes to its step again.

    Raises:
        ValueError: when the state is of another run than ``made_of`` tells of, or does not fit the model.
    """
    for state_folder in reversed(_states(folder)):
        try:
            config, tensors = load_checkpoint(state_folder)
            break
        except ValueError as error:
            logger.warning("%s; the run goes on from the state before it, or from the start", error)
    else:
        return 0, 0.0, {}
    same_lineage(folder, config, made_of)
    restore(model, part(tensors, "model."), state_folder)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if scaler.is_enabled():
        scaler.load_state_dict(config["scaler"])
    logger.info("resume %s after step %d", folder, config["step"])
    return config["step"], config["elapsed_s"], config["pending"]


def remove_half_written(folder: Path) -> None:
    """Remove what a killed run was writing, or had yet to remove."""
    for path in (*folder.glob(".step-*"), *folder.glob(".checkpoint-*"), *folder.glob("log.tmp")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if (folder / "checkpoint").is_dir():
        remove_states(folder)


def remove_states(folder: Path) -> None:
    """Remove every ``step-N``: the run is finished."""
    for path in _states(folder):
        shutil.rmtree(path)


def _states(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
