"""No file that is read can run code, nothing is written outside the folders given, no page runs what users wrote."""

import subprocess
import sys
from pathlib import Path

import pytest
from s3prl_attention.benchmark.result_files import cell_path, safe_name
from s3prl_attention.recipes.run_files import Log
from safety_fixtures import findings

REPOSITORY = Path(__file__).parent.parent
OURS = ("upstream", "downstream", "benchmark", "recipes")


def sources() -> list[Path]:
    return [path for folder in OURS for path in sorted((REPOSITORY / folder).rglob("*.py"))] + [
        REPOSITORY / "run_benchmark.py",
        REPOSITORY / "setup.py",
    ]


def test_no_code_of_ours_runs_what_it_reads():
    found = sources()
    assert len(found) > 250
    assert [line for path in found for line in findings(path)] == []


PLANTED = [
    ("import pickle", "imports pickle"),
    ("from cloudpickle import loads", "imports cloudpickle"),
    ("import torch\ntorch.load('x')", "torch.load without weights_only=True"),
    ("import torch\ntorch.load('x', weights_only=flag)", "torch.load without weights_only=True"),
    ("import torch\ntorch.load('x', weights_only=False)", "torch.load with weights_only=False"),
    ("from torch import load", "torch.load: call it by its dotted name"),
    ("import numpy as np\nnp.load('x')", "np.load without allow_pickle=False"),
    ("import yaml\nyaml.load('x', yaml.Loader)", "yaml.load: may build any object"),
    ("import subprocess\nsubprocess.run('x', shell=True)", "subprocess.run with shell=True"),
    ("def f(x):\n    return eval(x)", "eval: runs text as code"),
]


@pytest.mark.parametrize(("code", "message"), PLANTED, ids=[code.splitlines()[-1] for code, _ in PLANTED])
def test_the_search_finds_what_is_planted(code, message, tmp_path):
    path = tmp_path / "planted.py"
    path.write_text(code)
    found = findings(path)
    assert f"{path}:{len(code.splitlines())}: {message}" in "\n".join(found)
    path.write_text("import json, torch\njson.loads('1')\nmodel.eval()\ntorch.load('x', weights_only=True)\n")
    assert findings(path) == []


HOSTILE = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".hidden",
    "a\0b",
    "a/b\\c",
    "C:\\x",
    "é" * 300,
    "x" * 1000,
    "\n",
    " ",
)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_whatever_a_row_is_called_its_files_stay_below_the_folder(name, tmp_path):
    key = {"upstream": name, "downstream": name, "seed": 0, "probe_seed": 0, "preset": name, "corpus": name}
    path = cell_path(tmp_path, key, "d" * 12)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(path.relative_to(tmp_path).parts) == 4
    path.parent.mkdir(parents=True)
    path.write_text("{}")  # the system takes the name
    path.with_suffix(".csv").write_text("")


def test_long_names_that_differ_have_files_that_differ():
    assert safe_name("é" * 300) != safe_name("é" * 301)
    assert len(safe_name("é" * 300)) <= 100
    assert safe_name("fixed_init[init=raw]") == "fixed_init+init=raw"


def test_a_link_in_a_run_folder_leads_no_log_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").symlink_to(elsewhere)
    Log(run / "log.jsonl", 0, []).write(1, loss=0.5)
    assert elsewhere.read_text() == "mine\n"
    assert (run / "log.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'


def test_importing_and_planning_opens_no_connection(tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*given, **named): raise RuntimeError('a connection: %r' % (given,))\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from s3prl_attention.benchmark.cli import main\n"
        f"sys.exit(main(['--preset', 'smoke', '--upstream', 'mel', '--downstream', 'speaker', '--executor', 'inline',"
        f" '--out', {str(tmp_path)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
