"""An upstream and a task of another package, installed as pip does, appear in the benchmark and in s3prl."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
UPSTREAM, TASK = "box_window", "speaker_two_layers"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a Python that has the package; pip builds it without a network."""
    if int(version("setuptools").partition(".")[0]) < 71:
        pytest.skip("building a wheel offline needs setuptools 70.1 or newer: pip install -U setuptools")
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(HERE / "outside_package", folder / "source")  # setuptools builds beside the sources
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--target", str(folder / "site"), str(folder / "source"), environment=dict(os.environ))
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def run(*command: str, environment: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_conformance_suite_takes_it(installed):
    told = run(sys.executable, "-m", "s3prl_attention.upstream", "check", UPSTREAM, environment=installed)
    assert told.splitlines()[0] == UPSTREAM
    assert all(line.startswith("  ok ") for line in told.splitlines()[1:])


def test_both_appear_in_the_benchmark(installed, synthetic_tiny, tmp_path):
    words = ["--preset", "smoke", "--upstream", UPSTREAM, "--downstream", TASK, "--out", str(tmp_path / "result")]
    told = run(sys.executable, str(HERE.parent / "run_benchmark.py"), *words, environment=installed, folder=tmp_path)
    assert "2 cells, 2 made now, 0 failed" in told
    cells = [json.loads(path.read_text()) for path in (tmp_path / "result").glob("cells/**/*.json")]
    made = {cell["cell"]["upstream"]: cell for cell in cells}
    assert set(made) == {UPSTREAM, "mel"}
    assert {(cell["cell"]["downstream"], cell["status"]) for cell in cells} == {(TASK, "ok")}
    assert made[UPSTREAM]["upstream"]["macs_10s"] > 0
    assert made[UPSTREAM]["time"]["baseline"] == "self_attention"
    page = (tmp_path / "result" / "leaderboard.md").read_text(encoding="utf-8")
    assert f"\n| {UPSTREAM} |" in page
    assert f"\n## {TASK} on synthetic-tiny" in page
    assert "mean over time, 16 hidden, ReLU head" in page


IN_S3PRL = f"""
import importlib, sys
from s3prl_attention.upstream.s3prl_hub import register
known = register()
assert (known.upstreams[{UPSTREAM!r}], known.tasks[{TASK!r}]) == ({UPSTREAM!r}, {TASK!r})
import torch
from s3prl import hub
states = getattr(hub, {UPSTREAM!r})(hidden_dim=32)([torch.randn(1600)])["hidden_states"]
assert [tuple(state.shape) for state in states] == [(1, 10, 32)] * 4
from s3prl_attention.upstream.s3prl_checks import check_in_s3prl
check_in_s3prl({UPSTREAM!r})
from s3prl_attention.downstream.run_downstream import main
main(["-m", "train", "-u", {UPSTREAM!r}, "-d", {TASK!r}, "-p", "exp"])
import outside_attention.speaker_two_layers.expert as ours
assert sys.modules["s3prl.downstream.{TASK}.expert"] is ours
"""


def test_both_appear_in_s3prl(installed, synthetic_tiny, tmp_path):
    run(sys.executable, "-c", IN_S3PRL, environment=installed, folder=tmp_path)
    log = (tmp_path / "exp" / "log.log").read_text(encoding="utf-8").splitlines()
    assert [line.split("|acc:")[0] for line in log] == [
        *(f"{TASK}/train|step:{step}" for step in (1, 2, 3, 4)),
        f"best|{TASK}/dev|step:4",
        f"{TASK}/test|step:4",
    ]
    assert (tmp_path / "exp" / "best-states-dev.ckpt").is_file()
