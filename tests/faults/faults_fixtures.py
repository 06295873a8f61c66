"""Runs of the benchmark that are killed, and what must be the same afterwards."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.result_files import read_cell
from s3prl_attention.downstream.feature_cache import part_folders
from s3prl_attention.recipes.corpora import FrameStore
from s3prl_attention.recipes.run_files import read_log

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOOK = Path(__file__).parent / "hook"
REQUEST = ("--preset", "smoke", "--upstream", "fixed_init", "--downstream", "speaker")
STAGES = ("corpus", "pretraining", "extraction", "probing", "results")
TIMES = {"time", "memory", "environment", "checksums"}  # sections of a cell that tell of the machine and its clock
CLOCKS = {"pretrain": ("seconds",), "probe": ("seconds", "extraction_s")}
LOGGED = {"step_s", "data_wait_s", "elapsed_s"}
SURVIVE_S = 5.0  # how long a process may outlive the run that started it


@dataclass(frozen=True)
class Kill:
    """When a run is killed: at the ``number``-th file operation of a stage, or so long after it.

    Args:
        stage: one of ``STAGES``.
        number: of the operation, from 1; of those that ``match`` where it is given.
        delay_s: after it.
        whom: ``group``; ``parent`` for the process that was started alone; ``self`` for the one that is at it, or
            ``memory`` to let that one take memory until the system ends it.
        match: a pattern of "event path".
    """

    stage: str
    number: int
    delay_s: float = 0.0
    whom: str = "group"
    match: str = ""


@dataclass(frozen=True)
class Place:
    """A result folder and a cache, both below ``root``, and the notes of the hook."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "cache"


def environment(place: Place, notes: Path | None = None, kill: Kill | None = None, **more: str) -> dict[str, str]:
    """Of a run in ``place``; with ``notes`` the hook counts its file operations there, and kills where asked to."""
    found = {**os.environ, "S3PRL_ATTENTION_CACHE": str(place.cache), "OMP_NUM_THREADS": "1", **more}
    if notes is not None:
        notes.mkdir(parents=True)
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH", ""))))
        found["FAULTS_FOLDER"] = str(notes)
        found["FAULTS_WATCH"] = os.pathsep.join((str(place.out), str(place.cache)))
        found["FAULTS_KILL"] = json.dumps(asdict(kill)) if kill else ""
    return found


def command(place: Place, *words: str) -> list[str]:
    """Of a run in ``place``."""
    return [sys.executable, str(REPOSITORY / "run_benchmark.py"), *REQUEST, "--out", str(place.out), *words]


def run(
    place: Place, *words: str, notes: Path | None = None, kill: Kill | None = None, before: Any = None, **more: str
) -> Any:
    """``run_benchmark.py`` to its end, or to its kill, as the first process of a group: (exit code, stdout, stderr).
    ``before`` is called in that process first."""
    return subprocess.run(
        command(place, *words), env=environment(place, notes, kill, **more), capture_output=True, text=True,
        start_new_session=True, timeout=600, check=False, preexec_fn=before,
    )  # fmt: skip


def run_here(place: Place, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """The same to its end, started by this process, which has imported everything already."""
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(place.cache))
    assert main([*REQUEST, "--out", str(place.out), *words]) == 0


def undisturbed_run(root: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Place:
    """A run in ``root`` to its end, which finds this corpus in its cache."""
    place = Place(root)
    shutil.copytree(corpus, place.cache / "corpora" / corpus.name)
    run_here(place, monkeypatch, *words)
    return place


def survivors(notes: Path) -> list[int]:
    """Processes that a run has left, after the time that they have to notice its end; they are ended here."""
    deadline, mark = time.monotonic() + SURVIVE_S, f"FAULTS_FOLDER={notes}".encode()
    while (found := list(_with(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in found:
        os.kill(pid, 9)
    return found


def _with(mark: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0") and b") Z " not in (folder / "stat").read_bytes():
                yield int(folder.name)
        except OSError:  # it has ended meanwhile
            continue


def operations(notes: Path) -> dict[str, int]:
    """How many file operations each stage took."""
    return {path.name.removeprefix("count-"): path.stat().st_size for path in notes.glob("count-*")}


def landed(notes: Path) -> dict[str, Any] | None:
    """Where the kill came; None when the run ended before it."""
    path = notes / "landed"
    return json.loads(path.read_text().splitlines()[0]) if path.exists() else None


KEPT = {  # what a run finds done, for a kill in a stage; the timing of the upstreams is always there
    "corpus": (),
    "pretraining": ("cache/corpora",),
    "extraction": ("cache/corpora", "cache/log-mel", "out/pretrain"),
    "probing": ("cache", "out/pretrain"),
    "results": ("cache", "out/pretrain"),
}


def prepare(place: Place, whole: Place, stage: str) -> None:
    """Copy from an undisturbed run what it had when it came to a stage."""
    for name in ("out/timing", *KEPT[stage]):
        shutil.copytree(whole.root / name, place.root / name)


def drawn(stage: str, count: int, rng: random.Random) -> Kill:
    """A random moment of a stage that has so many file operations: every other at one, the others in between."""
    longest_s = {"corpus": 0.5, "pretraining": 0.3, "extraction": 0.1, "probing": 0.4, "results": 0.01}[stage]
    delay_s = rng.uniform(0, longest_s) if stage == "probing" or rng.random() < 0.5 else 0.0
    return Kill(stage, rng.randint(1, count), delay_s, rng.choice(("group", "group", "parent")))


def plain(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell without what hangs on clock and machine."""
    kept = {key: value for key, value in cell.items() if key not in TIMES and not key.startswith("_")}
    for section, names in CLOCKS.items():
        if kept.get(section):
            kept[section] = {key: value for key, value in kept[section].items() if key not in names}
    return kept


def names(place: Place) -> set[str]:
    """All files, hidden ones too, but those whose names hang on folder or clock: curves of tensorboard, which every
    start of a run opens anew, what is known of a corpus by its path, and what processes tell one another."""
    found = {path.relative_to(place.root).as_posix() for path in place.root.rglob("*") if not path.is_dir()}
    pattern = r"/tensorboard/|^cache/(headers|labels)/[^.]|^cache/timing-|^out/(jobs/|\.claims$)"
    return {name for name in found if not re.search(pattern, name)}


def check_same(place: Place, whole: Place) -> None:
    """Results, checkpoints and cache equal those of an undisturbed run, and there is nothing more or less."""
    assert names(place) ^ names(whole) == set()
    for path in sorted(whole.out.glob("cells/**/*.json")):
        own = place.out / path.relative_to(whole.out)
        assert plain(read_cell(own)) == plain(read_cell(path))
    alike = ["out/cells/**/*.csv", "out/pretrain/*/*/checkpoint/*", "cache/corpora/**/*", "cache/log-mel/**/*"]
    for path in (path for pattern in alike for path in sorted(whole.root.glob(pattern)) if path.is_file()):
        assert (place.root / path.relative_to(whole.root)).read_bytes() == path.read_bytes(), path
    for path in whole.out.glob("pretrain/*/*/log.jsonl"):
        logs = [read_log(found) for found in (path, place.out / path.relative_to(whole.out))]
        curves = [[{k: v for k, v in line.items() if k not in LOGGED} for line in log] for log in logs]
        assert curves[0] == curves[1]
    for entry in (whole.cache / "hidden-states").glob("[!.]*"):
        stores = [
            FrameStore.open(*part_folders(found)) for found in (entry, place.cache / "hidden-states" / entry.name)
        ]
        assert set(stores[0].ids) == set(stores[1].ids)
        for id in stores[0].ids:
            np.testing.assert_array_equal(stores[0][id], stores[1][id])


def note(test: str, **counts: Any) -> None:
    """Print the counts of a test, and add them to the file that ``$S3PRL_ATTENTION_FIGURES`` names."""
    line = json.dumps({"test": test, **counts})
    print(line)
    if os.environ.get("S3PRL_ATTENTION_FIGURES"):
        with Path(os.environ["S3PRL_ATTENTION_FIGURES"]).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
