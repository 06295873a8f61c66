"""Rows: numbers against hand-made cells, and tables that must not mix."""

from pathlib import Path

import pytest
from benchmark_fixtures import failed, fill, make_cell, mel, outcomes, read, save
from s3prl_attention.benchmark.pages import markdown
from s3prl_attention.benchmark.statistics import clustered_interval


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
    assert "3 (50.0-60.0)" in markdown(read(tmp_path))


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


def test_a_cell_that_was_not_timed_is_ranked_with_the_others(tmp_path: Path):
    fill(tmp_path, time__setting={"device": "cpu"})
    save(tmp_path, make_cell(cell__upstream="other", time=None, environment__threads=0))  # 0: nobody knows
    assert [row.upstream for row in read(tmp_path) if row.table == 0].count("other") == 1
    assert {row.table for row in read(tmp_path)} == {0}


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
