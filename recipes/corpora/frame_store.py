"""Millions of frames in one memory-mapped file, looked up by utterance id.

Legend: T_i frames of utterance i.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .cache import atomic_folder

SCHEMA = 1
DATA, INDEX = "frames.bin", "index.json"


class FrameStore:
    """Arrays ``(T_i, *frame_shape)`` of one dtype, read as views of one file; ``create`` or ``open`` it."""

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = index["meta"]
        self.frame_shape: tuple[int, ...] = tuple(index["frame_shape"])
        self.dtype = np.dtype(index["dtype"])
        self._lengths: dict[str, int] = dict(zip(index["ids"], index["lengths"], strict=True))
        ends = np.cumsum(index["lengths"])
        self._starts = dict(zip(index["ids"], (ends - index["lengths"]).tolist(), strict=True))
        shape = (int(ends[-1]), *self.frame_shape)
        self._frames = np.asarray(np.memmap(folder / DATA, dtype=self.dtype, mode="r", shape=shape))

    @classmethod
    def create(
        cls, folder: Path, items: Iterable[tuple[str, np.ndarray]], dtype: str, meta: dict[str, Any]
    ) -> "FrameStore":
        """Write ``(id, array)`` pairs one after the other, holding one at a time, and open the result.

        ``folder`` appears (or is replaced) when all is on disk; an error or a kill before that leaves it as it was.

        Raises:
            ValueError: naming the id, for a repeated id, an empty array, a frame shape unlike the first one, or a value
                that is not finite in ``dtype``; and when there are no items, or ``meta`` is not JSON.
        """
        folder = Path(folder)
        ids: list[str] = []
        lengths: list[int] = []
        seen: set[str] = set()
        frame_shape: tuple[int, ...] | None = None
        with atomic_folder(folder) as staging:
            with (staging / DATA).open("wb") as file:
                for id, array in items:
                    if id in seen:
                        raise ValueError(f"frame store {folder}: id {id!r} comes twice: ids must be unique")
                    frame_shape = array.shape[1:] if frame_shape is None else frame_shape
                    file.write(_checked(folder, id, array, frame_shape, dtype).tobytes())
                    seen.add(id)
                    ids.append(id)
                    lengths.append(len(array))
                file.flush()
                os.fsync(file.fileno())
            if frame_shape is None:
                raise ValueError(f"frame store {folder}: there is nothing to store: give at least one utterance")
            index = {"dtype": np.dtype(dtype).str, "frame_shape": list(frame_shape), "ids": ids, "lengths": lengths}
            body = _serialised(folder, index | {"meta": meta})
            head = {"schema": SCHEMA, "sha256": hashlib.sha256(body.encode()).hexdigest()}
            with (staging / INDEX).open("w", encoding="utf-8") as file:
                file.write(json.dumps(head) + "\n" + body)
                file.flush()
                os.fsync(file.fileno())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "FrameStore":
        """Map a stored folder; reads the index only.

        Raises:
            ValueError: naming the folder, when it is missing, or its index or its size is not as written.
        """
        folder = Path(folder)
        cure = "remove the folder and run again to make it anew"
        try:
            head_line, body = (folder / INDEX).read_text(encoding="utf-8").split("\n", 1)
            head = json.loads(head_line)
            if head["schema"] != SCHEMA:
                raise ValueError(
                    f"frame store {folder}: schema {head['schema']}, this version reads schema {SCHEMA}: {cure}"
                )
            intact = head["sha256"] == hashlib.sha256(body.encode()).hexdigest()
            index = json.loads(body) if intact else None
        except FileNotFoundError as error:
            raise ValueError(f"frame store {folder}: there is no {INDEX}: {cure}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"frame store {folder}: {INDEX} is corrupt: {cure}") from error
        except ValueError as error:
            if str(error).startswith("frame store"):
                raise
            raise ValueError(f"frame store {folder}: {INDEX} is corrupt: {cure}") from error
        if index is None:
            raise ValueError(f"frame store {folder}: {INDEX} does not match its checksum: {cure}")
        expected = sum(index["lengths"]) * math.prod(index["frame_shape"]) * np.dtype(index["dtype"]).itemsize
        actual = (folder / DATA).stat().st_size if (folder / DATA).is_file() else 0
        if actual != expected:
            raise ValueError(f"frame store {folder}: {DATA} has {actual} bytes, {expected} were written: {cure}")
        return cls(folder, index)

    @property
    def ids(self) -> list[str]:
        """Utterance ids, in the order they were written."""
        return list(self._lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self._frames.nbytes

    def num_frames(self, id: str) -> int:
        """T_i of one utterance; ``KeyError`` for an unknown id."""
        return self._lengths[id]

    def __getitem__(self, id: str) -> np.ndarray:
        """The frames of one utterance (T_i, *frame_shape): a read-only view of the file, read as it is used."""
        start = self._starts[id]
        return self._frames[start : start + self._lengths[id]]

    def __contains__(self, id: object) -> bool:
        return id in self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled (to a data loader's worker) as the folder's name; the other process maps the file itself."""
        return (type(self).open, (self.folder,))


def _checked(folder: Path, id: str, array: np.ndarray, frame_shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array in ``dtype``, or the reason why it cannot be stored."""
    where = f"frame store {folder}: utterance {id!r}"
    if array.ndim == 0 or len(array) == 0 or math.prod(array.shape) == 0:
        raise ValueError(f"{where} has no frames (shape {array.shape}): leave it out")
    if array.shape[1:] != frame_shape:
        raise ValueError(f"{where} has frames of shape {array.shape[1:]}, the first had {frame_shape}: make them equal")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    if np.issubdtype(stored.dtype, np.floating) and not np.isfinite(stored).all():
        raise ValueError(f"{where} holds values that are not finite in {dtype}: check the model, or store float32")
    return stored


def _serialised(folder: Path, index: dict[str, Any]) -> str:
    try:
        return json.dumps(index, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"frame store {folder}: meta must be plain JSON ({error}): give numbers and strings"
        ) from error
