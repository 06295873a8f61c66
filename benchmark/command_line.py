"""How commands end when they cannot go on; cheap to import."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..upstream.printable import printable

INTERRUPTED = 130  # what shells expect of a program stopped by Ctrl-C


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
