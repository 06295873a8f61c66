"""Room for made data: the entries of a folder, who uses them, a limit, and removal of what was unused for longest.

An entry is a folder. The file ``used`` in it carries the time of its last use, and each process that uses the entry
holds a shared lock on that file, which the system frees when the process ends, however it ends. Where the system has no
such locks (Windows) it refuses by itself to move a folder of which a file is mapped. Nothing but entries is removed.
"""

import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .cache import folder_lock, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LIMIT = "S3PRL_ATTENTION_CACHE_LIMIT"
MARGIN_BYTES = 500_000_000  # that stay free on the disk, for checkpoints and results
USED = "used"
STEP_NS = 1_000_000  # between two uses, where the clock does not tell them apart
UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Entry:
    """A folder, the bytes of all its files, and when it was last used (seconds since 1970)."""

    path: Path
    num_bytes: int
    used_at: float


def entries(root: Path) -> list[Entry]:
    """The entries of a folder, the one that was unused for longest first."""
    paths = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."] if root.is_dir() else []
    found = [Entry(path, sum(_sizes(path)), _used_at(path)) for path in paths]
    return sorted(found, key=lambda entry: (entry.used_at, entry.path.name))


def claim(path: Path) -> Callable[[], None]:
    """Make the entry if it is not there, note that it is used now, and keep it from removal until the returned function
    is called or the process ends. In a cache that may not be written to, an entry that is there is kept only."""
    if (path / USED).is_file() and not os.access(path.parent, os.W_OK):
        handle = os.open(path / USED, os.O_RDONLY)
        _share(handle)
        return lambda: os.close(handle)
    with folder_lock(path.parent), writing(path):
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / USED, os.O_RDWR | os.O_CREAT, 0o644)
        now_ns = max(time.time_ns(), _latest_ns(path) + STEP_NS)
        os.utime(path / USED, ns=(now_ns, now_ns))
        _share(handle)
    return lambda: os.close(handle)


def _share(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_SH)


def _latest_ns(path: Path) -> int:
    """When an entry beside ``path`` was used last. The next use is later, even where the clock was set back since: the
    order of uses decides which entry goes first."""
    return max((_stat_ns(used) for used in path.parent.glob(f"*/{USED}") if used.parent != path), default=0)


def _stat_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # removed by another process meanwhile
        return 0


def in_use(path: Path) -> bool:
    """Whether a living process, this one included, has claimed the entry."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path / USED, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def remove(root: Path, doomed: Iterable[Entry], why: str) -> tuple[list[Entry], list[Entry]]:
    """(removed, kept because they are in use); logs name and size of what is removed."""
    with folder_lock(root):
        _sweep(root)
        gone: list[Entry] = []
        kept: list[Entry] = []
        for entry in doomed:
            (gone if not in_use(entry.path) and _remove(entry, why) else kept).append(entry)
        return gone, kept


def make_room(path: Path, need_bytes: int, what: str) -> None:
    """Make sure that the claimed entry ``path`` may grow by ``need_bytes``: below the limit, for which other entries
    are removed, the one that was unused for longest first, and on the disk, where ``MARGIN_BYTES`` must stay free.

    Raises:
        ValueError: with nothing removed, when that cannot be; ``what`` opens the sentence ("X from Y").
    """
    root = path.parent
    with folder_lock(root):
        _sweep(root)
        found = entries(root)
        limit_bytes, source = limit(root, found)
        doomed = []
        if limit_bytes is not None:
            own_bytes = sum(entry.num_bytes for entry in found if entry.path == path)
            cure = f"set {LIMIT} to more, or to none"
            if own_bytes + need_bytes > limit_bytes:
                raise ValueError(
                    f"{what} need {told(own_bytes + need_bytes)}, and the limit of all in {root} is "
                    f"{told(limit_bytes)} ({source}): {cure}"
                )
            over_bytes = sum(entry.num_bytes for entry in found) + need_bytes - limit_bytes
            for entry in found:
                if over_bytes > 0 and entry.path != path and not in_use(entry.path):
                    doomed.append(entry)
                    over_bytes -= entry.num_bytes
            if over_bytes > 0:
                raise ValueError(
                    f"{what} need {told(need_bytes)}, which is {told(over_bytes)} over the limit of "
                    f"{told(limit_bytes)} ({source}) while other processes use the rest of {root}: wait for them, or "
                    f"{cure}"
                )
        has_bytes = shutil.disk_usage(root).free + sum(entry.num_bytes for entry in doomed)
        if need_bytes + MARGIN_BYTES > has_bytes:
            raise ValueError(
                f"{what} need {told(need_bytes)} and {told(MARGIN_BYTES)} to spare, and the disk of {root} has "
                f"{told(has_bytes)}: free some, for example with 'python -m s3prl_attention.benchmark.feature_cache "
                f"clear', or set S3PRL_ATTENTION_CACHE to a folder on another disk"
            )
        for entry in doomed:
            _remove(entry, f"to stay below {told(limit_bytes or 0)} ({source})")


def limit(root: Path, found: Iterable[Entry]) -> tuple[int | None, str]:
    """(bytes that all entries may have together, or None for no limit; where that comes from).

    By default half of what the disk would have free without them, so that a cache never fills a disk.
    """
    given = os.environ.get(LIMIT, "").strip()
    if given.lower() == "none":
        return None, LIMIT
    if given:
        return parse_bytes(given, LIMIT), LIMIT
    free_bytes = shutil.disk_usage(root).free + sum(entry.num_bytes for entry in found)
    return free_bytes // 2, "half of what the disk has free without them"


def parse_bytes(text: str, name: str) -> int:
    """``20GB``, ``1.5 TB`` or ``512MiB`` in bytes; ``ValueError`` that opens with ``name`` for anything else."""
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    num_bytes = int(float(read[1]) * (1024 if read[3] else 1000) ** " KMGT".index(read[2] or " ")) if read else 0
    if num_bytes < 1:
        raise ValueError(f"{name} cannot be {text!r}: give a size above 0 such as 20GB, or none")
    return num_bytes


def told(num_bytes: float) -> str:
    """``1.2 GB``."""
    number, unit = float(num_bytes), 0
    while number >= 999.5 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.{0 if unit == 0 or number >= 99.95 else 1}f} {UNITS[unit]}"


def _remove(entry: Entry, why: str) -> bool:
    """Under the lock of the root, so that nobody claims the entry meanwhile; False when the system refuses."""
    doomed = entry.path.with_name(f".{entry.path.name}.{secrets.token_hex(4)}.removed")
    try:
        entry.path.rename(doomed)
    except FileNotFoundError:  # by hand, or by another process since it was listed
        return True
    except PermissionError as error:
        logger.warning("%s stays: %s", entry.path, error.strerror)
        return False
    shutil.rmtree(doomed, ignore_errors=True)
    entry.path.with_name(f"{entry.path.name}.json").unlink(missing_ok=True)  # older versions wrote it beside it
    logger.info("removed %s (%s) %s", entry.path.name, told(entry.num_bytes), why)
    return True


def _sweep(root: Path) -> None:
    """Finish removals in which a process was killed."""
    for half_removed in root.glob(".*.removed"):
        shutil.rmtree(half_removed, ignore_errors=True)


def _sizes(path: Path) -> Iterable[int]:
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                yield (Path(folder) / name).stat().st_size
            except FileNotFoundError:  # renamed or removed by another process meanwhile
                continue


def _used_at(path: Path) -> float:
    try:
        return (path / USED).stat().st_mtime
    except FileNotFoundError:
        return path.stat().st_mtime if path.exists() else 0.0
