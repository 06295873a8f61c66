"""The description of machine and software."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from benchmark_fixtures import BASE
from s3prl_attention.benchmark import environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def run_git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_checkout(folder: Path) -> str:
    folder.mkdir()
    (folder / "upstream").mkdir()
    (folder / "upstream" / "a.py").write_text(f"a = {folder.name!r}\n")
    (folder / "README.md").write_text("a\n")
    run_git(folder, "init", "-q")
    run_git(folder, "add", "--all")
    run_git(folder, "commit", "-q", "-m", "a")
    return run_git(folder, "rev-parse", "HEAD")


def test_it_fills_the_section_of_the_cell():
    found = environment.describe(threads=3)
    assert set(found) == set(BASE["environment"])
    assert found["threads"] == 3
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["packages"]["torch"]
    assert {"torch", "torchaudio", "s3prl", "numpy", "s3prl-attention"} == set(found["packages"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_model_of_a_gpu_is_told_where_one_computes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "gpu" not in environment.describe(1, "cuda"), "this machine only submits jobs"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU of {device}")
    assert environment.describe(1, "cuda")["gpu"] == "GPU of cuda"
    assert "gpu" not in environment.describe(1, "cpu")


@needs_git
def test_commit_and_changes_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit = make_checkout(tmp_path / "ours")
    other = make_checkout(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))  # as inside a hook of another repository
    assert environment._git_state(tmp_path / "ours") == (commit, False)
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "ours" / "result-real").mkdir()
    (tmp_path / "ours" / "result-real" / "cell.json").write_text("{}\n")
    (tmp_path / "ours" / "README.md").write_text("b\n")
    assert environment._git_state(tmp_path / "ours") == (commit, False), "results and notes are no code"
    (tmp_path / "ours" / "upstream" / "new.py").write_text("b = 1\n")
    assert environment._git_state(tmp_path / "ours") == (commit, True)
    assert environment._git_state(tmp_path / "other") == (other, False)


@needs_git
def test_a_package_inside_somebody_elses_checkout_has_no_commit(tmp_path: Path):
    make_checkout(tmp_path / "project")
    installed = tmp_path / "project" / "site-packages"
    installed.mkdir()
    assert environment._git_state(installed) == (None, None)


@needs_git
def test_a_checkout_without_a_commit(tmp_path: Path):
    run_git(tmp_path, "init", "-q")
    assert environment._git_state(tmp_path) == (None, False)


def test_no_git_no_proc_no_metadata_is_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("no /proc")))
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package",))
    monkeypatch.delattr("os.sysconf", raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    environment._own_git_state.cache_clear()
    found = environment.describe(threads=1)
    environment._own_git_state.cache_clear()
    assert found["git_commit"] is None
    assert found["git_dirty"] is None
    assert found["packages"] == {"no-such-package": None}
    assert found["ram_bytes"] is None
    assert found["cpu"]
