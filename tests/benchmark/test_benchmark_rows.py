"""Rows: numbers against hand-made cells, and tables that must not mix."""

from pathlib import Path

import pytest
from benchmark_fixtures import failed, fill, make_cell, mel, outcomes, read, save
from s3prl_attention.benchmark.pages import markdown, terminal
from s3prl_attention.benchmark.statistics import clustered_interval


def test_rows_are_sorted_by_score_with_what_failed_at_the_end(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    assert [row.upstream for row in rows] == ["mel", "fixed_init", "self_attention", "synthesizer_random", "xbox"]
    assert {row.table for row in rows} == {0}
    assert (rows[-1].status, rows[-1].reason, rows[-1].score) == ("failed", "RuntimeError: boom", None)


def test_lower_is_better_where_the_task_says_so(tmp_path: Path):
    changes = {"task__higher_is_better": False, "task__metric": "phone error rate"}
    for name, right in (("self_attention", 0.5), ("good", 0.8), ("bad", 0.2)):
        lines = [{**line, "insertions": int(line["utterance"] == "u7")} for line in outcomes(right)]
        save(tmp_path, make_cell(cell__upstream=name, scores__test=1 - right + 1 / 200, **changes), lines=lines)
    good, middle, bad = read(tmp_path)
    assert [row.upstream for row in (good, middle, bad)] == ["good", "self_attention", "bad"]
    assert [row.ranks for row in (good, middle, bad)] == [(1, 1), (2, 2), (3, 3)]
    assert good.score == pytest.approx(0.205)
    assert good.difference is not None
    assert good.difference[0] == pytest.approx(-0.3)
    assert good.difference[2] < 0
    assert good.interval is not None
    assert good.interval[0] < 0.205 < good.interval[1]


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


def test_a_timing_that_failed_is_told_of_its_row(tmp_path: Path):
    cell = make_cell()
    cell["time"]["error"] = "train_step: RuntimeError: no memory"
    save(tmp_path, cell)
    assert "- fixed_init: timing failed: train_step: RuntimeError: no memory" in markdown(read(tmp_path))


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


def test_old_and_new_code_of_a_task_are_two_tables(tmp_path: Path):
    for digest, code, score in (("d1", "old", 0.5), ("d2", "new", 0.6)):
        for name in ("self_attention", "fixed_init"):
            task = {**make_cell()["task"], "source_hash": code}
            save(tmp_path, make_cell(cell__upstream=name, scores__test=score, task=task), digest)
    found = read(tmp_path)
    assert sorted((row.table, row.upstream, row.score) for row in found) == [
        *((0, name, 0.6) for name in ("fixed_init", "self_attention")),
        *((1, name, 0.5) for name in ("fixed_init", "self_attention")),
    ]
    assert not any("more than one result file" in note for row in found for note in row.notes)
    assert "which differ in: task.source_hash (here new)" in terminal(found)


def test_a_cell_that_does_not_know_the_code_of_its_task_joins_the_others(tmp_path: Path):
    task = {**make_cell()["task"], "source_hash": "new"}
    save(tmp_path, make_cell(cell__upstream="self_attention", task=task))
    save(tmp_path, make_cell())
    assert {(row.table, row.upstream) for row in read(tmp_path)} == {(0, "self_attention"), (0, "fixed_init")}


def test_seeds_are_averaged_and_their_utterances_counted_once(tmp_path: Path):
    scores = {(0, 0): 0.5, (1, 0): 0.6, (2, 0): 0.55, (0, 1): 0.51, (0, 2): 0.52}
    for (seed, probe), score in scores.items():
        cell = make_cell(cell__seed=seed, cell__probe_seed=probe, scores__test=score, pretrain__seconds=10.0 * seed)
        save(tmp_path, cell, lines=outcomes(score, seed=seed))
    save(tmp_path, failed("out of memory", cell__seed=3))
    row, broken = read(tmp_path)
    assert (row.seeds, row.probe_seeds) == ((0, 1, 2), (0, 1, 2))
    assert (row.score, row.score_min, row.score_max) == pytest.approx((0.55, 0.5, 0.6))
    assert (row.seed_spread, row.probe_spread) == pytest.approx((0.05, 0.01))
    assert (row.pretrain_s, row.items, row.num_speakers) == (10.0, 200, 40)
    averaged = [outcomes(scores[seed, 0], seed=seed) for seed in range(3)]
    right = [sum(line["correct"] for line in lines) for lines in zip(*averaged, strict=True)]
    speakers = [line["speaker"] for line in averaged[0]]
    assert row.interval == clustered_interval(right, [3] * 200, speakers)
    assert row.num_samples == 25  # the cells share one measurement
    assert (broken.seeds, broken.status, broken.reason) == ((3,), "failed", "out of memory")
    assert "3 (5.00/1.00)" in markdown(read(tmp_path))


def test_the_reference_is_averaged_over_seeds_of_the_probe(tmp_path: Path):
    for probe, score in enumerate((0.5, 0.6)):
        save(tmp_path, mel(cell__probe_seed=probe, scores__test=score))
    (row,) = read(tmp_path)
    assert (row.seeds, row.probe_seeds, row.score) == ((), (0, 1), pytest.approx(0.55))
    assert "- (-/7.07)" in markdown([row])


def test_what_the_csv_gives_must_be_what_the_cell_says(tmp_path: Path):
    save(tmp_path, make_cell(scores__test=0.55), lines=outcomes(0.5))
    (row,) = read(tmp_path)
    assert (row.score, row.interval, row.ranks) == (0.55, None, None)
    (note,) = row.notes
    assert "gives a score of 0.5, its cell 0.55: delete" in note


def test_seeds_that_scored_different_utterances_are_not_pooled(tmp_path: Path):
    save(tmp_path, make_cell(cell__seed=0, scores__test=0.55))
    other = [{**line, "utterance": f"other-{line['utterance']}"} for line in outcomes(0.55)]
    save(tmp_path, make_cell(cell__seed=1, scores__test=0.55), lines=other)
    (row,) = read(tmp_path)
    assert (row.score, row.interval) == (0.55, None)
    assert "different utterances" in row.notes[0]


def test_the_order_of_lines_and_the_names_of_speakers_do_not_matter(tmp_path: Path):
    for name, score in (("self_attention", 0.5), ("fixed_init", 0.55), ("uniform", 0.4)):
        cell = make_cell(cell__upstream=name, scores__test=score)
        lines = outcomes(score, seed=len(name))
        save(tmp_path / "one", cell, lines=lines)
        renamed = [{**line, "speaker": f"x{99 - int(line['speaker'][1:])}"} for line in reversed(lines)]
        save(tmp_path / "two", cell, lines=renamed)
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    for row, other in zip(one, two, strict=True):
        assert (row.interval, row.difference, row.ranks) == (other.interval, other.difference, other.ranks)


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


def test_what_ran_on_a_gpu_is_not_ranked_with_the_others_even_untimed(tmp_path: Path):
    fill(tmp_path, time__setting={"device": "cpu"})
    save(tmp_path, make_cell(cell__upstream="other", environment__device="cuda", environment__gpu="a", time=None))
    save(tmp_path, make_cell(cell__upstream="new", environment__device="cpu", time__setting={"device": "cpu"}), "d2")
    tables = {row.upstream: row.table for row in read(tmp_path)}
    assert (tables["new"], tables["self_attention"], tables["other"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("config__probe", {"num_epochs": 30, "learning_rates": [0.01]}, "config.probe.learning_rates"),
        ("environment__cores", 4, "environment.cores"),
        ("environment__python", "3.12.1", "version.python"),
        ("environment__packages", {"torch": "2.15", "torchaudio": "2.11.0", "numpy": "2.4.6"}, "version.torch"),
        ("environment__packages", {"torch": "2.14.1", "torchaudio": "2.12", "numpy": "2.4.6"}, "version.torchaudio"),
        ("environment__packages", {"torch": "2.14.1", "torchaudio": "2.11.0", "numpy": "2.5"}, "version.numpy"),
        ("data__pretraining", {"fingerprint": "other", "seconds": 1.0}, "data.pretraining.fingerprint"),
        ("environment__gpu", "another", "environment.gpu"),
    ],
)
def test_rows_are_ranked_together_only_under_equal_settings(tmp_path: Path, key: str, value: object, told: str):
    usual = {"data__pretraining": {"fingerprint": "one", "seconds": 1.0}, "environment__gpu": "one"}
    fill(tmp_path, **usual)
    changes = {**usual, key: value}
    save(tmp_path, make_cell(cell__upstream="other", **changes))
    rows = read(tmp_path)
    assert [row.table for row in rows if row.upstream == "other"] == [1]
    assert f"differ in: {told} (here" in markdown(rows)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment__python", "3.11.2"),
        ("config__attention", {"init": "raw"}),
        ("config__data", {"corpus": "synthetic", "root": "/elsewhere", "seed": 0}),
        ("config__data", {"corpus": "synthetic", "root": None, "seed": 0, "split_lists": "/lists"}),
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
