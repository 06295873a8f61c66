"""The main job as a user runs it: from nothing to a leaderboard, again, after a failure, after a kill, on bad input."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from s3prl_attention import upstream
from s3prl_attention.benchmark import executors, stopwatch
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.explain import explain
from s3prl_attention.benchmark.result_files import read_cell
from s3prl_attention.benchmark.workloads import train_step
from s3prl_attention.upstream.fixed_init import attention as fixed_init

SMOKE = ("--preset", "smoke", "--upstream", "fixed_init", "--downstream", "speaker")


@pytest.fixture(scope="module")
def finished(synthetic_tiny, tmp_path_factory):
    """A result folder of the main job at smoke size."""
    out = tmp_path_factory.mktemp("result")
    assert main([*SMOKE, "--out", str(out)]) == 0
    return out


def cells(out: Path) -> dict[tuple[str, str], Path]:
    return {
        (cell["upstream"], cell["downstream"]): path
        for path in sorted(out.glob("cells/**/*.json"))
        for cell in [json.loads(path.read_text())["cell"]]
    }


def plain(out: Path) -> dict:
    """The cell of the main job with seed 0 and no override."""
    made = [read_cell(path) for path in out.glob("cells/**/fixed_init--*seed0*.json")]
    return next(cell for cell in made if not cell["difference"])


def test_the_main_job_makes_cells_leaderboard_and_plot(finished):
    made = cells(finished)
    assert set(made) == {("fixed_init", "speaker"), ("mel", "speaker")}
    cell = read_cell(made["fixed_init", "speaker"])
    assert cell["status"] == "ok"
    assert cell["time"]["baseline"] == "self_attention"
    assert len(cell["time"]["phases"]["train_step"]["baseline_samples_s"]) == cell["config"]["timing"]["rounds"]
    assert cell["memory"]["train_bytes"] > 0
    assert cell["upstream"]["parameters"] > 0
    assert cell["upstream"]["macs_10s"] > 0
    assert cell["data"]["synthetic"] is True
    with made["fixed_init", "speaker"].with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["correct"]) for row in rows) / cell["scores"]["items"] == pytest.approx(cell["scores"]["test"])
    assert (finished / cell["pretrain"]["log"]).is_file()
    assert (finished / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    page = (finished / "leaderboard.md").read_text()
    assert "fixed_init" in page
    assert "mel" in page
    assert "run_benchmark.py --preset smoke" in page


def test_every_upstream_gets_its_row_on_both_tasks(synthetic_tiny, tmp_path):
    tasks = ("speaker", "phone_linear")
    words = ["--preset", "smoke", "--downstream", *tasks, "--out", str(tmp_path)]
    assert main([*words, "--executor", "inline"]) == 0
    made = cells(tmp_path)
    assert set(made) == {(name, task) for name in [*upstream.names(), "mel"] for task in tasks}
    assert all(read_cell(path)["status"] == "ok" for path in made.values())
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        ranked = [(row["upstream"], row["downstream"]) for row in csv.DictReader(file) if row["score"]]
    assert sorted(ranked) == sorted(made)
    page = (tmp_path / "leaderboard.md").read_text()
    for name in upstream.names():
        assert page.count(f"\n| {name} |") == 2 * len(tasks), f"{name} lacks a row, of scores or by length"
    assert "selects the same keys as xbox and simple_lsh" in page


def test_a_second_run_makes_nothing_anew(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/**/*.json")}  # all but request.json
    assert main([*SMOKE, "--out", str(finished)]) == 0
    assert {path: path.stat().st_mtime_ns for path in finished.glob("*/**/*.json")} == before
    assert "0 made now" in capsys.readouterr().out


def test_a_finished_folder_tells_its_status_and_each_cell_its_lineage(finished, capsys):
    assert main([*SMOKE, "--out", str(finished)]) == 0  # the last request may have been another test's
    capsys.readouterr()
    assert main(["--status", "--out", str(finished)]) == 0
    told = capsys.readouterr().out
    assert "2 cells asked for, 2 finished, 0 failed, 0 skipped, 0 missing" in told
    assert "by itself; last change" in told
    path = cells(finished)["fixed_init", "speaker"]
    text = explain(read_cell(path), path)
    assert "this version would not make the same" not in text
    assert "is not there" not in text
    assert "again        python run_benchmark.py --preset smoke --upstream fixed_init --downstream speaker" in text


def test_another_seed_or_option_is_another_cell(finished):
    assert main([*SMOKE, "--out", str(finished), "--seed", "0", "1", "probe.num_epochs=2"]) == 0
    kept = [read_cell(path) for path in finished.glob("cells/**/fixed_init--*.json")]
    seeds = sorted((cell["cell"]["seed"], cell["cell"]["probe_seed"]) for cell in kept)
    assert seeds == [(0, 0), (0, 0), (0, 1), (1, 0)]
    assert {"probe.num_epochs": 2} in [cell["difference"] for cell in kept]


def test_a_failed_upstream_is_recorded_and_the_others_go_on(synthetic_tiny, tmp_path, monkeypatch, capsys):
    def broken(self, x, keep):
        raise RuntimeError("planted: the kernel gave up")

    def no_step(recipe, *others):
        if recipe.upstream == "synthesizer_random":
            raise RuntimeError("planted: no step")
        return train_step(recipe, *others)

    monkeypatch.setattr(fixed_init.Attention, "forward", broken)
    monkeypatch.setattr(stopwatch, "train_step", no_step)
    out = ["--out", str(tmp_path), "--preset", "smoke", "--upstream", "fixed_init", "synthesizer_random"]
    out += ["--executor", "inline"]
    assert main([*out, "--downstream", "speaker"]) == 1
    made = cells(tmp_path)
    failed = read_cell(made["fixed_init", "speaker"])
    assert failed["status"] == "failed"
    assert "planted: the kernel gave up" in failed["reason"]
    assert read_cell(made["synthesizer_random", "speaker"])["status"] == "ok"
    assert "planted: the kernel gave up" in (tmp_path / "leaderboard.md").read_text()
    assert read_cell(made["synthesizer_random", "speaker"])["time"]["error"] == "RuntimeError: planted: no step"
    told = "synthesizer_random: timing failed: RuntimeError: planted: no step"
    assert told in (tmp_path / "leaderboard.md").read_text()
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*out, "--downstream", "speaker"]) == 0
    assert "1 made now, 0 failed" in capsys.readouterr().out
    healed = read_cell(cells(tmp_path)["fixed_init", "speaker"])
    assert healed["status"] == "ok"
    assert "train_step" in healed["time"]["phases"], "its timing has failed too, and is tried again"
    assert "error" not in healed["time"]


def test_ctrl_c_keeps_what_is_finished(synthetic_tiny, tmp_path, monkeypatch, capsys):
    real, calls = executors.run_cell, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(executors, "run_cell", interrupted)
    tasks = ["--downstream", "speaker", "phone_linear"]
    arguments = ["--out", str(tmp_path), "--preset", "smoke", "--upstream", "fixed_init", *tasks]
    arguments += ["--executor", "inline"]
    assert main(arguments) == 130
    assert len(cells(tmp_path)) == 1
    assert "goes on with what is missing" in capsys.readouterr().err
    assert (tmp_path / "leaderboard.md").is_file()
    monkeypatch.undo()
    assert main(arguments) == 0
    assert len(cells(tmp_path)) == 4


def test_a_killed_run_goes_on_and_ends_with_the_same_scores(finished, tmp_path):
    command = [sys.executable, "-m", "s3prl_attention.benchmark.cli", *SMOKE, "--out", str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("pretrain/*/*/log.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main([*SMOKE, "--out", str(tmp_path)]) == 0
    undisturbed = plain(finished)
    resumed = plain(tmp_path)
    assert resumed["scores"]["test"] == undisturbed["scores"]["test"]
    assert resumed["pretrain"]["valid_loss"] == undisturbed["pretrain"]["valid_loss"]


def test_real_speech(librispeech_mini, tmp_path):
    where = ["--corpus", "librispeech", "--root", str(librispeech_mini), "--out", str(tmp_path), "--preset", "smoke"]
    assert main([*where, "--upstream", "self_attention", "--downstream", "speaker", "phone_linear"]) == 0
    speaker, phone = (read_cell(cells(tmp_path)["mel", task]) for task in ("speaker", "phone_linear"))
    assert speaker["scores"]["items"] == 70
    assert speaker["data"]["num_speakers_test"] == phone["data"]["num_speakers_test"] == 7
    assert phone["data"]["num_folds"] == 7
    assert phone["scores"]["test"] > phone["scores"]["chance"] + 0.05
    assert speaker["scores"]["test"] > 0.5


BAD = [
    (["--upstream", "fixd_init"], "unknown upstream 'fixd_init': did you mean 'fixed_init' or 'fixed_patterns'?"),
    (["--downstream", "speakr"], "unknown downstream 'speakr': did you mean 'speaker'"),
    (["--preset", "demmo"], "unknown preset 'demmo': did you mean 'demo'?"),
    (["--corpus", "librispech"], "unknown corpus 'librispech'"),
    (["--corpus", "librispeech"], "give --root FOLDER"),
    (["--corpus", "librispeech", "--root", "/nowhere/at-all"], "/nowhere/at-all"),
    (["pretrain.stepz=3"], "no option 'stepz' (did you mean 'steps'?"),
    (["pretrain.steps=many"], "steps must be int, got 'many'"),
    (["steps=3"], "'steps=3' is no override: write section.option=value"),
    (["model.num_heads=4", "--upstream", "fixed_init"], "fixed_init needs at least 7 heads"),
    (["attention.init=lag", "--upstream", "fixed_init"], "no init 'lag': did you mean 'log'"),
    (["attention.init=log", "--upstream", "self_attention"], "self_attention has no attention options"),
    (["--device", "cuda:99"], "cuda:99"),
    (["--seed", "0", "-1"], "a seed must be a whole number from 0 and below 2**63, got -1"),
    (["--seed", str(2**63)], f"a seed must be a whole number from 0 and below 2**63, got {2**63}"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_wrong_request_is_one_clear_line_before_any_work(words, message, tmp_path, capsys):
    assert main(["--preset", "smoke", *words, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("error: ")
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "out" / "cells").exists()


def corpus_with(folder: Path, samples, rate: int = 16_000, write=None) -> Path:
    """Two speakers with three utterances each in LibriSpeech layout; the last utterance is as given."""
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    for speaker in ("1", "2"):
        chapter = folder / "train-x" / speaker / "10"
        chapter.mkdir(parents=True)
        for number in range(3):
            soundfile.write(chapter / f"{speaker}-10-{number:04d}.flac", noise, 16_000)
    last = folder / "train-x" / "2" / "10" / "2-10-0002.flac"
    last.unlink()
    if write is not None:
        last.write_bytes(write)
    else:
        last = last.with_suffix(".wav")
        soundfile.write(last, samples, rate, subtype="FLOAT")
    return last


BROKEN_AUDIO = {
    "empty": {"samples": np.zeros(0)},
    "NaN": {"samples": np.full(16_000, np.nan)},
    "corrupt": {"samples": None, "write": b"fLaC but not really"},
    "zero bytes": {"samples": None, "write": b""},
}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--upsteam", "fixed_init"], "unknown option --upsteam: did you mean '--upstream'?"),
        (["pretrain.steps", "5"], "'pretrain.steps' belongs to no option: .* section.option=value"),
    ],
)
def test_a_word_that_nobody_takes_is_told_with_its_cure(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("kind", BROKEN_AUDIO)
def test_a_bad_recording_is_named(kind, tmp_path, capsys, caplog):
    path = corpus_with(tmp_path / "speech", **BROKEN_AUDIO[kind])
    words = [
        "--preset",
        "smoke",
        "--upstream",
        "self_attention",
        "--downstream",
        "speaker",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*words, "--corpus", "librispeech", "--root", str(tmp_path / "speech")]) != 0
    told = capsys.readouterr().err + caplog.text
    assert path.name in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_other_rates_and_channels_are_fine(rate, channels, tmp_path):
    corpus_with(tmp_path / "speech", 0.1 * np.random.default_rng(1).normal(size=(rate, channels)), rate)
    words = [
        "--preset",
        "smoke",
        "--upstream",
        "self_attention",
        "--downstream",
        "speaker",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*words, "--corpus", "librispeech", "--root", str(tmp_path / "speech")]) == 0


def test_phones_without_alignments_come_with_the_cure(tmp_path, capsys):
    corpus_with(tmp_path / "speech", np.random.default_rng(1).normal(0, 0.1, 16_000))
    words = ["--preset", "smoke", "--upstream", "self_attention", "--downstream", "speaker", "phone_linear"]
    where = ["--corpus", "librispeech", "--root", str(tmp_path / "speech"), "--out", str(tmp_path / "out")]
    assert main([*words, *where]) == 0, "a task that cannot be is not a failure"
    made = cells(tmp_path / "out")
    phones = read_cell(made["mel", "phone_linear"])
    assert phones["status"] == "skipped"
    assert "phone alignments" in phones["reason"]
    assert read_cell(made["mel", "speaker"])["status"] == "ok"
    assert "4 cells, 2 made now, 0 failed, 2 skipped" in capsys.readouterr().out


def test_the_global_random_state_does_not_decide_scores(finished, tmp_path):
    torch.manual_seed(1234)
    assert main([*SMOKE, "--out", str(tmp_path)]) == 0
    assert plain(tmp_path)["scores"]["test"] == plain(finished)["scores"]["test"]
