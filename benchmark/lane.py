"""The timing lane: one timing at a time on a machine, and a measure of what everybody else is doing meanwhile."""

import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows: timing does not wait for work there, and tells that it was disturbed
    fcntl = None  # type: ignore[assignment]

PASSING_S = 0.5  # how long those who pass may hold the lock

logger = logging.getLogger(__name__)


@contextmanager
def exclusive_lane(say: Callable[[str], None] = logger.info) -> Iterator[None]:
    """Hold this machine's timing lock, and keep the ``working`` processes of all runs out: file locks in the user's
    cache folder (where that is read-only, in the one of temporary files), which the system frees when the process ends,
    however it ends. Calls ``say`` with one line when this one waits for others to end."""
    path = _lock_path()
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PASSING_S)
    except Timeout:
        say(f"another run of yours is timing: waiting for it to end, since each would slow the other (lock {path})")
        lock.acquire()
    try:
        with _workers_lock(path, alone=True, say=say):
            yield
    finally:
        lock.release()


@contextmanager
def working() -> Iterator[None]:
    """Hold a place beside other working processes for the block; waits while another process of the user is timing, or
    is waiting to: what it measures would be worth nothing."""
    path = _lock_path()
    with ExitStack() as stack:
        with FileLock(path):  # passed by one after the other: who wants to time lets nobody pass after itself
            stack.enter_context(_workers_lock(path, alone=False))
        yield


def _lock_path() -> Path:
    from ..recipes.corpora import cache_dir

    name = f"timing-{platform.node() or 'localhost'}.lock"  # the cache may be shared by several machines
    path = cache_dir() / name
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):  # a cache to read from only
        path = Path(tempfile.gettempdir()) / f"s3prl-attention-{os.getuid() if hasattr(os, 'getuid') else 0}-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _workers_lock(path: Path, alone: bool, say: Callable[[str], None] = logger.info) -> Iterator[None]:
    """The lock that working processes share and that timing has alone."""
    if fcntl is None:
        yield
        return
    with path.with_suffix(".workers").open("a+") as file:
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"other processes of yours are working: waiting for what they are at, to time alone (lock {path})")
            fcntl.flock(file, how)
        yield


class OtherLoad:
    """CPU time that others take, from construction on: every process but this one and its ended children.

    The system counts in ticks (10 ms), so one tick is not held against anybody: short intervals see only heavy load.
    """

    def __init__(self, stat: Path = Path("/proc/stat"), own_s: Callable[[], float] | None = None) -> None:
        self._stat = stat
        self._own_s = own_s or _own_cpu_s
        self._start = self._read()

    def share(self) -> float | None:
        """Share (0 to 1) of all cores' time that others have used so far; None where the system does not tell."""
        now = self._read()
        if self._start is None or now is None:
            return None
        busy_s, total_s, own_s = (end - start for end, start in zip(now, self._start, strict=True))
        if total_s <= 0:
            return 0.0
        return min(1.0, max(0.0, busy_s - own_s - _tick_s()) / total_s)

    def _read(self) -> tuple[float, float, float] | None:
        """Seconds all cores were busy, seconds all cores existed, seconds this process and its ended children took."""
        try:
            fields = self._stat.read_text().split("\n", 1)[0].split()
            ticks = [int(field) for field in fields[1:9]]  # user nice system idle iowait irq softirq steal
        except (OSError, ValueError):
            return None
        if len(ticks) < 8 or fields[0] != "cpu":
            return None
        total, idle = sum(ticks), ticks[3] + ticks[4]
        return (total - idle) * _tick_s(), total * _tick_s(), self._own_s()


def ticks_to_s(ticks: int) -> float:
    """Seconds of the clock ticks in which Linux counts CPU time."""
    return ticks * _tick_s()


def _tick_s() -> float:
    return 1 / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system
