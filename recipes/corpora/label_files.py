"""Finds the label files of each subset, and keeps what they say in the cache so that a second load is quick."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .alignments import Labels, RawLabels, phone_set_beside, read_ctm, read_frames
from .cache import cache_dir, keep_if_possible
from .corpus import PHONE_SET
from .textgrid import read_phone_tier, read_textgrid

logger = logging.getLogger(__name__)

READER_VERSION = 2  # raise it when a reader changes what it returns: cached labels are then read anew


@dataclass(frozen=True)
class LabelSource:
    """Label files of one format; ``subset`` is None for files that the user named, which serve every subset.

    The kind ``paths`` is of TextGrids known by their resolved paths rather than by their names, with phones of any kind
    as they are spelt: each has an utterance, or several, elsewhere.
    """

    kind: str  # ctm, textgrid, frames or paths
    subset: str | None
    files: tuple[Path, ...]


def find_labels(folder: Path, subsets: list[str]) -> list[LabelSource]:
    """The labels of each subset: ``SUBSET*.ctm``, else ``SUBSET/**/*.TextGrid``, else ``SUBSET.frames.txt``.

    CTM and TextGrid come first because their times are not rounded to frames. Raises ``ValueError`` when several CTM
    files could be meant; one called exactly ``SUBSET.ctm`` decides.
    """
    found = []
    for subset in subsets:
        ctm = [path for path in sorted(folder.glob("*.ctm")) if _owner(path.name, subsets) == subset]
        ctm = [path for path in ctm if path.name == f"{subset}.ctm"] or ctm
        grids = _textgrids(folder / subset)
        frames = folder / f"{subset}.frames.txt"
        if len(ctm) > 1:
            raise ValueError(
                f"{folder}: several label files for {subset!r}: {', '.join(path.name for path in ctm)}: name one with "
                f"alignments=FILE, or call one {subset}.ctm"
            )
        if ctm:
            found.append(LabelSource("ctm", subset, tuple(ctm)))
        elif grids:
            found.append(LabelSource("textgrid", subset, grids))
        elif frames.is_file():
            found.append(LabelSource("frames", subset, (frames,)))
    return found


def named_labels(path: Path, subsets: list[str]) -> list[LabelSource]:
    """The labels that the user points at: one file, or a folder as ``find_labels`` expects it, or one of TextGrids."""
    if path.is_dir():
        grids = _textgrids(path)
        found = find_labels(path, subsets) or ([LabelSource("textgrid", None, grids)] if grids else [])
        if not found:
            raise ValueError(
                f"{path}: no labels for {', '.join(subsets)} here: expected SUBSET.ctm, *.TextGrid or SUBSET.frames.txt"
            )
        return found
    if not path.is_file():
        raise ValueError(f"{path}: no such label file or folder: correct alignments=")
    kinds = {".ctm": "ctm", ".textgrid": "textgrid", ".txt": "frames"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: labels are .ctm, .TextGrid or .txt (s3prl frames), got {path.suffix!r}: convert it")
    return [LabelSource(kind, None, (path,))]


def read_labels(source: LabelSource) -> Labels:
    """What the files of a source say, from the cache when they have not changed since they were last read."""
    tables = {path.parent / "phones.txt" for path in source.files}
    inputs = [*source.files, *sorted(table for table in tables if table.is_file())]
    stats = [(path.name, str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    key = hashlib.sha256(json.dumps([READER_VERSION, source.kind, PHONE_SET, stats]).encode()).hexdigest()[:24]
    cached = cache_dir() / "labels" / f"{key}.npz"
    labels = _load(cached)
    if labels is None:
        labels = _read(source)
        _save(cached, labels)
    return labels


def _read(source: LabelSource) -> Labels:
    if source.kind == "ctm":
        return read_ctm(source.files[0])
    if source.kind == "frames":
        return read_frames(source.files[0])
    if source.kind == "paths":
        return _by_path(source.files)
    rows: dict[str, RawLabels] = {}
    sets = {folder: phone_set_beside(folder / "any") for folder in {path.parent for path in source.files}}
    phone_set = sets[source.files[0].parent]
    known = {name: phone for phone, name in enumerate(phone_set)}
    for path in tqdm(source.files, desc="reading TextGrids", unit="file", disable=None, leave=False):
        if sets[path.parent] != phone_set:
            raise ValueError(f"{path.parent / 'phones.txt'}: differs from that of other TextGrids: use one phone table")
        if path.stem in rows:
            raise ValueError(f"{path}: a second TextGrid for utterance {path.stem!r}: remove one of the two")
        rows[path.stem] = read_textgrid(path, known)
    where = f"{len(rows)} TextGrids" if len(rows) > 1 else source.files[0].name
    return Labels(where, False, phone_set, rows)


def _by_path(files: tuple[Path, ...]) -> Labels:
    """TextGrids by path; their phones as spelt are the classes, in the order in which they come."""
    names: dict[str, int] = {}
    rows = {
        str(path.resolve()): read_phone_tier(path, lambda _, spelt: names.setdefault(spelt, len(names)))
        for path in tqdm(files, desc="reading TextGrids", unit="file", disable=None, leave=False)
    }
    return Labels(f"{len(rows)} TextGrids", False, tuple(names), rows)


def _textgrids(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".textgrid"))


def _owner(name: str, subsets: list[str]) -> str | None:
    """The subset whose labels a CTM file holds: the longest name that it starts with; word timings are not phones."""
    if name.endswith((".words.ctm", ".word.ctm")):
        return None
    return max((subset for subset in subsets if name.startswith(subset)), key=len, default=None)


def _save(path: Path, labels: Labels) -> None:
    rows = list(labels.rows.values())
    arrays = {
        "text": np.array(json.dumps([labels.source, labels.dense, labels.phone_set, list(labels.rows)])),
        "lengths": np.array([len(row.phone) for row in rows], dtype=np.int64),
        "start_s": np.concatenate([np.empty(0), *(row.start_s for row in rows)]),
        "end_s": np.concatenate([np.empty(0), *(row.end_s for row in rows)]),
        "phone": np.concatenate([np.empty(0, np.int16), *(row.phone for row in rows)]),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options

    keep_if_possible(path, write)


def _load(path: Path) -> Labels | None:
    """The cached labels; None when there are none, or when the file is damaged (it is then written again)."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            source, dense, phone_set, ids = json.loads(str(arrays["text"]))
            start_s, end_s, phone = arrays["start_s"], arrays["end_s"], arrays["phone"]
            ends = np.cumsum(arrays["lengths"])
        starts = ends - np.diff(ends, prepend=0)
        rows = {
            id: RawLabels(start_s[a:b], end_s[a:b], phone[a:b])
            for id, a, b in zip(ids, starts.tolist(), ends.tolist(), strict=True)
        }
        return Labels(source, dense, tuple(phone_set), rows)
    except Exception as error:  # whatever the bytes make of zip, of NumPy and of JSON
        logger.warning("cached labels %s are damaged (%s): reading the label files again", path, type(error).__name__)
        return None
