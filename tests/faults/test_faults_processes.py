"""Processes beside one another: one that dies takes its cell alone, and two runs on one folder share the work."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from faults_fixtures import (
    Kill,
    Place,
    command,
    environment,
    landed,
    note,
    plain,
    prepare,
    run,
    survivors,
    undisturbed_run,
)
from s3prl_attention.benchmark.result_files import read_cell, read_cells

TASKS = ("--downstream", "speaker", "phone_linear")
CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture(scope="module")
def undisturbed(synthetic_tiny, tmp_path_factory):
    """The cells that a run makes when nothing disturbs it."""
    pytest.importorskip("fcntl", reason="needs a system with process groups and /proc")
    with pytest.MonkeyPatch.context() as patch:
        return undisturbed_run(tmp_path_factory.mktemp("whole"), synthetic_tiny.root, patch, *TASKS)


@pytest.fixture
def timed(undisturbed, tmp_path):
    """A folder with corpus and timing only, and the undisturbed one."""
    place = Place(tmp_path / "place")
    prepare(place, undisturbed, "pretraining")
    return place, undisturbed


def by_name(place: Place) -> dict[tuple[str, str], dict]:
    cells, problems = read_cells(place.out / "cells")
    assert problems == []
    return {(cell["cell"]["upstream"], cell["cell"]["downstream"]): cell for cell in cells}


def check_one_failed(place: Place, whole: Place, killed, reason: str) -> None:
    """Only fixed_init on speaker, for this reason; the same command makes it."""
    assert killed.returncode == 1, killed.stderr
    made = by_name(place)
    failed = made.pop(("fixed_init", "speaker"))
    assert failed["status"] == "failed"
    assert re.search(reason, failed["reason"])
    assert {cell["status"] for cell in made.values()} == {"ok"}
    assert len(made) == 3
    again = run(place, *TASKS)
    assert "4 cells, 1 made now, 0 failed" in again.stdout
    check_equal(place, whole)


def check_equal(place: Place, whole: Place) -> None:
    """The same cells, times aside."""
    found, expected = by_name(place), by_name(whole)
    assert {key: plain(cell) for key, cell in found.items()} == {key: plain(cell) for key, cell in expected.items()}


DYING = r"open .*/cells/.*/\.fixed_init--speaker--.*\.csv\..*tmp"


def test_a_process_that_dies_fails_its_cell_alone(timed, tmp_path):
    place, whole = timed
    kill = Kill("results", 1, whom="self", match=DYING)
    killed = run(place, *TASKS, "--jobs", "2", notes=tmp_path / "notes", kill=kill)
    assert landed(tmp_path / "notes")
    assert survivors(tmp_path / "notes") == []
    check_one_failed(place, whole, killed, "process died .it was killed, as the system does when memory runs out")


def test_sigterm_ends_a_run_like_ctrl_c_and_the_same_command_goes_on(timed, tmp_path):
    place, whole = timed
    notes = tmp_path / "notes"
    process = subprocess.Popen(
        command(place, *TASKS), env=environment(place, notes), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not list(place.out.glob("jobs/*/*.log")):
        time.sleep(0.01)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.endswith("interrupted: the same command goes on with what is missing\n")
    assert "Traceback" not in told
    assert "leaked" not in told
    assert survivors(notes) == []
    assert "Unfinished: 4 of the 4 cells" in (place.out / "leaderboard.md").read_text()
    assert run(place, *TASKS).returncode == 0
    check_equal(place, whole)


@pytest.mark.slow
def test_a_cell_that_takes_all_memory_is_ended_by_the_system_and_fails_alone(timed, tmp_path):
    place, whole = timed
    group = CGROUPS / f"s3prl-attention-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group with limited memory can be made in {CGROUPS} ({error.strerror}): run as root, cgroup v1")
    (group / "memory.limit_in_bytes").write_text(str(3 << 30))
    kill = Kill("results", 1, whom="memory", match=DYING)

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        killed = run(place, *TASKS, notes=tmp_path / "notes", kill=kill, before=join)
        assert landed(tmp_path / "notes")
        assert survivors(tmp_path / "notes") == []
    finally:
        time.sleep(0.5)  # the system takes a while to notice that all have left
        group.rmdir()
    check_one_failed(place, whole, killed, "process died .it was killed, as the system does when memory runs out")
    note("out of memory", cells_failed=1, cells_made=3, limit_gb=3)


def two_at_once(place: Place, *words: str) -> list[int]:
    """How many cells each of two runs made that were started together."""
    runs = [
        subprocess.Popen(command(place, *words), env=environment(place), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=600)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    found = [re.search(r"(\d+) cells, (\d+) made now, 0 failed", text) for text in told]
    assert all(found)
    return [int(match[2]) for match in found if match]


def test_two_runs_on_one_folder_make_no_cell_twice(timed):
    place, whole = timed
    made = two_at_once(place, *TASKS)
    assert sum(made) == 4
    check_equal(place, whole)
    logs = list(place.out.glob("pretrain/*/*/log.jsonl"))
    assert len(logs) == 1, "one pre-training"
    steps = [json.loads(line)["step"] for line in logs[0].read_text().splitlines() if "train_loss" in line]
    assert steps == sorted(set(steps)), "no step twice"


@pytest.mark.slow
def test_two_runs_from_nothing_share_timing_corpus_and_eighteen_cells(tmp_path):
    place = Place(tmp_path / "place")
    upstreams = ("--upstream", "fixed_init", "fixed_patterns", "uniform", "mean_map", "random_keys", "routing")
    made = two_at_once(place, *upstreams, "--downstream", "speaker", "phone_linear", "speaker_frame", "--jobs", "2")
    assert sum(made) == 21
    cells, problems = read_cells(place.out / "cells")
    assert (len(cells), problems) == (21, [])
    note("two runs on one folder", cells=21, made_by_each=made, made_twice=0)


def test_a_cell_runs_from_its_file_alone(timed, tmp_path):
    place, _ = timed
    assert run(place).returncode == 0
    (spec,) = (path for path in place.out.glob("jobs/*/fixed_init--speaker--*.json") if ".outcome." not in path.name)
    result = place.out / json.loads(spec.read_text())["result"]
    result.unlink()

    def by_hand(path: Path):
        words = ["-m", "s3prl_attention.benchmark.cell", str(path)]
        return subprocess.run(
            [command(place)[0], *words], env=environment(place), capture_output=True, text=True, check=False
        )

    first, second = by_hand(spec), by_hand(spec)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stdout == "probing fixed_init, seed 0, for speaker: done\n"
    assert second.stdout == "probing fixed_init, seed 0, for speaker: was finished before\n"
    assert read_cell(result)["status"] == "ok"
    other = tmp_path / "other.json"
    other.write_text(spec.read_text().replace("--speaker--", "--speakr--"))
    refused = by_hand(other)
    assert refused.returncode == 1
    assert "this spec is about" in refused.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a Slurm that runs on this machine alone."""
    if not (shutil.which("sbatch") and shutil.which("munged", path=f"{os.environ['PATH']}:/usr/sbin")):
        pytest.skip("no Slurm: apt-get install --no-install-recommends slurm-wlm munge")
    if os.getuid():
        pytest.skip("slurmd needs root")
    pytest.importorskip("submitit", reason="--executor slurm needs the extra 'slurm'")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([ONE_NODE, "start", folder], check=True, timeout=120)
    yield {"SLURM_CONF": str(folder / "slurm.conf"), "SUBMITIT_EXECUTOR": "slurm"}
    subprocess.run([ONE_NODE, "stop", folder], check=True, timeout=60)


ONE_NODE = Path(__file__).parent.parent / "slurm" / "one_node.sh"
BY_SLURM = (*TASKS, "--executor", "slurm", "slurm.cpus_per_task=1")


@pytest.mark.slow
def test_a_grid_through_slurm_is_the_same_grid(slurm, timed):
    place, whole = timed
    shutil.rmtree(place.out / "timing")
    done = run(place, *BY_SLURM, **slurm)
    assert done.returncode == 0, done.stderr
    assert "4 cells, 4 made now, 0 failed" in done.stdout
    check_equal(place, whole)
    assert all(
        cell["time"]["phases"]["train_step"]["samples_s"] for (name, _), cell in by_name(place).items() if name != "mel"
    )
    assert not list(place.out.glob("jobs/**/*.tmp"))
    note("grid through Slurm", cells=4, different=0, jobs=len(list(place.out.glob("jobs/*/slurm/*_submitted.pkl"))))


@pytest.mark.slow
def test_a_slurm_job_that_dies_fails_its_cell_alone(slurm, timed, tmp_path):
    place, whole = timed
    kill = Kill("results", 1, whom="self", match=DYING)
    killed = run(place, *BY_SLURM, notes=tmp_path / "notes", kill=kill, **slurm)
    check_one_failed(place, whole, killed, "^Slurm: [A-Z]+: its process died")


@pytest.mark.slow
def test_slurm_jobs_outlive_the_command_and_the_next_finds_what_they_made(slurm, timed):
    place, whole = timed
    first = subprocess.Popen(command(place, *BY_SLURM), env=environment(place, **slurm), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(place.out.glob("jobs/*/slurm/2_*_submitted.pkl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    first.kill()
    first.wait()
    again = run(place, *BY_SLURM, **slurm)
    assert again.returncode == 0, again.stderr
    check_equal(place, whole)
