"""What README and CONTRIBUTING say is true: snippets and commands run as they stand, links lead somewhere."""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from s3prl_attention import downstream, upstream
from s3prl_attention.benchmark.cli import SLURM, _parse
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.downstream.run_downstream import completed
from s3prl_attention.recipes.config import presets
from s3prl_attention.upstream.s3prl_hub import register

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("upstream", "downstream", "benchmark", "recipes")


def fences(page: str, language: str, mark: str | None = None) -> list[str]:
    """The fenced blocks of a page, all of a language or those that follow ``<!-- ci: mark -->``."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    opening = rf"<!-- ci: {mark} -->\n\s*" if mark else ""
    blocks = re.findall(rf"{opening}```{language}\n(.*?)```", text, flags=re.DOTALL)
    return [textwrap.dedent(block) for block in blocks]


def test_python_snippets_print_what_they_say():
    snippets = fences("README.md", "python")
    assert snippets
    for snippet in snippets:
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == re.findall(r"print\(.*\)\s+# (.*)", snippet)


def test_commands_of_the_readme_can_be_parsed():
    lines = [line.partition("#")[0].strip() for block in fences("README.md", "bash") for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in line.split("&&")]
    commands = [
        shlex.split(line.removeprefix("python run_benchmark.py")) for line in lines if "run_benchmark.py" in line
    ]
    assert len(commands) >= 4
    for words in commands:
        options, overrides = _parse(words)
        assert options.preset in presets()
        for name in options.upstream or upstream.names():
            load_study(name, options.preset, [word for word in overrides if not word.startswith(SLURM)])
        assert set(downstream.expand(options.downstream)) <= set(downstream.names())


def test_other_commands_of_the_readme_are_understood(s3prl_hub):
    del s3prl_hub
    lines = [line.partition("#")[0].split() for block in fences("README.md", "bash") for line in block.splitlines()]
    commands = [(words[2], words[3:]) for words in lines if words[:2] == ["python", "-m"]]
    assert all(importlib.util.find_spec(module) for module, _ in commands)
    (train,) = [words for module, words in commands if module.endswith("run_downstream") and "train" in words]
    flags = completed(train, register())
    assert {"fixed_init", "attention_phone_linear"} <= set(flags)


def test_the_table_for_people_from_s3prl_has_every_flag():
    folder = importlib.util.find_spec("s3prl").submodule_search_locations[0]
    code = ast.parse((Path(folder) / "run_downstream.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(code)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "parser.add_argument"
    ]
    theirs = [[ast.literal_eval(name) for name in call.args] for call in calls]
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## Coming from s3prl")[2]
    told = set(re.findall(r"`(--?\w+)`", section.partition("\n**")[0]))
    assert len(theirs) > 25
    assert [names for names in theirs if not told.intersection(names)] == []


def test_links_inside_the_repository_lead_somewhere():
    pages = [*REPOSITORY.glob("*.md"), *(page for folder in FOLDERS for page in (REPOSITORY / folder).rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))]
    assert len(links) > 40
    assert [(str(page), link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_upstream_and_task_stands_in_the_readme():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    own = [f"upstream/{name}" for name in upstream.names()] + [f"downstream/{name}" for name in downstream.names()]
    assert [folder for folder in own if f"{folder}/README.md" not in text] == []


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources, and an environment in which Python imports this copy."""
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copy(REPOSITORY / "run_benchmark.py", tmp_path)
    package = tmp_path / "path" / "s3prl_attention"
    package.mkdir(parents=True)
    for folder in FOLDERS:
        (package / folder).symlink_to(tmp_path / folder)
    return tmp_path, {**os.environ, "PYTHONPATH": str(package.parent)}


@pytest.mark.parametrize(("guide", "made"), [("add-upstream", "decay_window"), ("add-task", "my_task")])
def test_the_guides_work_to_the_letter(guide, made, checkout, synthetic_tiny):
    folder, environment = checkout
    steps = fences("CONTRIBUTING.md", "bash", mark=guide)
    assert len(steps) >= 2
    for step in steps:
        step = step.replace("python ", f"{sys.executable} ")
        command = ["bash", "-euo", "pipefail", "-c", step]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    assert f"{made}" in (folder / "result" / made / "leaderboard.md").read_text(encoding="utf-8")
