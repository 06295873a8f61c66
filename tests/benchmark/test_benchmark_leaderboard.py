"""The leaderboard: numbers against hand-made cells, tables that must not mix, text that must not break the page."""

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_fixtures import failed, make_cell, mel, outcomes, save
from s3prl_attention.benchmark import leaderboard
from s3prl_attention.benchmark.leaderboard import Row
from s3prl_attention.benchmark.results import read_cells
from s3prl_attention.benchmark.statistics import clustered_interval

NAMES = {"self_attention": (1.0, 0.5), "fixed_init": (0.75, 0.55), "synthesizer_random": (0.8, 0.45)}


def fill(out: Path, **changes: Any) -> None:
    """Three upstreams, the reference and a failed one, on one task."""
    for name, (speed, score) in NAMES.items():
        save(out, make_cell(speed=speed, cell__upstream=name, scores__test=score, **changes))
    save(out, mel(**changes))
    save(out, failed(cell__upstream="xbox", **changes))


def read(out: Path) -> list[Row]:
    cells, problems = read_cells(out / "cells")
    assert not problems
    return leaderboard.rows(cells)


def markdown_tables(page: str) -> list[list[list[str]]]:
    """Tables as a markdown reader sees them: cells split at pipes that are not escaped."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
    lines = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in line] for line in block] for block in lines]


def test_rows_are_sorted_by_score_with_what_failed_at_the_end(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    assert [row.upstream for row in rows] == ["mel", "fixed_init", "self_attention", "synthesizer_random", "xbox"]
    assert {row.table for row in rows} == {0}
    assert (rows[-1].status, rows[-1].reason, rows[-1].score) == ("failed", "RuntimeError: boom", None)


def test_lower_is_better_where_the_task_says_so(tmp_path: Path):
    fill(tmp_path, task__higher_is_better=False)
    assert [row.upstream for row in read(tmp_path)][:2] == ["synthesizer_random", "self_attention"]


def test_the_numbers_of_a_row(tmp_path: Path):
    save(tmp_path, make_cell(speed=0.75))
    (row,) = read(tmp_path)
    assert (row.score, row.chance, row.dev, row.items) == (0.55, 0.025, 0.6, 200)
    assert (row.parameters, row.macs_10s) == (2_612_345, 1_200_000_000)
    assert (row.pretrain_loss, row.pretrain_s) == (0.457, 61.2)
    assert row.train_ratio == pytest.approx((0.75, 0.75, 0.75))  # paired by round, whatever the drift
    assert row.inference_ratio == pytest.approx((0.75, 0.75, 0.75))
    assert row.inference_length_s == 10.0  # 15 s was measured too
    assert row.real_time_factor == pytest.approx(1.2 * 0.02 / 10 + 0.75 * 1.2 * 0.1 / 10)  # features and encoder
    assert (row.train_bytes, row.inference_bytes) == (512_000_000, 128_000_000)
    lines = outcomes(0.55)
    columns = ([line[key] for line in lines] for key in ("correct", "total", "speaker"))
    assert row.interval == clustered_interval(*columns)


def test_without_10_s_the_longest_below_is_taken(tmp_path: Path):
    cell = make_cell()
    del cell["time"]["phases"]["inference_10s"]
    save(tmp_path, cell)
    (row,) = read(tmp_path)
    assert row.inference_length_s == 2.0
    assert row.real_time_factor == pytest.approx(1.2 * 0.02 / 10 + 0.75 * 1.2 * 0.02 / 2)


def test_the_reference_has_features_but_no_encoder_to_time(tmp_path: Path):
    save(tmp_path, mel())
    (row,) = read(tmp_path)
    assert row.real_time_factor == pytest.approx(1.2 * 0.02 / 10)
    assert row.inference_ratio is row.train_ratio is row.pretrain_s is None


def test_an_upstream_with_parameters_but_no_inference_has_no_real_time_factor(tmp_path: Path):
    cell = make_cell()
    cell["time"]["phases"] = {"features": cell["time"]["phases"]["features"]}
    save(tmp_path, cell)
    assert read(tmp_path)[0].real_time_factor is None


def test_seeds_are_averaged_and_their_utterances_pooled(tmp_path: Path):
    scores = {0: 0.5, 1: 0.6, 2: 0.55}
    for seed, score in scores.items():
        save(tmp_path, make_cell(cell__seed=seed, scores__test=score, pretrain__seconds=10.0 * seed))
    save(tmp_path, failed("out of memory", cell__seed=3))
    row, broken = read(tmp_path)
    assert row.seeds == (0, 1, 2)
    assert (row.score, row.score_min, row.score_max) == pytest.approx((0.55, 0.5, 0.6))
    assert row.pretrain_s == 10.0
    lines = [line for score in scores.values() for line in outcomes(score)]
    columns = ([line[key] for line in lines] for key in ("correct", "total", "speaker"))
    assert row.interval == clustered_interval(*columns)
    assert row.num_samples == 25  # the cells share one measurement
    assert (broken.seeds, broken.status, broken.reason) == ((3,), "failed", "out of memory")
    assert "3 (50.0-60.0)" in leaderboard.markdown(read(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("environment__threads", 1, "environment.threads (here 1)"),
        ("environment__cpu", "Other CPU", "environment.cpu (here Other CPU)"),
        ("config__pretrain", {"steps": 9, "learning_rate": 0.001}, "config.pretrain.steps (here 9)"),
        ("data__fingerprint", "beef", "data.fingerprint (here beef)"),
        ("time__setting", {"device": "cuda"}, "device (here cuda)"),
        ("data__splits", {"train": 1, "dev": 200, "test": 200}, "data.splits.train (here 1)"),
    ],
)
def test_other_settings_are_another_table_and_the_page_says_which(tmp_path: Path, key: str, value: object, told: str):
    fill(tmp_path)
    save(tmp_path, make_cell(scores__test=0.9, **{key: value}), digest="d2")
    rows = read(tmp_path)
    assert [row.score for row in rows if row.table == 1 and row.score and row.upstream != "mel"] == [0.9]
    assert rows[0].upstream == "mel"  # the 0.9 is not ranked above it
    for text in (leaderboard.markdown(rows), leaderboard.terminal(rows, 400)):
        assert told in text.replace("\\", "")
        assert "table 2 of 2" in text


def test_the_reference_and_failures_stand_in_every_table_they_agree_with(tmp_path: Path):
    fill(tmp_path)
    steps = {"steps": 9, "learning_rate": 0.001}
    save(tmp_path, make_cell(config__pretrain=steps), digest="d2")  # mel and xbox have no pre-training to differ in
    save(tmp_path, make_cell(environment__threads=1), digest="d3")  # but they did run with two threads
    tables = [sorted(row.upstream for row in read(tmp_path) if row.table == table) for table in range(3)]
    assert tables == [
        ["fixed_init", "mel", "self_attention", "synthesizer_random", "xbox"],
        ["fixed_init", "mel", "xbox"],
        ["fixed_init"],
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config__attention", {"init": "raw"}),
        ("config__data", {"corpus": "synthetic", "root": "/elsewhere", "seed": 0}),
        ("environment__git_commit", "fedcba9876543210"),
        ("upstream__parameters", 5),
    ],
)
def test_what_belongs_to_the_upstream_does_not_split_the_table(tmp_path: Path, key: str, value: object):
    fill(tmp_path)
    save(tmp_path, make_cell(cell__upstream="other", **{key: value}))
    assert {row.table for row in read(tmp_path)} == {0}


def test_namesakes_are_not_averaged_but_told_apart(tmp_path: Path):
    save(tmp_path, make_cell(scores__test=0.6))
    save(tmp_path, make_cell(config__attention={"init": "raw"}), digest="d2")
    save(tmp_path, make_cell(upstream__source_hash="bbbb", scores__test=0.5), digest="d3")
    assert [row.label for row in read(tmp_path)] == [
        "fixed_init (init log, source aaaa)",
        "fixed_init (init raw, source aaaa)",
        "fixed_init (init log, source bbbb)",
    ]


def test_tasks_corpora_and_presets_have_tables_of_their_own(tmp_path: Path):
    fill(tmp_path)
    for key, value in (("downstream", "phone_linear"), ("preset", "study"), ("corpus", "librispeech")):
        fill(tmp_path, **{f"cell__{key}": value})
    page = leaderboard.markdown(read(tmp_path))
    assert len(markdown_tables(page)) == 4
    assert "Not ranked together" not in page


def test_disturbed_samples_are_counted_where_the_ratios_stand(tmp_path: Path):
    fill(tmp_path)
    cell = make_cell(speed=0.7, cell__upstream="busy")
    cell["time"]["phases"]["train_step"]["disturbed"] = [True, False, True, False, False]
    save(tmp_path, cell)
    rows = read(tmp_path)
    assert [(row.num_disturbed, row.num_samples) for row in rows if row.upstream == "busy"] == [(2, 25)]
    for text in (leaderboard.markdown(rows), leaderboard.terminal(rows, 400)):
        told = "2 of 85 timing samples were taken while other programs used the machine (busy 2 of 25)."
        assert told in text  # 4 upstreams with 20 samples each, and 5 samples of the features that all share


def test_chance_and_reference_are_always_told(tmp_path: Path):
    fill(tmp_path)
    with_mel = read(tmp_path)
    without = [row for row in with_mel if row.upstream != "mel"]
    for make in (leaderboard.markdown, leaderboard.terminal):
        assert "Chance: 2.5 %. Log-Mel features without an encoder (mel): 58.0 %." in make(with_mel)
        assert "Chance: 2.5 %. Log-Mel features without an encoder (mel): no row" in make(without)


def test_a_missing_csv_costs_the_interval_and_is_told(tmp_path: Path):
    path = save(tmp_path, make_cell())
    path.with_suffix(".csv").unlink()
    written = leaderboard.write(tmp_path)
    (row,) = written.rows
    assert (row.score, row.interval) == (0.55, None)
    assert "55.0 (-)" in written.markdown.read_text()
    assert f"no interval: cells/{path.parent.relative_to(tmp_path / 'cells')}" in written.markdown.read_text()


def test_one_speaker_costs_the_interval_and_is_told(tmp_path: Path):
    save(tmp_path, make_cell(), lines=outcomes(0.55, num_speakers=1, per_speaker=200))
    assert "fewer than two speakers" in leaderboard.markdown(read(tmp_path))


def test_everything_is_rebuilt_from_the_cells_alone(tmp_path: Path):
    fill(tmp_path / "one")
    first = leaderboard.write(tmp_path / "one", "run it")
    shutil.copytree(tmp_path / "one" / "cells", tmp_path / "two" / "cells")
    second = leaderboard.write(tmp_path / "two", "run it")
    assert first.png is not None
    assert second.png is not None
    for one, two in ((first.markdown, second.markdown), (first.csv, second.csv), (first.png, second.png)):
        assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "cells",
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.png",
    ]


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
        "Python 3.11.9; torch 2.14.1, numpy 2.4.6; commit 0123456789ab.",
        "smaller is faster",
        "- cells/broken.json is not a readable result file",
        "![Accuracy against time](leaderboard.png)",
        "failed: RuntimeError: boom",
    ):
        assert text in page
    assert str(tmp_path) not in page
    assert all(f"**{column.title}**" in page for column in leaderboard.COLUMNS)


def test_real_data_is_not_called_synthetic(tmp_path: Path):
    fill(tmp_path, data__synthetic=False, data__note="Read books.")
    page = leaderboard.markdown(read(tmp_path))
    assert "> synthetic-small: Read books." in page
    assert "synthetic data" not in page
    assert "synthetic data" not in leaderboard.terminal(read(tmp_path))


def test_local_changes_are_told(tmp_path: Path):
    fill(tmp_path, environment__git_dirty=True)
    assert "commit 0123456789ab with local changes" in leaderboard.markdown(read(tmp_path))


HOSTILE = "a|b\n| c | `d` <img src=x onerror=alert(1)> **e** [f](http://g) $h$ # i \x1b[31m"


def test_text_of_users_cannot_break_the_page(tmp_path: Path):
    save(tmp_path, make_cell(cell__upstream=HOSTILE, data__note=HOSTILE, task__split=HOSTILE, cell__corpus=HOSTILE))
    save(tmp_path, failed(HOSTILE, cell__upstream="bad", cell__corpus=HOSTILE))
    save(tmp_path, mel(data__note=HOSTILE, task__split=HOSTILE, cell__corpus=HOSTILE))
    written = leaderboard.write(tmp_path, "run\n```\n# not a heading <b>")
    page = written.markdown.read_text()
    (table,) = markdown_tables(page)
    assert len(table) == 5
    assert {len(line) for line in table} == {len(leaderboard.COLUMNS)}
    prose = re.sub(r"^    .*$", "", page, flags=re.MULTILINE)  # the command stands in a code block
    for mark in ("<img", "`d`", "**e**", "[f](", "$h$"):
        assert mark not in prose.replace("**a", "")
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(headings) == 3
    with written.csv.open(newline="") as file:
        assert len(list(csv.reader(file))) == 4
    text = leaderboard.terminal(written.rows)
    assert len(text.splitlines()) == len(text.split("\n")) - 1
    assert "\n| c |" not in text
    assert "\x1b" not in text + page


def test_names_with_underscores_stay_as_they_are():
    assert leaderboard._escape("fixed_init s3prl:mel_v2") == "fixed_init s3prl:mel_v2"
    assert leaderboard._escape("_not emphasis_") == r"\_not emphasis\_"


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
    assert lines[-1]["reason"] == "RuntimeError: boom"
    assert lines[-1]["score"] == ""


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_table_fits_is_aligned_and_says_what_it_left_out(tmp_path: Path, width: int):
    fill(tmp_path)
    rows = read(tmp_path)
    lines = leaderboard.terminal(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    header, *body = lines[1 : len(rows) + 2]
    shown = [column for column in leaderboard.COLUMNS if column.title in header]
    for column in shown[1:]:
        end = header.index(column.title) + len(column.title)
        for line, row in zip(body, rows, strict=True):
            text = column.text(row) if row.score is not None else column.text(row).split(":")[0]
            assert line[:end].endswith("  " + text) or line[:end].endswith(" " + text)
    left_out = [column.title for column in leaderboard.COLUMNS if column not in shown]
    told = next(
        (line for line in " ".join(" ".join(lines).split()).split("Not in this width, but in leaderboard.md: ")[1:]), ""
    )
    assert all(title in told.split(".")[0] for title in left_out)
    assert bool(left_out) == bool(told) == (width < 150)
    assert "xbox: failed (seed 0): RuntimeError: boom" in lines


def test_terminal_and_page_show_the_same_numbers(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    (table,) = markdown_tables(leaderboard.markdown(rows))
    text = leaderboard.terminal(rows, 400).splitlines()
    for page_line, line in zip(table[2:6], text[2:6], strict=True):
        assert page_line == re.split(r"\s{2,}", line)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.01142, "0.0114"),
        (0.457, "0.457"),
        (61.23, "61.2"),
        (1234.4, "1234"),
        (2e-5, "0.0000200"),
    ],
)
def test_three_digits_without_exponent(value: float | None, text: str):
    assert leaderboard._number(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0"), (999, "999"), (12_345, "12.3k"), (85e6, "85.0M"), (1.2e9, "1.20G")]
)
def test_counts(count: int | None, text: str):
    assert leaderboard._count(count) == text


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
    assert "failed: the corpus is missing" in written.markdown.read_text()
    assert written.png is not None
    assert written.png.read_bytes().startswith(b"\x89PNG")


def test_a_cell_that_was_not_timed_is_ranked_with_the_others(tmp_path: Path):
    fill(tmp_path, time__setting={"device": "cpu"})
    save(tmp_path, make_cell(cell__upstream="other", time=None, environment__threads=0))  # 0: nobody knows
    assert [row.upstream for row in read(tmp_path) if row.table == 0].count("other") == 1
    assert {row.table for row in read(tmp_path)} == {0}


def test_cells_that_were_not_timed_say_so(tmp_path: Path):
    save(tmp_path, make_cell(time=None, memory=None))
    assert "Not timed." in leaderboard.markdown(read(tmp_path))


def test_the_panels_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path)
    drawn: list = []
    monkeypatch.setattr("s3prl_attention.benchmark.plot.draw", lambda panels: drawn.extend(panels) or b"")
    leaderboard.picture(read(tmp_path))
    pretraining, inference = drawn
    assert inference.x_label.endswith("ms per 10 s of audio, timed on 10 s")
    for panel in drawn:
        assert {point.label for point in panel.points} == set(NAMES)  # the reference is a line, chance too
    fixed = next(point for point in inference.points if point.label == "fixed_init")
    assert fixed.x == pytest.approx(1.2 * (20 + 75))  # ms for 10 s of audio
    assert fixed.y == pytest.approx(55.0)
    assert np.allclose(fixed.interval, [100 * end for end in read(tmp_path)[1].interval or ()])
    assert pretraining.dashed == ("mel, no encoder (58.0 %)", pytest.approx(58.0))
    assert pretraining.dotted == ("chance (2.5 %)", 2.5)
