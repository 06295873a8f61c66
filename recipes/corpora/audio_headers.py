"""Rate, length and checksum of every audio file of a corpus, kept in the cache: a second load opens no file."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tqdm import tqdm

from .audio import audio_header, audio_problem
from .cache import cache_dir, keep_if_possible, replace_file
from .corpus import TOLD, Utterance

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
        ValueError: naming the files that are not readable audio, all at once.
    """
    headers = headers_or_reasons(root, files)
    raise_for([header for header in headers if isinstance(header, str)])
    return [header for header in headers if not isinstance(header, str)]


def raise_for(reasons: Sequence[str]) -> None:
    """Raise a ``ValueError`` when there are reasons: with the first three, and a file in the cache that lists all."""
    if not reasons:
        return
    told = "; ".join(reasons[:TOLD])
    if len(reasons) > TOLD:
        path = cache_dir() / "headers" / "broken.txt"
        told += f"; and {len(reasons) - TOLD} more files"
        with suppress(ValueError, OSError), replace_file(path) as temporary:  # a cache to read from only
            temporary.write_text("".join(f"{reason}\n" for reason in reasons), encoding="utf-8", errors="replace")
            told += f", all listed in {path}"
    if len(reasons) > 1:
        told += "; skip_broken (--skip-broken) leaves them out and says so in the results"
    raise ValueError(told)


def raise_for_all(utterances: Sequence[Utterance], error: ValueError) -> NoReturn:
    """Raise the error of an utterance that could not be read; when other recordings are broken too, of all of them."""
    logger.info("a recording cannot be read: looking for others like it")
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        paths = list(dict.fromkeys(utterance.path for utterance in utterances))
        found = list(filter(None, pool.map(audio_problem, paths)))
    if len(found) > 1:
        raise_for(found)
    raise error


def headers_or_reasons(root: Path, files: Sequence[AudioFile]) -> list[Header | str]:
    """``read_headers``, with the reason in the place of each file that is not readable audio."""
    rows = _indexed(root, files, "", _header_or_reason, 3, "reading headers")
    return [row if isinstance(row, str) else Header(*row) for row in rows]


def undecodable(root: Path, files: Sequence[AudioFile]) -> dict[Path, str]:
    """The reasons of those files whose audio cannot be decoded to its end, or is not finite. Each file is decoded in
    blocks; that it is sound is remembered as long as it has its size and time of change."""
    rows = _indexed(root, files, "-decoded", lambda file: audio_problem(file.path) or (True,), 1, "decoding audio")
    return {file.path: row for file, row in zip(files, rows, strict=True) if isinstance(row, str)}


def _indexed(
    root: Path, files: Sequence[AudioFile], name: str, read: Callable[[AudioFile], Any], width: int, title: str
) -> list[Any]:
    """What ``read`` returned for each file: a tuple of ``width`` values, which the cache remembers, or a reason."""
    index_path = cache_dir() / "headers" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:24]}{name}.json"
    index = _load(index_path, width)
    names = [_name(root, file.path) for file in files]
    unread = [
        (name, file)
        for name, file in zip(names, files, strict=True)
        if index.get(name, [])[:2] != [file.size_bytes, file.mtime_ns]
    ]
    reasons: dict[str, str] = {}
    if unread:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            found = pool.map(read, [file for _, file in unread])
            bar = tqdm(found, total=len(unread), desc=title, unit="file", disable=None, leave=False)
            rows = list(zip(unread, bar, strict=True))
        reasons = {name: row for (name, _), row in rows if isinstance(row, str)}
        index |= {
            name: [file.size_bytes, file.mtime_ns, *row] for (name, file), row in rows if not isinstance(row, str)
        }
        if len(reasons) == len(unread):
            return [reasons[name] if name in reasons else tuple(index[name][2:]) for name in names]
        head = {"schema": SCHEMA, "root": str(root), "sha256": _sha256(index)}
        text = json.dumps({**head, "files": index})
        keep_if_possible(index_path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return [reasons[name] if name in reasons else tuple(index[name][2:]) for name in names]


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


def _sha256(index: dict[str, list[Any]]) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _load(path: Path, width: int) -> dict[str, list[Any]]:
    """The cached index; empty when there is none, or when it is damaged (it is then written again)."""
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] == 1:  # an older version's, without checksums
            return {}
        if index["schema"] != SCHEMA or not all(len(row) == 2 + width for row in index["files"].values()):
            raise ValueError("another schema")
        if index.get("sha256", _sha256(index["files"])) != _sha256(index["files"]):
            raise ValueError("it does not match its checksum")
        return dict(index["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("the cached header index %s is damaged (%s): reading all headers again", path, error)
        return {}
