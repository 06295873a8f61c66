"""Clocks that were set forward or back: between runs, and while one works."""

import itertools
import os
import shutil
import time

import pytest
from faults_fixtures import Place, check_same, run_here, undisturbed_run
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.benchmark.status import status

DAY_S = 86_400.0


@pytest.fixture
def whole(synthetic_tiny, tmp_path, monkeypatch):
    """An undisturbed run."""
    return undisturbed_run(tmp_path / "whole", synthetic_tiny.root, monkeypatch)


@pytest.mark.parametrize("date_s", [0.0, 4e9], ids=["1970", "2096"])
def test_what_a_run_finds_done_hangs_on_no_date(date_s, whole, monkeypatch, capsys):
    for folder in (whole.out, whole.cache):
        for path in folder.rglob("*"):
            os.utime(path, (date_s, date_s))
    assert ", 0 missing" in status(whole.out)
    assert "-" not in status(whole.out).partition("last change")[2].partition("ago")[0]
    capsys.readouterr()
    run_here(whole, monkeypatch)
    assert "2 cells, 0 made now, 0 failed" in capsys.readouterr().out


def test_a_clock_that_jumps_a_day_at_each_look_changes_no_result_and_no_time(whole, tmp_path, monkeypatch):
    place = Place(tmp_path / "place")
    shutil.copytree(whole.cache / "corpora", place.cache / "corpora")
    shutil.copytree(whole.out / "timing", place.out / "timing")
    jumps, true = itertools.cycle([DAY_S, -DAY_S, 0.0]), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: true() + next(jumps))
        run_here(place, patch, "--executor", "inline")
    check_same(place, whole)
    cells, problems = read_cells(place.out / "cells")
    assert problems == []
    lasted_s = [cell[part]["seconds"] for cell in cells for part in ("pretrain", "probe") if cell[part]]
    assert all(0 < s < DAY_S / 2 for s in lasted_s), lasted_s
