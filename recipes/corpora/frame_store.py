"""Millions of frames in one memory-mapped file, looked up by utterance id.

Legend: T_i frames of utterance i.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cache import atomic_folder

SCHEMA = 1
DATA, INDEX = "frames.bin", "index.json"
CURE = "remove the folder and run again to make it anew"


class FrameStore:
    """Arrays ``(T_i, *frame_shape)`` of one dtype, read as views of a file, or of several that are read as one;
    ``create`` or ``open`` it.

    Each array has a checksum, which is looked at when the array is asked for first. Those of older versions have none.
    """

    def __init__(self, folders: Sequence[Path], indices: Sequence[dict[str, Any]]) -> None:
        self.folders = tuple(folders)
        self.meta: dict[str, Any] = indices[0]["meta"]  # of the first
        self.frame_shape: tuple[int, ...] = tuple(indices[0]["frame_shape"])
        self.dtype = np.dtype(indices[0]["dtype"])
        self._sha256: list[str | None] = [index.get("frames_sha256") for index in indices]
        self._frames: list[np.ndarray] = []
        self._places: dict[str, tuple[int, int, int]] = {}  # id -> file, first frame, T_i
        self._unchecked: dict[str, int] = {}  # id -> checksum of what was not read yet
        for number, (folder, index) in enumerate(zip(folders, indices, strict=True)):
            if (tuple(index["frame_shape"]), np.dtype(index["dtype"])) != (self.frame_shape, self.dtype):
                raise ValueError(
                    f"frame stores {folders[0]} and {folder} differ in shape or dtype of their frames: "
                    f"remove one of them"
                )
            start = 0
            for id, length in zip(index["ids"], index["lengths"], strict=True):
                if id in self._places:
                    raise ValueError(f"frame stores {folders[0]} and {folder} both hold {id!r}: remove one of them")
                self._places[id] = (number, start, length)
                start += length
            self._unchecked |= zip(index["ids"], index.get("crc32", ()), strict=False)
            shape = (start, *self.frame_shape)
            self._frames.append(np.asarray(np.memmap(folder / DATA, dtype=self.dtype, mode="r", shape=shape)))

    @classmethod
    def create(
        cls, folder: Path, items: Iterable[tuple[str, np.ndarray]], dtype: str, meta: dict[str, Any]
    ) -> "FrameStore":
        """Write ``(id, array)`` pairs one after the other, holding one at a time, and open the result.

        ``folder`` appears (or is replaced) when all is on disk; an error or a kill before that leaves it as it was.
        ``meta`` is written last: the items may fill it.

        Raises:
            ValueError: naming the id, for a repeated id, an empty array, a frame shape unlike the first one, or a value
                that is not finite in ``dtype``; and when there are no items, or ``meta`` is not JSON.
        """
        folder = Path(folder)
        with atomic_folder(folder) as staging:
            cls.write(staging, folder, items, dtype, meta)
        return cls.open(folder)

    @staticmethod
    def write(
        staging: Path, folder: Path, items: Iterable[tuple[str, np.ndarray]], dtype: str, meta: dict[str, Any]
    ) -> None:
        """What ``create`` does, into the empty folder ``staging`` of a caller who gives it the name ``folder``, which
        messages tell."""
        ids: list[str] = []
        lengths: list[int] = []
        checksums: list[int] = []
        seen: set[str] = set()
        frame_shape: tuple[int, ...] | None = None
        digest = hashlib.sha256()
        with (staging / DATA).open("wb") as file:
            for id, array in items:
                if id in seen:
                    raise ValueError(f"frame store {folder}: id {id!r} comes twice: ids must be unique")
                frame_shape = array.shape[1:] if frame_shape is None else frame_shape
                content = _checked(folder, id, array, frame_shape, dtype).tobytes()
                file.write(content)
                digest.update(content)
                seen.add(id)
                ids.append(id)
                lengths.append(len(array))
                checksums.append(zlib.crc32(content))
            file.flush()
            os.fsync(file.fileno())
        if frame_shape is None:
            raise ValueError(f"frame store {folder}: there is nothing to store: give at least one utterance")
        index = {"dtype": np.dtype(dtype).str, "frame_shape": list(frame_shape), "ids": ids, "lengths": lengths}
        sums = {"frames_sha256": digest.hexdigest(), "crc32": checksums}
        body = _serialised(folder, index | {"meta": meta} | sums)
        head = {"schema": SCHEMA, "sha256": hashlib.sha256(body.encode()).hexdigest()}
        with (staging / INDEX).open("w", encoding="utf-8") as file:
            file.write(json.dumps(head) + "\n" + body)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def open(cls, *folders: Path) -> "FrameStore":
        """Map a stored folder, or several as one; reads the index only.

        Raises:
            ValueError: naming the folder, when it is missing, when its index or its size is not as written, or when two
                of them do not go together.
        """
        paths = [Path(folder) for folder in folders]
        return cls(paths, [_read_index(path) for path in paths])

    def verify(self) -> None:
        """Read every byte. Raises ``ValueError`` naming the folder where they are not the ones that were written."""
        for folder, expected in zip(self.folders, self._sha256, strict=True):
            if expected is None:
                raise ValueError(f"frame store {folder}: it has no checksum, an older version wrote it: {CURE}")
            digest = hashlib.sha256()
            with (folder / DATA).open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
            if digest.hexdigest() != expected:
                raise ValueError(f"frame store {folder}: {DATA} does not match its checksum: {CURE}")

    @property
    def ids(self) -> list[str]:
        """Utterance ids, in the order they were written."""
        return list(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return sum(frames.nbytes for frames in self._frames)

    def num_frames(self, id: str) -> int:
        """T_i of one utterance; ``KeyError`` for an unknown id."""
        return self._places[id][2]

    def __getitem__(self, id: str) -> np.ndarray:
        """The frames of one utterance (T_i, *frame_shape), a read-only view of the file; ``ValueError`` when they are
        not those that were written."""
        number, start, length = self._places[id]
        frames = self._frames[number][start : start + length]
        if id in self._unchecked:
            if zlib.crc32(frames.data) != self._unchecked[id]:
                where = f"frame store {self.folders[number]}: utterance {id!r}"
                raise ValueError(f"{where} does not match its checksum: {CURE}")
            del self._unchecked[id]
        return frames

    def __contains__(self, id: object) -> bool:
        return id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled (to a data loader's worker) as the folders' names; the other process maps the files itself."""
        return (type(self).open, self.folders)


def _read_index(folder: Path) -> dict[str, Any]:
    """The index of a stored folder whose index and size are as written, or the reason why it cannot be read."""
    try:
        head_line, body = (folder / INDEX).read_text(encoding="utf-8").split("\n", 1)
        head = json.loads(head_line)
        schema, sha256 = head["schema"], head["sha256"]
        if schema == SCHEMA and sha256 == hashlib.sha256(body.encode()).hexdigest():
            index = json.loads(body)
        else:
            index = None
    except FileNotFoundError as error:
        raise ValueError(f"frame store {folder}: there is no {INDEX}: {CURE}") from error
    except (ValueError, KeyError, TypeError) as error:  # ValueError: no second line, bad JSON and bad UTF-8 alike
        raise ValueError(f"frame store {folder}: {INDEX} is corrupt: {CURE}") from error
    if schema != SCHEMA:
        raise ValueError(f"frame store {folder}: schema {schema}, this version reads schema {SCHEMA}: {CURE}")
    if index is None:
        raise ValueError(f"frame store {folder}: {INDEX} does not match its checksum: {CURE}")
    expected = sum(index["lengths"]) * math.prod(index["frame_shape"]) * np.dtype(index["dtype"]).itemsize
    actual = (folder / DATA).stat().st_size if (folder / DATA).is_file() else 0
    if actual != expected:
        raise ValueError(f"frame store {folder}: {DATA} has {actual} bytes, {expected} were written: {CURE}")
    return index


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
