"""s3prl's upstreams out of result files: their times, rows and pages, and what tells two of their cells apart."""

import csv

import numpy as np
import pytest
from benchmark_fixtures import NAMES, fill, make_cell, read, save
from s3prl_attention.benchmark.difference import difference
from s3prl_attention.benchmark.leaderboard import write


def foreign(label: str = "s3prl:x_local:last.ckpt", folder: str = "/a", checkpoint: str = "aaaa", **changes) -> dict:
    """A cell of one of s3prl's upstreams, twice as slow as the whole of the baseline."""
    cell = make_cell(cell__upstream=label, upstream__parameters=10, upstream__macs_10s=None, upstream__order=None)
    cell["pretrain"], cell["memory"] = None, {"inference_bytes": 7_000_000, "train_bytes": None}
    cell["config"] |= {"upstream": label.replace("last", f"{folder}/last"), "attention": {}, "checkpoint": checkpoint}
    base = np.linspace(0.1, 0.2, 5)
    phases = {length: {"audio_s": length, "samples_s": (2 * base * length / 10).tolist()} for length in (2.0, 10.0)}
    cell["time"]["phases"] = {
        f"whole_{length:g}s": {
            **phase, "baseline_samples_s": (base * length / 10).tolist(), "disturbed": [False] * 5,
        }
        for length, phase in phases.items()
    }  # fmt: skip
    cell["upstream"]["note"] = "timed as a whole"
    for key, value in changes.items():
        section, _, name = key.partition("__")
        cell[section][name] = value
    return cell


def test_times_of_the_whole_need_no_features(tmp_path):
    fill(tmp_path)
    save(tmp_path, foreign(scores__test=0.6))
    (row,) = [row for row in read(tmp_path) if row.upstream.startswith("s3prl:")]
    assert row.table == 0
    assert row.inference_ratio == pytest.approx((2, 2, 2))
    assert row.inference_length_s == 10
    assert row.real_time_factor == pytest.approx(0.03)  # 2 x 0.15 s for 10 s
    assert row.train_ratio is row.train_bytes is row.macs_10s is row.pretrain_loss is None
    assert row.inference_bytes == 7_000_000
    assert row.difference is not None
    ours = next(row for row in read(tmp_path) if row.upstream == "fixed_init")
    assert ours.real_time_factor == pytest.approx(np.median(np.linspace(1, 1.4, 5)) * (0.002 + 0.0075))


def test_an_upstream_without_parameters_is_not_taken_for_one_without_time(tmp_path):
    save(tmp_path, foreign(upstream__parameters=0))
    save(tmp_path, {**foreign("s3prl:fbank", cell__seed=3, upstream__parameters=0), "time": None})
    rows = {row.upstream: row for row in read(tmp_path)}
    assert rows["s3prl:x_local:last.ckpt"].real_time_factor == pytest.approx(0.03)
    assert rows["s3prl:fbank"].real_time_factor is None


def test_pages_show_them_in_one_table_with_the_rest(tmp_path):
    fill(tmp_path)
    save(tmp_path, foreign(scores__test=0.6))
    written = write(tmp_path)
    page = written.markdown.read_text()
    line = next(line for line in page.splitlines() if line.startswith("| s3prl:"))
    assert "2.00 (2.00-2.00)" in line
    assert "-/7" in line
    assert "timed as a whole" in page
    assert {row.upstream for row in written.rows if row.score} == {*NAMES, "mel", "s3prl:x_local:last.ckpt"}
    with (tmp_path / "leaderboard_by_length.csv").open(newline="") as file:
        found = [line for line in csv.DictReader(file) if line["upstream"].startswith("s3prl:")]
    assert {line["length"]: float(line["real_time_factor"]) for line in found if line["real_time_factor"]} == (
        pytest.approx({"2 s": 0.03, "10 s": 0.03})
    )


def test_checkpoints_of_one_name_are_two_rows_and_one_of_two_places_is_one(tmp_path):
    save(tmp_path, foreign(), "d1")
    save(tmp_path, foreign(folder="/b", checkpoint="bbbb", scores__test=0.5), "d2")
    assert {row.label for row in read(tmp_path)} == {
        "s3prl:x_local:last.ckpt (checkpoint aaaa)",
        "s3prl:x_local:last.ckpt (checkpoint bbbb)",
    }
    other = tmp_path / "other"
    save(other, foreign(), "d1")
    save(other, foreign(folder="/b", cell__probe_seed=1), "d2")
    (row,) = read(other)
    assert row.label == "s3prl:x_local:last.ckpt"
    assert row.probe_seeds == (0, 1)


def test_cells_that_differ_in_the_checkpoint_tell_so():
    told = difference(foreign(), foreign(folder="/b", checkpoint="bbbb"))
    assert 'checkpoint: "aaaa" -> "bbbb"' in told
    assert "/a" not in told
    assert "What decides a score differs: configuration" in told
    assert difference(foreign(), make_cell())
