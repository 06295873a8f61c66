"""Rate, length and checksum of every audio file of a corpus, kept in the cache: a second load opens no file."""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .audio import audio_header
from .cache import cache_dir, replace_file

logger = logging.getLogger(__name__)

SCHEMA = 2
BLOCK_BYTES = 1 << 14  # of the three that enter a checksum
NUM_THREADS = 8  # opening files waits for the disk, or for the network


@dataclass(frozen=True)
class AudioFile:
    """A file with what the folder listing says about it."""

    path: Path
    size_bytes: int
    mtime_ns: int


class Header(NamedTuple):
    """What a file says of its audio; ``content`` is made of its size and a few blocks of its bytes, below 2**63."""

    sample_rate_hz: int
    num_samples: int
    content: int


def read_headers(root: Path, files: Sequence[AudioFile]) -> list[Header]:
    """The header of each file of the corpus at ``root``, in order.

    A file is read again when its size or time of change differs from the last load.

    Raises:
        ValueError: naming the files that are not readable audio, all at once (the first three in full).
    """
    headers = headers_or_reasons(root, files)
    problems = [header for header in headers if isinstance(header, str)]
    if problems:
        more = f" (and {len(problems) - 3} more files)" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
    return [header for header in headers if not isinstance(header, str)]


def headers_or_reasons(root: Path, files: Sequence[AudioFile]) -> list[Header | str]:
    """``read_headers``, with the reason in the place of each file that is not readable audio."""
    index_path = cache_dir() / "headers" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:24]}.json"
    index = _load(index_path)
    names = [_name(root, file.path) for file in files]
    unread = [
        (name, file)
        for name, file in zip(names, files, strict=True)
        if index.get(name, [])[:2] != [file.size_bytes, file.mtime_ns]
    ]
    reasons: dict[str, str] = {}
    if unread:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            headers = pool.map(_header_or_reason, [file for _, file in unread])
            bar = tqdm(headers, total=len(unread), desc="reading headers", unit="file", disable=None, leave=False)
            read = list(zip(unread, bar, strict=True))
        reasons = {name: header for (name, _), header in read if isinstance(header, str)}
        index |= {
            name: [file.size_bytes, file.mtime_ns, *header]
            for (name, file), header in read
            if not isinstance(header, str)
        }
        with replace_file(index_path) as temporary:
            head = {"schema": SCHEMA, "root": str(root), "sha256": _sha256(index)}
            temporary.write_text(json.dumps({**head, "files": index}), encoding="utf-8")
    return [reasons[name] if name in reasons else Header(*index[name][2:]) for name in names]


def _name(root: Path, path: Path) -> str:
    """A file's name in the index: below ``root``, or in full where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _header_or_reason(file: AudioFile) -> Header | str:
    try:
        return Header(*audio_header(file.path), _content(file))
    except ValueError as error:
        return str(error)


def _content(file: AudioFile) -> int:
    """A checksum of size, start, middle and end: whole files would take minutes. What changes all of the audio, such as
    denoising, changes it; an edit of a short passage that keeps the size may lie between the blocks."""
    digest = hashlib.sha256(f"{file.size_bytes} ".encode())
    try:
        with file.path.open("rb") as opened:
            for start in (0, (file.size_bytes - BLOCK_BYTES) // 2, file.size_bytes - BLOCK_BYTES):
                opened.seek(max(0, start))
                digest.update(opened.read(BLOCK_BYTES))
    except OSError as error:
        raise ValueError(f"{file.path}: cannot be read ({error.strerror}): check the path") from error
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def _sha256(index: dict[str, list[int]]) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _load(path: Path) -> dict[str, list[int]]:
    """The cached index; empty when there is none, or when it is damaged (it is then written again)."""
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] == 1:  # an older version's, without checksums
            return {}
        if index["schema"] != SCHEMA or not all(len(row) == 5 for row in index["files"].values()):
            raise ValueError("another schema")
        if index.get("sha256", _sha256(index["files"])) != _sha256(index["files"]):
            raise ValueError("it does not match its checksum")
        return dict(index["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("the cached header index %s is damaged (%s): reading all headers again", path, error)
        return {}
