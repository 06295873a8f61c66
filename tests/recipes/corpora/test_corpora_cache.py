"""Folders that are whole or absent, whoever else is making them."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from s3prl_attention.recipes.corpora import atomic_folder, cache, cache_dir, ensure_folder
from s3prl_attention.recipes.corpora.cache import replace_file
from safetensors.torch import save_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def interrupted(target: Path) -> None:
    with atomic_folder(target) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("S3PRL_ATTENTION_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "s3prl-attention"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "s3prl-attention"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "made"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert names(tmp_path / "deep") == ["made"]
    assert (target / "a").read_text() == "1"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert names(tmp_path) == ["made"]
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as folder:
        (folder / "b").write_text("new")
    assert names(tmp_path) == ["made"]
    assert names(target) == ["b"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".made[1].4711-dead.tmp"
    (leftover / "x").mkdir(parents=True)
    other = tmp_path / ".made[1]-other.4711-live.tmp"
    other.mkdir()
    with atomic_folder(tmp_path / "made[1]"):
        assert not leftover.exists()
    assert other.exists()


def test_ensure_folder_builds_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    for _ in range(2):
        assert ensure_folder(tmp_path / "made", calls.append) == tmp_path / "made"
    assert len(calls) == 1


def build_slowly(target: Path, log: Path) -> None:
    def build(folder: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "half").write_text("")
        time.sleep(0.3)
        (folder / "whole").write_text("")

    ensure_folder(target, build)
    assert (target / "whole").exists()


def test_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    target, log = tmp_path / "made", tmp_path / "log"
    processes = [context.Process(target=build_slowly, args=(target, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(log.read_text().split()) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file.*cannot be written.*S3PRL_ATTENTION_CACHE"):
        interrupted(tmp_path / "file" / "made")


KILLED = """
import os, sys
from pathlib import Path
from s3prl_attention.recipes.corpora.cache import replace_file
with replace_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_took_the_place_has_the_rights_of_any_other_file(tmp_path):
    before = os.umask(0o027)
    try:
        with replace_file(tmp_path / "maps.safetensors") as temporary:
            save_file({"maps": torch.ones(1)}, temporary)
    finally:
        os.umask(before)
    assert (tmp_path / "maps.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_file_is_synced_through_a_handle_that_may_write(tmp_path, monkeypatch):
    """Windows refuses others."""
    synced = []
    monkeypatch.setattr(cache.os, "fsync", lambda handle: synced.append(os.write(handle, b"")))
    with replace_file(tmp_path / "key.json") as temporary:
        temporary.write_text("new")
    assert synced == [0]
    assert (tmp_path / "key.json").read_text() == "new"


def test_what_a_killed_process_was_writing_goes_with_the_next_writing(tmp_path):
    path = tmp_path / "key.json"
    path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode != 0
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with replace_file(path) as temporary:
        temporary.write_text("new")
        with replace_file(path) as other:  # another writer's file is not taken for a dead one's
            other.write_text("newer")
        assert temporary.exists()
    assert path.read_text() == "new"
    assert [left.name for left in tmp_path.iterdir()] == ["key.json"]
