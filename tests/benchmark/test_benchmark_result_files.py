"""Result files: whole or absent, readable or named."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_fixtures import failed, make_cell, mel, outcomes, save
from s3prl_attention.benchmark import leaderboard, result_files
from s3prl_attention.benchmark.cell_schema import problems

SCHEMA_1 = Path(__file__).parent / "schema_1"  # a result of version 0.1.0, as it was written


def test_cells_survive_writing_and_reading(tmp_path: Path):
    cells = [make_cell(), make_cell(cell__seed=1), mel(), failed(cell__upstream="xbox")]
    paths = [save(tmp_path, cell) for cell in cells]
    found, problems = result_files.read_cells(tmp_path / "cells")
    assert problems == []
    assert {cell["_path"] for cell in found} == set(paths)
    by_path = {cell.pop("_path"): cell for cell in found}
    for path, cell in zip(paths, cells, strict=True):
        if cell["scores"]:
            cell["scores"]["utterances"] = path.with_suffix(".csv").name
        assert by_path[path].pop("checksums").keys() == {"cell", "utterances"}
        assert by_path[path] == cell


def test_a_cell_that_was_read_can_be_written_again(tmp_path: Path):
    path = save(tmp_path, make_cell())
    before = path.read_bytes()
    (cell,), _ = result_files.read_cells(tmp_path)
    result_files.write_cell(path, cell)
    assert path.read_bytes() == before


def test_the_author_is_told_every_mistake_at_once(tmp_path: Path):
    cell = make_cell(status="done")
    del cell["environment"]["cpu"], cell["scores"]["chance"], cell["memory"]
    with pytest.raises(AssertionError) as error:
        result_files.write_cell(tmp_path / "c.json", cell)
    for part in ("status is 'done'", "environment.cpu is missing", "scores.chance is missing", "memory is missing"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("reason", "but why", "reason"),
        ("scores", None, "scores is null"),
        ("schema", 1, "schema"),
        ("environment", None, "environment is null"),
        ("time__phases__train_step__disturbed", [False], "one disturbed flag for each sample"),
        ("time__phases__train_step__baseline_samples_s", [1.0], "one baseline sample for each sample"),
    ],
)
def test_an_inconsistent_cell_is_refused(tmp_path: Path, key: str, value: object, told: str):
    with pytest.raises(AssertionError, match=told):
        result_files.write_cell(tmp_path / "c.json", make_cell(**{key: value}))


def test_a_failure_is_removed_when_its_cell_is_made_by_other_code(tmp_path: Path):
    config = make_cell()["config"]
    broken = save(tmp_path, {**failed(), "config": config}, digest="d1")
    other_seed = save(tmp_path, {**failed(cell__seed=1), "config": config}, digest="d1")
    other_settings = save(tmp_path, failed(), digest="d3")
    damaged = broken.with_stem(f"{broken.stem}9")
    damaged.write_text("{")
    made = save(tmp_path, make_cell(), digest="d2")
    left = set(tmp_path.rglob("*.json"))
    assert left == {made, other_seed, other_settings, damaged}
    save(tmp_path, {**failed(), "config": config}, digest="d4")
    assert made in set(tmp_path.rglob("*.json")), "a finished cell stays"


def test_a_failed_cell_needs_a_reason(tmp_path: Path):
    with pytest.raises(AssertionError, match="reason"):
        result_files.write_cell(tmp_path / "c.json", failed(""))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: float):
    with pytest.raises(AssertionError, match="NaN or infinity"):
        result_files.write_cell(tmp_path / "c.json", make_cell(pretrain__valid_loss=value))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "c.json"
    result_files.write_cell(path, make_cell())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        result_files.write_cell(path, make_cell(cell__seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_is_never_seen_by_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def look(_: int) -> None:
        seen.append(result_files.read_cells(tmp_path))

    monkeypatch.setattr(os, "fsync", look)
    result_files.write_cell(tmp_path / "c.json", make_cell())
    assert seen == [([], [])]


def test_a_reader_of_the_old_file_reads_all_of_it_while_the_new_one_comes(tmp_path: Path):
    path = tmp_path / "c.json"
    result_files.write_cell(path, make_cell())
    with path.open() as old:
        result_files.write_cell(path, make_cell(cell__seed=1))
        assert json.load(old)["cell"] == make_cell()["cell"]
    assert result_files.read_cell(path)["cell"] == make_cell(cell__seed=1)["cell"]


@pytest.mark.parametrize("number", range(20))
def test_a_flipped_bit_in_a_result_is_noticed_and_the_cell_is_made_anew(tmp_path: Path, number: int):
    path = save(tmp_path, make_cell())
    data = bytearray(path.read_bytes())
    data[number * len(data) // 20] ^= 2
    path.write_bytes(data)
    with pytest.raises(result_files.NoCell, match="delete it and run again") as caught:
        result_files.read_cell(path)
    assert str(path) in str(caught.value)


def test_a_digit_that_changed_is_noticed(tmp_path: Path):
    path = save(tmp_path, make_cell(scores__test=0.5))
    text = path.read_text()
    path.write_text(text.replace('"test": 0.5', '"test": 0.7'))
    with pytest.raises(result_files.NoCell, match="does not match its checksum"):
        result_files.read_cell(path)
    path.write_text(text)
    assert result_files.read_cell(path)["scores"]["test"] == 0.5


def test_changed_outcomes_are_noticed_although_their_number_is_right(tmp_path: Path):
    path = save(tmp_path, make_cell())
    (cell,), _ = result_files.read_cells(tmp_path)
    outcomes_file = path.with_suffix(".csv")
    outcomes_file.write_text(outcomes_file.read_text().replace(",1,1,", ",0,1,", 1))
    with pytest.raises(ValueError, match=r"csv does not match its checksum.*delete .*json and run again to make both"):
        result_files.read_utterances(cell)


def test_what_a_killed_process_was_writing_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path):
    path = tmp_path / "c.json"
    (tmp_path / ".c.json.4711-dead.tmp").write_bytes(b"half")
    (tmp_path / ".d.json.4711-dead.tmp").write_bytes(b"of another file")
    with (tmp_path / ".c.json.4712-beef.tmp").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result_files.write_atomically(path, b"whole")
    names = [".c.json.4712-beef.tmp", ".d.json.4711-dead.tmp", "c.json"]
    assert sorted(found.name for found in tmp_path.iterdir()) == names


def test_a_full_disk_names_the_file_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"c\.json: cannot be written \(No space .*: free some room .*run the same"):
        result_files.write_atomically(tmp_path / "c.json", b"whole")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_named_with_their_cure_and_the_rest_is_read(tmp_path: Path):
    good = save(tmp_path, make_cell())
    text = good.read_text()
    bad = {
        "truncated.json": text[: len(text) // 2],
        "empty.json": "",
        "list.json": "[1, 2]",
        "newer.json": text.replace('"schema": 2', '"schema": 7'),
        "lacking.json": json.dumps({**json.loads(text), "task": {}}),
    }
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "latin.json").write_bytes(b"\xff\xfe")
    cells, problems = result_files.read_cells(tmp_path)
    assert [cell["_path"] for cell in cells] == [good]
    assert len(problems) == len(bad) + 1
    for name in [*bad, "latin.json"]:
        (line,) = [line for line in problems if str(tmp_path / name) in line]
        assert "\n" not in line
        assert ("update s3prl-attention" if name == "newer.json" else "delete it and run again") in line


def test_utterances_survive_whatever_their_names(tmp_path: Path):
    lines = outcomes(0.5)
    lines[0] |= {"utterance": 'a,"b"\nc', "speaker": "Zoë, 2"}
    path = save(tmp_path, make_cell(scores__test=0.5), lines=lines)
    (cell,), _ = result_files.read_cells(tmp_path)
    columns = result_files.read_utterances(cell)
    assert columns["utterance"][0] == 'a,"b"\nc'
    assert columns["speaker"][0] == "Zoë, 2"
    np.testing.assert_array_equal(columns["correct"], [line["correct"] for line in lines])
    header = path.with_suffix(".csv").read_text().splitlines()[0]
    assert header == "fold,utterance,speaker,correct,total,seconds,substitutions,insertions,deletions"


@pytest.mark.parametrize("damage", ["cut in a line", "cut between lines", "missing", "not a number"])
def test_damaged_utterances_are_named(tmp_path: Path, damage: str):
    path = save(tmp_path, make_cell()).with_suffix(".csv")
    text = path.read_text()
    if damage == "missing":
        path.unlink()
    elif damage == "not a number":
        path.write_text(text.replace(",0\n", ",x\n", 1))
    else:
        end = text.index("u100")
        path.write_text(text[: end + 3 if damage == "cut in a line" else text.rindex("\n", 0, end) + 1])
    (cell,), _ = result_files.read_cells(tmp_path)
    with pytest.raises(ValueError, match=r"\.csv .*: delete .*\.json and run again"):
        result_files.read_utterances(cell)


@pytest.mark.parametrize("wrong", [{"correct": 2}, {"correct": -1}, {"correct": float("nan")}, {"note": "extra"}])
def test_impossible_outcomes_are_refused(tmp_path: Path, wrong: dict):
    with pytest.raises(AssertionError):
        result_files.write_utterances(tmp_path / "u.csv", [{**outcomes(0.5)[0], **wrong}])
    assert list(tmp_path.iterdir()) == []


def test_paths_stay_in_the_folder_and_apart(tmp_path: Path):
    key = make_cell()["cell"]
    plain = result_files.cell_path(tmp_path, key, "d1")
    assert plain == tmp_path / "cells/synthetic-small/demo/fixed_init--speaker--seed0.0--d1.json"
    paths = {plain}
    for name in ("s3prl:fbank", "s3prl_fbank", "s3prl%3Afbank", "../../evil", "a/b", "a\\b", "..", ".hidden", "naïve"):
        for field in ("upstream", "corpus"):
            path = result_files.cell_path(tmp_path, {**key, field: name}, "d1")
            assert path.resolve().is_relative_to(tmp_path.resolve() / "cells")
            assert len(path.relative_to(tmp_path).parts) == 4
            assert not set(':\\*?"<>|') & set(str(path.relative_to(tmp_path)))
            paths.add(path)
    assert len(paths) == 19


def test_results_of_schema_1_stay_readable_and_get_a_row(tmp_path: Path):
    shutil.copytree(SCHEMA_1, tmp_path / "cells")
    (cell,), problems = result_files.read_cells(tmp_path / "cells")
    assert problems == []
    assert cell["cell"]["seed"] == cell["cell"]["probe_seed"] == 0
    assert cell["probe"]["tried"] is None
    assert "seconds" not in result_files.read_utterances(cell)
    written = leaderboard.write(tmp_path)
    (row,) = written.rows
    assert (row.score, row.items, row.num_speakers) == (cell["scores"]["test"], 31187, 8)
    assert row.interval is not None
    assert row.interval[0] < row.score < row.interval[1]
    assert row.notes == ()
    assert "Probes: learning rates were not swept." in written.markdown.read_text()


def test_an_old_result_is_not_ranked_with_new_ones(tmp_path: Path):
    shutil.copytree(SCHEMA_1, tmp_path / "cells")
    old = result_files.read_cells(tmp_path / "cells")[0][0]
    new = make_cell(**{name: old[name] for name in ("data", "task", "config", "environment")}, cell=old["cell"])
    rate = new["config"]["probe"].pop("learning_rate")
    new["config"]["probe"]["learning_rates"] = [rate, 0.001]
    new["time"]["setting"] = old["time"]["setting"]
    save(tmp_path, new)
    rows = leaderboard.write(tmp_path).rows
    assert [row.table for row in rows] == [0, 1]
    assert "differ in: config.probe.learning_rate" in (tmp_path / "leaderboard.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    "name", ["../other.csv", "/etc/passwd", "a/../../b.csv", "C:\\x.csv", "a\\..\\..\\b", "", "a\0b"]
)
@pytest.mark.parametrize("field", ["scores.utterances", "pretrain.log"])
def test_a_cell_names_no_file_outside_its_folder(field: str, name: str):
    section, key = field.split(".")
    cell = make_cell(**{f"{section}__{key}": name})
    (problem,) = problems(cell)
    assert problem.startswith(f"{field} is ")
    cell[section][key] = "below/it.csv"
    assert problems(cell) == []
