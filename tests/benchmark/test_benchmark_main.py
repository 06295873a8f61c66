"""The list of commands: each leads to a module with a ``main``, and listing them imports none."""

import importlib
import subprocess
import sys

import pytest
from s3prl_attention.benchmark import __main__ as commands


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_a_main(name):
    module = importlib.import_module(f"s3prl_attention.benchmark.{commands.COMMANDS[name][0]}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0


def test_without_arguments_the_commands_are_listed_and_nothing_heavy_is_imported():
    code = "import sys; from s3prl_attention.benchmark.__main__ import main; main([]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, torch_came = done.stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == list(commands.COMMANDS)
    assert torch_came == "False"


def test_arguments_go_to_the_command(monkeypatch):
    given = []
    monkeypatch.setattr("s3prl_attention.benchmark.difference.main", given.extend)
    assert commands.main(["diff", "a", "b", "--out", "x"]) is None
    assert given == ["a", "b", "--out", "x"]


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert commands.main(["explan"]) == 2
    assert "unknown command 'explan': did you mean 'explain'" in capsys.readouterr().err
