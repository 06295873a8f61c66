"""Jobs in fresh processes: their logs, their end when they take too long, and specs that cannot be used."""

import json
import time

import pytest
from s3prl_attention.benchmark.cell_spec import Spec, main, read_spec
from s3prl_attention.benchmark.cli import main as benchmark
from s3prl_attention.benchmark.executors import Job, Local, log_path, spec_path
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.benchmark.slurm import load_settings


def preparation(out) -> Job:
    """Of ``mel``, which is fitted and encodes 64 utterances."""
    spec = Spec("preparation", str(out), "smoke", ["mel"], ["speaker"], [], "cpu", 1)
    return Job(spec, "mel--seed0")


ENDLESS = "pretrain.steps=1000000"


def wait_for(executor: Local):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if ended := executor.ended(1.0):
            return ended
    raise AssertionError("nothing has ended")


def test_a_job_in_a_fresh_process_has_its_spec_its_log_and_an_outcome(synthetic_tiny, tmp_path):
    executor, job = Local(tmp_path), preparation(tmp_path)
    executor.start([job])
    assert executor.free() == 0
    ((done, outcome),) = wait_for(executor)
    assert (done, outcome.status, outcome.failure) == (job, "ok", None)
    assert executor.free() == 1
    (folder,) = tmp_path.glob("jobs/*")
    path = spec_path(folder, job)
    assert read_spec(path) == job.spec
    assert "pre-training and encoding with mel, seed 0: done" in log_path(path).read_text()


def test_a_job_that_takes_too_long_is_ended_and_says_how_to_allow_more(synthetic_tiny, tmp_path):
    executor = Local(tmp_path, timeout_s=0.5)
    spec = Spec("preparation", str(tmp_path), "smoke", ["fixed_init"], ["speaker"], [ENDLESS], "cpu", 1)
    executor.start([Job(spec, "endless")])
    ((_, outcome),) = wait_for(executor)
    assert outcome.failure is not None
    assert outcome.failure.status == "timeout"
    assert "--timeout allows more" in outcome.failure.reason


def test_a_grid_goes_on_after_a_job_that_takes_too_long(synthetic_tiny, tmp_path):
    words = ["--preset", "smoke", "--upstream", "fixed_init", "--downstream", "speaker", "--out", str(tmp_path)]
    assert benchmark([*words, "--timeout", "15s", ENDLESS, "pretrain.log_every=1000000"]) == 1
    cells = {cell["cell"]["upstream"]: cell for cell in read_cells(tmp_path / "cells")[0]}
    assert {name: cell["status"] for name, cell in cells.items()} == {"fixed_init": "timeout", "mel": "ok"}
    assert "it was not done after 15 s and was ended" in cells["fixed_init"]["reason"]


def test_a_cell_is_the_same_wherever_it_is_made(synthetic_tiny, tmp_path, capsys):
    words = ["--preset", "smoke", "--upstream", "mel", "--downstream", "speaker", "--out", str(tmp_path)]
    assert benchmark([*words, "--executor", "local"]) == 0
    assert "1 cells, 1 made now, 0 failed" in capsys.readouterr().out
    assert benchmark([*words, "--executor", "inline"]) == 0
    assert "1 cells, 0 made now, 0 failed" in capsys.readouterr().out


def test_the_end_of_an_executor_is_the_end_of_its_jobs(synthetic_tiny, tmp_path):
    executor = Local(tmp_path)
    executor.start([preparation(tmp_path)])
    (running,) = executor._running.values()
    executor.stop()
    assert not running.process.is_alive()
    assert executor.free() == 1


GOOD = json.loads(preparation("/nowhere").spec.text)
BAD = [
    ("", "no readable spec"),
    ("[" * 100_000, "no readable spec"),
    ("[]", "no spec of a cell with schema 1"),
    (json.dumps({**GOOD, "schema": 2}), "no spec of a cell with schema 1"),
    (json.dumps({**GOOD, "threads": "2"}), "threads of the spec cannot be used"),
    (json.dumps({**GOOD, "threads": 0}), "kind, upstreams or threads of the spec"),
    (json.dumps({**GOOD, "overrides": [1]}), "overrides of the spec"),
    (json.dumps({**GOOD, "kind": "party"}), "kind, upstreams or threads"),
    (json.dumps({**GOOD, "sed": 1}), "sed of the spec"),
    (json.dumps({key: value for key, value in GOOD.items() if key != "seed"}), "seed of the spec"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_spec_that_cannot_be_used_is_one_line(text, message, tmp_path, capsys):
    path = tmp_path / "spec.json"
    path.write_text(text)
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "--jobs 0: give a number from 1"),
        (["--executor", "inline", "--jobs", "2"], "inline does one cell after the other"),
        (["--executor", "inline", "--timeout", "2h"], "inline does one cell after the other"),
        (["--timeout", "soon"], "'soon' is no span of time"),
        (["--executor", "slurm", "slurm.memory=3"], "no option 'memory'"),
        (["--executor", "slurm", "--jobs", "8"], "--jobs 8 is for --executor local: give slurm.array_parallelism=N"),
        (["--executor", "slurm", "--budget", "2h"], "--budget goes with --executor local"),
        (["slurm.mem_gb=3"], "slurm.mem_gb=3 is for --executor slurm"),
    ],
)
def test_wrong_words_about_jobs_are_one_line_before_any_work(words, message, synthetic_tiny, tmp_path, capsys):
    assert benchmark(["--preset", "smoke", "--upstream", "mel", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_slurm_gets_what_the_preset_needs_and_the_words_say():
    assert load_settings("paper", "cuda").gpus_per_node == 1
    assert load_settings("paper", "cpu").gpus_per_node == 0
    assert load_settings("paper", "cpu", ["slurm.gpus_per_node=2"]).gpus_per_node == 2
    found = load_settings("demo", "cpu", ["slurm.partition=gpu", "slurm.mem_gb=32", "slurm.setup=['module load x']"])
    assert (found.partition, found.mem_gb, found.setup) == ("gpu", 32, ["module load x"])
    assert found.cpus_per_task == load_settings("demo", "cpu").cpus_per_task
    with pytest.raises(ValueError, match="mem_gb must be int"):
        load_settings("demo", "cpu", ["slurm.mem_gb=much"])
    with pytest.raises(ValueError, match="at least 1"):
        load_settings("demo", "cpu", ["slurm.cpus_per_task=0"])
