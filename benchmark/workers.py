"""Workers: something built in a process of its own, which works when asked to and can die without harm to others."""

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .lane import ticks_to_s

PRELOADED = ("torch", "s3prl_attention.upstream.encoder")  # no more: memory that imports have freed is not weighed


class Worker:
    """A process that calls ``build()`` and then answers each request with what the built callable returns for it.

    Args:
        build: called in the process; must be picklable, as must requests and answers.
        name: for messages.

    Raises:
        ValueError: with what went wrong in the process, now or at a request; it stays able to answer unless it died.
    """

    def __init__(self, build: Callable[[], Callable[[Any], Any]], name: str) -> None:
        self.name = name
        context = fresh_processes(PRELOADED)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(build, theirs), daemon=True)
        self.process.start()
        theirs.close()
        try:
            self._answer()
        except ValueError:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def ask(self, request: Any = None) -> Any:
        """Send a request and wait for its answer."""
        try:
            self.pipe.send(request)
        except OSError:
            self._died()
        return self._answer()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _answer(self) -> Any:
        try:
            problem, answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._died()
        if problem:
            raise ValueError(f"{self.name}: {problem}")
        return answer

    def _died(self) -> None:
        self.process.join(1)
        code = self.process.exitcode
        raise ValueError(f"{self.name}: its process died (exit code {code}): is there enough memory?") from None


def fresh_processes(preloaded: Sequence[str]) -> Any:
    """Starts processes that share nothing with this one, in milliseconds where the system can fork: from a server that
    has imported what takes seconds, and never computes, so that no thread is lost in the fork. There is one server, of
    the first call."""
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    context = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(preloaded))
    return context


def as_worker() -> None:
    """Called first in a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    offered_first = Path("/proc/self/oom_score_adj")
    if offered_first.exists():
        offered_first.write_text("1000")  # when memory runs out, the system ends a worker and not its parent


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds that processes have used (Linux; 0 elsewhere, where nothing compares them with the machine's)."""
    total_s = 0.0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            fields = stat.read_text().rpartition(")")[2].split()
            total_s += ticks_to_s(int(fields[11]) + int(fields[12]))  # user and system
    return total_s


def _serve(build: Callable[[], Callable[[Any], Any]], pipe: Connection) -> None:
    """The worker's process."""
    as_worker()
    try:
        work = build()
    except Exception as error:  # told to the parent, which goes on without this worker
        pipe.send((_told(error), None))
        return
    pipe.send(("", None))
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return  # the parent is gone
        try:
            answer = ("", work(request))
        except Exception as error:  # likewise
            answer = (_told(error), None)
        pipe.send(answer)


def _told(error: Exception) -> str:
    """An error on one line; a ``ValueError`` is meant to be read as it is."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
