"""The leaderboard's files: made from the cells alone, whatever is missing."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_fixtures import NAMES, failed, fill, make_cell, read, save
from s3prl_attention.benchmark import leaderboard
from s3prl_attention.benchmark.columns import COLUMNS


def test_the_page_says_what_was_measured_on_what(tmp_path: Path):
    fill(tmp_path)
    (tmp_path / "cells" / "broken.json").write_text("{")
    written = leaderboard.write(tmp_path, "python run_benchmark.py --upstream fixed_init\n--downstream speaker")
    page = written.markdown.read_text()
    for text in (
        "    python run_benchmark.py --upstream fixed_init\n    --downstream speaker\n",
        "> **synthetic-small is synthetic data.** Speech of a formant synthesiser, sampled speakers.",
        "The same 40 speakers in train and test, from different chapters.",
        "800 train, 200 dev, 200 test; 40 test speakers; folds 1; 200 scored items",
        "AMD EPYC, 2 cores, 8.0 GB, Linux; threads: 2.",
        "Python 3.11.9; torch 2.14.1, torchaudio 2.11.0, numpy 2.4.6; commit 0123456789ab.",
        "smaller is faster",
        "- cells/broken.json is not a readable result file",
        "![Scores against time](leaderboard.png)",
        "xbox: failed (seed 0): RuntimeError: boom",
        "## speaker on synthetic-small (synthetic data), preset demo: accuracy, higher is better\n",
    ):
        assert text in page
    assert str(tmp_path) not in page
    assert all(f"**{column.title}**" in page for column in COLUMNS)


def test_everything_is_rebuilt_from_the_cells_alone(tmp_path: Path):
    fill(tmp_path / "one")
    first = leaderboard.write(tmp_path / "one", "run it")
    shutil.copytree(tmp_path / "one" / "cells", tmp_path / "two" / "cells")
    second = leaderboard.write(tmp_path / "two", "run it")
    assert first.png is not None
    assert second.png is not None
    assert len(first.files) == 4
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes()
    by_length = [(tmp_path / name / "leaderboard_by_length.csv").read_bytes() for name in ("one", "two")]
    assert by_length[0] == by_length[1]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "cells",
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.md",
        "leaderboard.png",
        "leaderboard_by_length.csv",
    ]


def test_the_csv_holds_the_unrounded_numbers(tmp_path: Path):
    fill(tmp_path)
    written = leaderboard.write(tmp_path)
    with written.csv.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["upstream"] for line in lines] == [row.upstream for row in written.rows]
    row, line = next((r, s) for r, s in zip(written.rows, lines, strict=True) if r.upstream == "synthesizer_random")
    assert row.interval is not None
    assert row.train_ratio is not None
    assert (float(line["interval_low"]), float(line["interval_high"])) == row.interval
    spread = tuple(float(line[key]) for key in ("train_ratio", "train_ratio_q25", "train_ratio_q75"))
    assert spread == row.train_ratio
    assert float(line["real_time_factor"]) == row.real_time_factor
    difference = tuple(float(line[key]) for key in ("difference", "difference_low", "difference_high"))
    assert difference == row.difference
    assert (int(line["rank_low"]), int(line["rank_high"])) == row.ranks
    assert lines[-1]["reason"] == "RuntimeError: boom"
    assert lines[-1]["score"] == ""


def test_a_missing_csv_costs_the_interval_and_is_told(tmp_path: Path):
    path = save(tmp_path, make_cell())
    path.with_suffix(".csv").unlink()
    written = leaderboard.write(tmp_path)
    (row,) = written.rows
    assert (row.score, row.interval) == (0.55, None)
    assert "55.0 (-)" in written.markdown.read_text()
    assert (
        f"no interval, difference and rank: cells/{path.parent.relative_to(tmp_path / 'cells')}"
        in written.markdown.read_text()
    )


def test_an_empty_folder_says_so_and_removes_a_stale_picture(tmp_path: Path):
    (tmp_path / "leaderboard.png").write_bytes(b"old")
    written = leaderboard.write(tmp_path)
    assert (written.rows, written.png, written.problems) == ([], None, [])
    assert not (tmp_path / "leaderboard.png").exists()
    assert "No finished cell yet." in written.markdown.read_text()
    assert leaderboard.terminal([]) == "No finished cell yet.\n"


def test_only_failures_still_make_a_page(tmp_path: Path):
    save(tmp_path, failed("the corpus is missing"))
    written = leaderboard.write(tmp_path)
    assert "fixed_init: failed (seed 0): the corpus is missing" in written.markdown.read_text()
    assert written.png is not None
    assert written.png.read_bytes().startswith(b"\x89PNG")


def test_the_panels_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path)
    drawn: list = []
    monkeypatch.setattr("s3prl_attention.benchmark.leaderboard.draw", lambda panels: drawn.extend(panels) or b"")
    leaderboard.picture(read(tmp_path))
    pretraining, inference = drawn
    assert inference.x_label.endswith("ms per 10 s of audio, timed on 10 s")
    for panel in drawn:
        assert {point.label for point in panel.points} == set(NAMES)  # the reference is a line, chance too
    fixed = next(point for point in inference.points if point.label == "fixed_init")
    assert fixed.x == pytest.approx(1.2 * (20 + 75))  # ms for 10 s of audio
    assert fixed.y == pytest.approx(55.0)
    paced = next(point for point in pretraining.points if point.label == "fixed_init")
    assert paced.x == pytest.approx(1000 * 0.5 * 1.2 * 0.75)  # steps, and the median step of the lane; not its 61.2 s
    assert np.allclose(fixed.interval, [100 * end for end in read(tmp_path)[1].interval or ()])
    assert pretraining.dashed == ("mel, no encoder (58.0 %)", pytest.approx(58.0))
    assert pretraining.dotted == ("chance (2.5 %)", 2.5)


def test_a_page_says_what_is_not_made_yet(tmp_path: Path):
    save(tmp_path, make_cell())
    assert (
        "**Unfinished: 2 cells**"
        in leaderboard.write(tmp_path, "a command", "Unfinished: 2 cells").markdown.read_text()
    )
    assert "Unfinished" not in leaderboard.write(tmp_path, "a command").markdown.read_text()


@pytest.mark.parametrize(("seconds", "told"), [(700.0, False), (900.0, True)])
def test_pretraining_that_others_slowed_is_told(seconds, told, tmp_path: Path):
    save(tmp_path, make_cell(pretrain__seconds=seconds))
    page = leaderboard.write(tmp_path).markdown.read_text()
    assert ("in the timing lane: fixed_init (2.0 times). Other programs or jobs slowed it" in page) == told
