"""Where made data is kept, and how a folder is made whole or not at all."""

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

WAIT_QUIETLY_S = 1.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ELSEWHERE = "choose another folder, for the cache by setting S3PRL_ATTENTION_CACHE"


class Unwritable(OSError, ValueError):
    """What could not be written, why, and the cure; ``errno`` is the system's."""


class NotWritable(ValueError):
    """A folder in which no file can be made."""


def cache_dir() -> Path:
    """``$S3PRL_ATTENTION_CACHE``, else ``$XDG_CACHE_HOME/s3prl-attention``, else ``~/.cache/s3prl-attention``."""
    own = os.environ.get("S3PRL_ATTENTION_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "s3prl-attention"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Lets a full or read-only disk be told with the path and the cure, as ``Unwritable``; other errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Unwritable) or error.errno not in (*NO_ROOM, errno.EROFS):
            raise
        cure = "" if error.errno == errno.EROFS else "free some room on its disk and run the same command again, or "
        told = Unwritable(f"{path}: cannot be written ({os.strerror(error.errno)}): {cure}{ELSEWHERE}")
        told.errno = error.errno
        raise told from error


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target``, which takes its name when the block ends, replacing what was there.

    When the block raises, the folder is removed and ``target`` is as before. A lock beside ``target`` is held
    meanwhile, so two processes take turns; what a killed one left behind is removed by the next.
    """
    with folder_lock(target), _staged(target) as folder:
        yield folder


def ensure_folder(target: Path, build: Callable[[Path], None]) -> Path:
    """``target`` itself, after ``build(empty folder)`` has filled it if it was not there yet.

    When several processes ask at once, one builds and the others wait for it.
    """
    if not target.is_dir():
        with folder_lock(target):
            if not target.is_dir():
                with _staged(target) as folder:
                    build(folder)
    return target


@contextmanager
def folder_lock(target: Path) -> Iterator[None]:
    """Hold the lock beside ``target``; says so when it has to wait for another process."""
    _make_parent(target)
    lock = FileLock(target.parent / f".{target.name}.lock")
    with writing(target):
        try:
            lock.acquire(timeout=WAIT_QUIETLY_S)
        except Timeout:
            logger.info("waiting for another process that is making %s", target)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write, which takes the place of ``path`` when the block ends without an error; after a
    crash at any moment the file there is the old one or the new one, whole. What killed processes were writing goes."""
    _make_parent(path)
    with writing(path):
        _sweep(path)
        temporary, file = _claimed(path)
        try:
            with file:
                yield temporary
                temporary.chmod(os.fstat(file.fileno()).st_mode & 0o777)  # safetensors denies others
                with temporary.open("r+b") as written:  # Windows syncs only what may be written
                    os.fsync(written.fileno())
                if fcntl is None:  # Windows moves no open file
                    file.close()
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def keep_if_possible(path: Path, write: Callable[[Path], object]) -> None:
    """``replace_file`` for what only saves time: where it cannot be written, the log says why and the run goes on."""
    try:
        with replace_file(path) as temporary:
            write(temporary)
    except (Unwritable, NotWritable) as error:
        logger.warning("not kept for the next run: %s", error)


def _claimed(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside ``path`` with a lock on it, which the system frees when the process ends, however it ends."""
    while True:
        temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        file = temporary.open("wb")
        if fcntl is None:
            return temporary, file
        fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():  # else another process took it for a dead one's before it was locked
            return temporary, file
        file.close()


def _sweep(path: Path) -> None:
    """Remove what processes that were killed had written of ``path``: files that nobody holds a lock on."""
    for left in path.parent.glob(f".{_escape(path.name[:100])}.*.tmp"):
        with suppress(OSError), left.open("r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where its process lives
                left.unlink()


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
        reason = "it is not writable"
    except OSError as error:
        writable, reason = False, str(error.strerror)
    if not writable:
        raise NotWritable(f"{path.parent}: cannot be written ({reason}): {ELSEWHERE}")


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """The folder under its temporary name; the caller holds the lock, so any older one belongs to a dead process."""
    for stale in target.parent.glob(f".{_escape(target.name)}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with writing(target):
            folder.mkdir()
            yield folder
            _sync(folder)
            if target.exists():
                replaced = target.parent / f".{target.name}.old-{secrets.token_hex(4)}.tmp"
                target.rename(replaced)
                folder.rename(target)
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                folder.rename(target)
            _sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _escape(name: str) -> str:
    """A name that stands for itself in a glob pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _sync(folder: Path) -> None:
    """Make the names inside a folder survive a power cut, where the system allows to sync a folder."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
