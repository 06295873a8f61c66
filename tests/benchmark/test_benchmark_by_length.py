"""Scores by utterance length: of the right utterances, in the right bucket, in the metric of the task."""

import csv
from pathlib import Path

import pytest
from benchmark_fixtures import failed, make_cell, mel, outcomes, read, save
from s3prl_attention.benchmark.by_length import length_scores, length_table
from s3prl_attention.benchmark.leaderboard import write


def lines(long_score: float) -> list[dict]:
    """40 utterances of 4 s, all right; 40 of 5 s, a share of them right; none of 10 s or more."""
    found = outcomes(long_score, num_speakers=8, per_speaker=10)
    for number, line in enumerate(found):
        line["seconds"] = 4.0 if number % 2 else 5.0
        line["correct"] = 1 if number % 2 else int(number < 80 * long_score)
    return found


def fill(out: Path) -> None:
    for name, score in (("self_attention", 0.5), ("fixed_init", 0.25)):
        test = 0.5 + score / 2
        cell = make_cell(cell__upstream=name, scores__test=test, scores__items=80)
        save(out, cell, lines=lines(score))
    save(out, failed(cell__upstream="xbox"))


def test_the_numbers_of_the_buckets(tmp_path: Path):
    fill(tmp_path)
    row = read(tmp_path)[0]
    short, long = length_scores(row)
    assert (short.bucket, short.utterances, short.items, short.score) == ("0-5 s", 40, 40, 1.0)
    assert (long.bucket, long.utterances, long.items, long.score) == ("5-10 s", 40, 40, 0.5)
    assert short.interval == (1.0, 1.0)
    assert length_table(read(tmp_path)) == [
        ["upstream", "0-5 s: score %", "5-10 s: score %", "RTF at 2 s", "RTF at 10 s", "RTF at 15 s"],
        ["self_attention", "100.0", "50.0", "0.0114", "0.0114", "0.0144"],
        ["fixed_init", "100.0", "25.0", "0.0114", "0.0114", "0.0144"],
        ["(items)", "40", "40", "", "", ""],
        ["(padding %)", "20.0", "3.3", "", "", ""],
    ]


def test_errors_where_lower_is_better(tmp_path: Path):
    cell = make_cell(task__higher_is_better=False, scores__test=0.25, scores__items=80)
    save(tmp_path, cell, lines=lines(0.5))
    assert [found.score for found in length_scores(read(tmp_path)[0])] == [0.0, 0.5]


def test_seeds_are_averaged(tmp_path: Path):
    for seed, score in enumerate((0.5, 0.25)):
        cell = make_cell(cell__seed=seed, scores__test=0.5 + score / 2, scores__items=80)
        save(tmp_path, cell, lines=lines(score))
    (row,) = read(tmp_path)
    assert [(found.items, found.score) for found in length_scores(row)] == [(40, 1.0), (40, 0.375)]


def test_the_csv_has_a_line_for_each_bucket_and_each_timed_length(tmp_path: Path):
    fill(tmp_path)
    save(tmp_path, mel(scores__items=200))
    write(tmp_path)
    with (tmp_path / "leaderboard_by_length.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    mine = [line for line in found if line["upstream"] == "fixed_init"]
    assert [line["length"] for line in mine] == ["0-5 s", "5-10 s", "2 s", "10 s", "15 s"]
    assert float(mine[1]["score"]) == 0.25
    assert float(mine[1]["padding_waste"]) == pytest.approx(1 / 30)
    assert (mine[0]["real_time_factor"], mine[2]["score"]) == ("", "")
    assert float(mine[3]["real_time_factor"]) == pytest.approx(0.0114)
    assert {line["upstream"] for line in found} == {"fixed_init", "self_attention", "mel"}


def test_nothing_to_tell_is_no_table(tmp_path: Path):
    save(tmp_path, failed())
    assert length_table(read(tmp_path)) == []
