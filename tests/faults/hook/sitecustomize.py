"""Kills a run at a chosen file operation, or a while after it; Python imports this in every process of the run.

The environment says what to do: ``FAULTS_FOLDER`` is where operations are counted, ``FAULTS_WATCH`` the folders whose
operations count, ``FAULTS_KILL`` the kill as JSON (``Kill`` in ``faults_fixtures.py``). The product is not touched: the
interpreter itself reports what is opened, renamed and removed.
"""

# pathlib would raise events of its own, and is not imported here yet
# ruff: noqa: PTH100, PTH123

import json
import os
import re
import signal
import sys
import threading
import time

STAGES = {  # by the path of a file operation, the first that fits
    "results": r"/out/(cells|timing)\b|/out/\.?(leaderboard|request\.json)",
    "corpus": r"/cache/(corpora|headers|labels)\b",
    "pretraining": r"/out/pretrain/|/cache/log-mel\b",
    "extraction": r"/cache/(\.?hidden-states)\b",
}
WRITES = {"os.rename": 1, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0}  # event -> the argument that is the path


class Watch:
    """Counts the operations of a stage over all processes, and kills at the one that was asked for."""

    def __init__(self, folder: str, roots: list[str], kill: dict) -> None:
        self.folder, self.roots, self.kill = folder, tuple(roots), kill
        self.busy = False
        try:
            with open(f"{folder}/leader", "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.busy or not (event in WRITES or event == "open"):
            return
        if event == "open" and not self._is_written(arguments):
            return
        path = arguments[WRITES.get(event, 0)]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(self.roots):
            return
        self.busy = True
        try:
            self._saw(event, path, arguments)
        finally:
            self.busy = False

    @staticmethod
    def _is_written(arguments: tuple) -> bool:
        _, mode, flags = arguments
        return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)) or any(
            x in (mode or "") for x in "wxa"
        )

    def _saw(self, event: str, path: str, arguments: tuple) -> None:
        stage = next((name for name, pattern in STAGES.items() if re.search(pattern, path)), "other")
        if event == "os.rename" and path.endswith("/request.json"):
            with open(arguments[0]) as file:
                stage = "probing" if "probing" in str(json.load(file)["doing"]) else stage
        number = self._count(stage)
        self._count("all")
        with open(f"{self.folder}/operations", "a") as file:
            file.write(f"{stage}\t{number}\t{event}\t{path}\n")
        if not self.kill or stage != self.kill["stage"]:
            return
        if self.kill.get("match"):
            if not re.search(self.kill["match"], f"{event} {path}"):
                return
            number = self._count("matched")
        if number == self.kill["number"]:
            if self.kill["delay_s"]:
                threading.Thread(target=self._later, args=(stage, f"{event} {path}"), daemon=True).start()
            else:
                self._end(stage, f"at {event} {path}")

    def _count(self, name: str) -> int:
        """One more; the count is the size of a file that every process appends to."""
        handle = os.open(f"{self.folder}/count-{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b"x")
        number = os.lseek(handle, 0, os.SEEK_CUR)
        os.close(handle)
        return number

    def _later(self, stage: str, what: str) -> None:
        time.sleep(self.kill["delay_s"])
        self.busy = True
        self._end(stage, f"{self.kill['delay_s']:.3f} s after {what}")

    def _end(self, stage: str, where: str) -> None:
        with open(f"{self.folder}/leader") as file:
            leader = int(file.read())
        with open(f"{self.folder}/landed", "a") as file:
            file.write(json.dumps({"stage": stage, "where": where, "by": os.getpid(), "leader": leader}) + "\n")
        if self.kill["whom"] == "memory":
            taken = []
            while True:
                taken.append(b"x" * (16 << 20))
        if self.kill["whom"] == "self":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kill["whom"] == "parent":
            os.kill(leader, signal.SIGKILL)
        else:
            os.killpg(leader, signal.SIGKILL)
        if os.getpid() != leader and self.kill["whom"] == "group":
            os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("FAULTS_FOLDER"):
    sys.addaudithook(
        Watch(
            os.environ["FAULTS_FOLDER"],
            os.environ["FAULTS_WATCH"].split(os.pathsep),
            json.loads(os.environ.get("FAULTS_KILL") or "{}"),
        )
    )
