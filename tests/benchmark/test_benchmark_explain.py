"""Lineage of a cell as text, and a command that leads to the same cell again."""

import re
import shlex

import numpy as np
import pytest
import soundfile
from benchmark_fixtures import failed, make_cell, outcomes, save
from s3prl_attention.benchmark import explain, remake
from s3prl_attention.benchmark.cell import Cell, write_skipped
from s3prl_attention.benchmark.cli import _parse, request_of
from s3prl_attention.benchmark.find_cell import find_cell, folder_of
from s3prl_attention.benchmark.plan import make_plan
from s3prl_attention.benchmark.result_files import read_cell


def lines_of(text: str) -> dict[str, str]:
    return {line[: explain.WIDTH].strip(): line[explain.WIDTH :] for line in text.splitlines()[1:]}


def test_every_part_of_the_lineage_is_told(tmp_path):
    path = save(tmp_path, make_cell(difference={"attention.init": "raw"}, data__pretraining=None))
    told = lines_of(explain.explain(read_cell(path), path))
    assert "fingerprint f00d" in told["data"]
    assert "formant synthesiser" in told["data"]
    assert told["split"].startswith("The same 40 speakers")
    assert "800 train, 200 dev, 200 test" in told["split"]
    assert told["seeds"] == "pre-training 0, probe 0"
    assert told["changed"] == 'attention.init="raw"'
    assert told["tried"] == "learning rates 0.001 (dev 50.0 %), 0.01 (dev 60.0 %); 30 epochs"
    assert told["chosen"] == "0.01 in epoch 7, on dev, fold by fold"
    assert told["scores"].startswith("test 55.00 % (95 %: ")
    assert "masked L1 0.4570 held out" in told["pre-training"]
    assert told["commit"] == "0123456789abcdef without local changes"
    assert "AMD EPYC" in told["machine"]
    assert "2 threads" in told["machine"]
    assert "torch 2.14.1" in told["software"]
    assert told["timing"].startswith("train_step 350.00 ms; 0.750 x self_attention") or "0.750 x" in told["timing"]
    assert told["log"] == f"{tmp_path / 'log.jsonl'}; is not there"
    assert told["again"].startswith("python run_benchmark.py --preset demo --upstream fixed_init --downstream speaker")


def test_a_failed_cell_tells_its_reason(tmp_path):
    path = save(tmp_path, failed("RuntimeError: boom"))
    assert lines_of(explain.explain(read_cell(path), path))["status"] == "failed; RuntimeError: boom"


def test_an_older_cell_is_explained_too(tmp_path):
    probe = {"probe__tried": None, "probe__chosen": None, "probe__chosen_on": None}
    path = save(tmp_path, make_cell(**probe))
    assert "chosen" not in lines_of(explain.explain(read_cell(path), path))


def test_the_interval_of_an_error_rate_is_of_its_errors(tmp_path):
    lines = [{**line, "insertions": int(line["utterance"] == "u7")} for line in outcomes(0.8)]
    changes = {"task__higher_is_better": False, "scores__test": 0.205}
    path = save(tmp_path, make_cell(**changes), lines=lines)
    told = lines_of(explain.explain(read_cell(path), path))["scores"]
    low, high = (float(number) for number in re.findall(r"[(]95 %: ([\d.]+) to ([\d.]+)[)]", told)[0])
    assert low < 20.5 < high < 50
    save(tmp_path, make_cell(**changes | {"scores__test": 0.3}), lines=lines)
    assert "no interval: " in lines_of(explain.explain(read_cell(path), path))["scores"]


def test_what_has_changed_since_is_told(tmp_path):
    path = save(tmp_path, make_cell())  # of an upstream with another source, and with a part of a configuration
    text = explain.explain(read_cell(path), path)
    assert "this version would not make the same: its configuration differs in" in text
    assert "the code of the upstream has changed" in text


def two_speakers(folder):
    """A small corpus in LibriSpeech layout."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    for speaker in ("1", "2"):
        chapter = folder / "train-x" / speaker / "10"
        chapter.mkdir(parents=True)
        for number in range(3):
            soundfile.write(chapter / f"{speaker}-10-{number:04d}.flac", noise, 16_000)
    return folder


REQUESTS = [
    ["--upstream", "fixed_init", "attention.init=raw", "pretrain.learning_rate=2e-3", "--seed", "4", "2"],
    ["--upstream", "mean_map", "--seed", "0", "3", "probe.learning_rates=[0.1, 0.2]", "probe.normalize=true"],
    ["--upstream", "self_attention", "--corpus", "librispeech", "--root", "CORPUS", "--downstream", "speaker"],
]


@pytest.mark.parametrize("words", REQUESTS, ids=" ".join)
def test_the_printed_command_leads_to_the_same_cell(words, synthetic_tiny, tmp_path):
    root = str(two_speakers(tmp_path / "two speakers"))
    words = ["--preset", "smoke", *[root if word == "CORPUS" else word for word in words], "--out", str(tmp_path / "o")]
    plan = make_plan(request_of(*_parse(words)))
    for cell in {id(cell): cell for cell in (plan.cells[0], plan.cells[-1])}.values():
        write_skipped(cell, "made for a test", plan.speech, plan.request.overrides, 1, "cpu", plan.request.out)
        path = plan.path(cell)
        found, _ = find_cell(str(path), tmp_path)
        assert remake.obstacles(found) == []
        first, script, *again = shlex.split(remake.command(found, folder_of(path)))
        assert (first, script) == ("python", "run_benchmark.py")
        other = make_plan(request_of(*_parse(again)))
        assert path in [other.path(one) for one in other.cells]
        assert {one.task for one in other.cells} == {cell.task}


def test_a_change_of_code_or_preset_is_an_obstacle(synthetic_tiny, tmp_path, monkeypatch):
    plan = make_plan(request_of(*_parse(["--preset", "smoke", "--upstream", "fixed_init", "--out", str(tmp_path)])))
    cell: Cell = plan.cells[0]
    write_skipped(cell, "made for a test", plan.speech, (), 1, "cpu", tmp_path)
    found = read_cell(plan.path(cell))
    found["config"]["pretrain"]["steps"] = 77
    assert remake.obstacles(found) == ["its configuration differs in pretrain.steps"]
    found["difference"] = {"pretrain.stepz": 3}
    assert "it refuses the configuration" in remake.obstacles(found)[0]


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"cell__upstream": "fixed_inti", "upstream__name": "fixed_inti"}, "unknown upstream 'fixed_inti'"),
        ({"cell__downstream": "speakers_gone", "task__source_hash": "cccc"}, "unknown downstream 'speakers_gone'"),
    ],
)
def test_a_cell_of_what_is_no_longer_installed_can_be_explained(changes, obstacle, tmp_path):
    path = save(tmp_path, make_cell(**changes))
    found = read_cell(path)
    assert any(obstacle in told for told in remake.obstacles(found))
    assert obstacle in explain.explain(found, path)


def test_cells_are_found_by_a_part_of_their_name(tmp_path):
    done = save(tmp_path, make_cell())
    save(tmp_path, make_cell(cell__seed=1))
    save(tmp_path, failed(), "d2")  # under other settings: the one that is finished counts
    assert find_cell("seed0.0", tmp_path)[1] == done
    assert find_cell(str(done), tmp_path / "elsewhere")[1] == done
    with pytest.raises(ValueError, match="is in the names of 2 cells that differ in their seeds, give one of") as told:
        find_cell("fixed_init", tmp_path)
    one, other = str(told.value).rpartition("these: ")[2].split(", ")
    assert find_cell(one, tmp_path)[1] == done
    assert other.endswith("fixed_init--speaker--seed1.0")
    with pytest.raises(ValueError, match=r"no cell of .* has 'xbox' in its name: known: "):
        find_cell("xbox", tmp_path)
    with pytest.raises(ValueError, match="has no finished cell"):
        find_cell("xbox", tmp_path / "cells" / "synthetic-small" / "demo")


def test_a_whole_part_of_a_name_counts_before_the_beginning_of_one(tmp_path):
    done = save(tmp_path, make_cell())
    frame = save(tmp_path, make_cell(cell__downstream="speaker_frame"))
    newer = save(tmp_path, make_cell(cell__downstream="phone"))
    newer.write_text('{"schema": 99}')
    assert find_cell("fixed_init--speaker", tmp_path)[1] == done
    assert find_cell("speaker", tmp_path)[1] == done
    assert find_cell("speaker_f", tmp_path)[1] == frame
    with pytest.raises(
        ValueError, match="in the names of 2 cells, give one of these: synthetic-small/demo/fixed_init--"
    ):
        find_cell("fixed_init", tmp_path)


def test_the_command_line_explains_or_says_why_not(tmp_path, capsys):
    save(tmp_path, make_cell())
    explain.main(["speaker", "--out", str(tmp_path)])
    assert "fingerprint f00d" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: no cell of"):
        explain.main(["nothing", "--out", str(tmp_path)])
