"""How commands check their counts, and end when they cannot go on; cheap to import."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..upstream.printable import printable

INTERRUPTED = 130  # what shells expect of a program stopped by Ctrl-C


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, of a scheduler, a container or ``kill``, end a run as Ctrl-C does: pages are written, jobs ended.
    A shell's background jobs do not hear Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not for others
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_counts(options: argparse.Namespace, *names: str) -> None:
    """Raises ``ValueError`` for the first of these options that is below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")


@contextmanager
def mistakes_told(interrupted: str = "") -> Iterator[None]:
    """End the process with one line for a wrong request, or a disk that is full or read-only; after Ctrl-C with
    ``interrupted``, if that says anything."""
    try:
        yield
    except KeyboardInterrupt:
        if interrupted:
            print(interrupted, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {printable(error)}")
