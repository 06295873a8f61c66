"""Claims: which process makes what in a result folder, so that several processes share the work and none does it twice.

All claims of a folder are locks on single bytes of one file, at a place that the name decides. The system frees them
when a process ends, however it ends, and on network file systems with POSIX locks they hold across machines.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..recipes.corpora.cache import writing

try:
    import fcntl
except ImportError:  # Windows: one process at a time there
    fcntl = None  # type: ignore[assignment]

FILE = ".claims"
PAUSE_S = 0.5  # between two looks at a claim that another process holds
TRIES = 5


class Claims:
    """The claims of this process on one result folder. POSIX locks are a process's, not an object's, and closing any
    handle of a file frees them all: so there is one object for each folder, from ``claims_of``."""

    def __init__(self, out: Path) -> None:
        self._path = out / FILE
        self._handle: int | None = None
        self._held: set[str] = set()
        self._guard = threading.Lock()

    @contextmanager
    def hold(self, name: str, tries: int = 1) -> Iterator[bool]:
        """Claim ``name`` for the block; yields whether it is ours: not when another process has it. Some have it for a
        moment, to look whether it is ``taken``: who does not come again tries several times."""
        got = self._take(name)
        while not got and tries > 1:
            time.sleep(PAUSE_S / TRIES)
            tries, got = tries - 1, self._take(name)
        try:
            yield got
        finally:
            if got:
                self._release(name)

    @contextmanager
    def wait_for(self, name: str, say: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Claim ``name`` for the block, once nobody else has it; calls ``say`` once when that takes a while."""
        told = False
        while True:
            with self.hold(name) as ours:
                if ours:
                    yield
                    return
            if not told:
                say()
                told = True
            time.sleep(PAUSE_S)

    def taken(self, name: str) -> bool:
        """Whether another process has ``name`` right now."""
        with self._guard:
            if name in self._held:
                return False
        with self.hold(name) as ours:
            return not ours

    def _take(self, name: str) -> bool:
        with self._guard:
            if name in self._held:
                raise RuntimeError(f"this process has claimed {name} already")
            if fcntl is None:
                self._held.add(name)
                return True
            if self._handle is None:
                with writing(self._path):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
            except OSError as error:
                self._close_unused()
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return False
                raise
            self._held.add(name)
            return True

    def _release(self, name: str) -> None:
        with self._guard:
            self._held.discard(name)
            if fcntl is not None and self._handle is not None:
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(name))
            self._close_unused()

    def _close_unused(self) -> None:
        if not self._held and self._handle is not None:
            os.close(self._handle)
            self._handle = None


_claims: dict[Path, Claims] = {}


def claims_of(out: Path) -> Claims:
    """The claims of this process on a result folder."""
    key = Path(os.path.abspath(out))  # noqa: PTH100 (the folder may not be there yet, nor what a link points at)
    return _claims.setdefault(key, Claims(key))


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
