"""s3prl's upstreams as rows, with a made-up hub: which names are taken, what is planned, and what a run does."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_fixtures import by_pair
from s3prl_attention.benchmark import remake, sources, stopwatch
from s3prl_attention.benchmark.cli import _parse, main, request_of
from s3prl_attention.benchmark.explain import explain
from s3prl_attention.benchmark.find_cell import find_cell
from s3prl_attention.benchmark.measure import measure_upstream
from s3prl_attention.benchmark.names import BASELINE, MEL, is_pretrained
from s3prl_attention.benchmark.plan import Request, make_plan
from s3prl_attention.benchmark.prepare import lineage, prepare
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.benchmark.steps import steps_of
from s3prl_attention.benchmark.stopwatch import time_upstreams
from s3prl_attention.downstream import feature_cache
from s3prl_attention.downstream.hidden_states import wave_of
from s3prl_attention.upstream import s3prl_compat
from s3prl_attention.upstream.s3prl_upstreams import load_foreign, parse
from s3prl_fixtures import Fake, save_fake

MEMORY = {"inference_bytes": 7_000_000, "train_bytes": None}


@pytest.fixture
def light(monkeypatch):
    """Memory is not weighed: that takes a process, which has no made-up hub."""
    monkeypatch.setattr(stopwatch, "peak_memory", lambda *_: MEMORY)


# --- names and plan


def test_only_our_attentions_are_pretrained():
    assert [is_pretrained(name) for name in (BASELINE, "xbox", MEL, "s3prl:mel", "s3prl:x_local:/a")] == [
        *[True] * 2,
        *[False] * 3,
    ]


BAD = {
    "s3prl:fak": "s3prl has no upstream 'fak': did you mean 'fake'",
    "s3prl:fake_local:/nowhere/x.ckpt": "there is no checkpoint /nowhere/x.ckpt",
    "s3prl:fake_local:/no=where/x.ckpt": "there is no checkpoint /no=where/x.ckpt",
    "s3prl:fake attention.init=log": "s3prl:fake has no attention options: leave out attention.init",
}


@pytest.mark.parametrize("words", BAD)
def test_a_wrong_name_or_file_is_refused_before_any_work(words, fake_hub, tmp_path, capsys):
    assert main(["--preset", "smoke", "--out", str(tmp_path / "o"), "--upstream", *words.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {BAD[words]}")
    assert not (tmp_path / "o").exists()


def test_rows_without_pretraining_are_probed_only(synthetic_tiny, fake_hub, tmp_path):
    words = ["--upstream", "s3prl:fake", "fixed_init", "attention.init=raw", "--seed", "0", "1"]
    plan = make_plan(request_of(*_parse(["--preset", "smoke", *words, "--out", str(tmp_path)])))
    pairs = [(c.study.upstream, c.seed, c.probe_seed) for c in plan.cells if c.task == "speaker"]
    assert [pair[1:] for pair in pairs if pair[0] == "s3prl:fake"] == [(0, 0), (0, 1)]
    assert plan.studies["s3prl:fake"].resolved()["attention"] == {}
    assert plan.studies["fixed_init"].resolved()["attention"]["init"] == "raw"
    cell = next(c for c in plan.cells if c.study.upstream == "s3prl:fake")
    kinds = [(step.kind, step.upstream) for step in steps_of(plan, [cell])[plan.path(cell)]]
    timed = [("timing", name) for name in (MEL, BASELINE, "s3prl:fake")]
    assert kinds == [*timed, ("extraction", "s3prl:fake"), ("probe", "s3prl:fake")]


def test_without_names_of_s3prl_none_is_run(synthetic_tiny, tmp_path):
    plan = make_plan(Request("smoke", tmp_path))
    assert not [name for name in plan.studies if name.startswith("s3prl:")]


def test_checkpoints_of_one_name_do_not_collide_and_one_that_is_moved_stays(synthetic_tiny, fake_hub, tmp_path):
    paths = [save_fake(tmp_path / folder / "last.ckpt", seed) for seed, folder in enumerate(("a", "b"))]
    texts = [f"s3prl:fake_local:{path}" for path in paths]
    plan = make_plan(Request("smoke", tmp_path / "o", texts, ("speaker",)))
    found = [plan.path(cell) for cell in plan.cells if cell.study.upstream in texts]
    assert len(set(found)) == 2
    assert all(path.name.startswith("s3prl%3Afake_local%3Alast.ckpt--speaker--seed0.0--") for path in found)
    records = [plan.records[text] for text in texts]
    assert len(set(records)) == 2
    assert {record.parent for record in records} == {tmp_path / "o" / "timing"}
    moved = Path(shutil.move(paths[0], tmp_path / "last.ckpt"))
    again = make_plan(Request("smoke", tmp_path / "o", [f"s3prl:fake_local:{moved}"], ("speaker",)))
    assert found[0] in [again.path(cell) for cell in again.cells]


def test_the_lineage_hangs_on_s3prl_and_on_how_it_is_loaded(synthetic_tiny, fake_hub, tmp_path, monkeypatch):
    plan = make_plan(Request("smoke", tmp_path, ("s3prl:fake",), ("speaker",)))
    before = lineage(plan.studies["s3prl:fake"], plan.speech, 0)
    ours = sources.source_hash.__wrapped__("fixed_init")
    monkeypatch.setattr(sources, "source_hash", sources.source_hash.__wrapped__)
    monkeypatch.setattr("s3prl_attention.benchmark.prepare.source_hash", sources.source_hash)
    assert lineage(plan.studies["s3prl:fake"], plan.speech, 0) == before
    monkeypatch.setattr(sources, "s3prl_version", lambda: "9.9")
    assert lineage(plan.studies["s3prl:fake"], plan.speech, 0) != before
    assert sources.source_hash("fixed_init") == ours
    read = []
    monkeypatch.setattr(sources, "_digest", lambda modules, *_: read.append(" ".join(sorted(modules))) or "0")
    sources.source_hash("fixed_init")
    sources.source_hash("s3prl:fake")
    assert ".upstream.s3prl_" not in read[0]
    assert "self_attention" not in read[1]
    assert ".upstream.s3prl_compat s3prl_attention.upstream.s3prl_upstreams" in read[1]


# --- a run with a made-up hub


def test_utterances_are_encoded_one_at_a_time(synthetic_tiny, fake_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "states_folder", lambda: tmp_path / "states")
    made = []
    real = Fake.__init__
    monkeypatch.setattr(Fake, "__init__", lambda self, *given: real(self, *given) or made.append(self))
    plan = make_plan(Request("smoke", tmp_path, ("s3prl:fake",), ("speaker",)))
    study = plan.studies["s3prl:fake"]
    prepared = prepare(study, plan.speech, ("speaker",), 0, tmp_path, "cpu")
    assert prepared.num_extracted > 20
    assert set(made[-1].batches) == {1}
    assert prepared.pretrained is None
    assert prepared.num_parameters == 54
    assert prepared.states.frame_shape == (2, 6)
    assert prepared.states.meta["upstream_rate"] == 320
    assert all(entry["padded_s"] == entry["seconds"] for entry in prepared.lengths)
    utterance = next(one for one in plan.speech.probing.utterances if one.id in prepared.states)
    alone = load_foreign(parse("s3prl:fake"))([wave_of(utterance)])["hidden_states"][0][0]
    np.testing.assert_allclose(prepared.states[utterance.id][:, 0], alone.detach().numpy(), atol=2e-2)
    assert prepare(study, plan.speech, ("speaker",), 0, tmp_path, "cpu").num_extracted == 0


def test_a_download_that_fails_is_told_and_tried_again_by_the_next_run(
    synthetic_tiny,
    fake_hub,
    light,
    tmp_path,
    monkeypatch,
    capsys,
):
    ckpt = save_fake(tmp_path / "some where" / "last=1.ckpt")
    names = [BASELINE, "s3prl:fake_base", f"s3prl:fake_local:{ckpt}"]
    words = ["--preset", "smoke", "--downstream", "phone_linear", "--out", str(tmp_path / "o")]
    words += ["--executor", "inline"]  # another process knows nothing of the made-up hub
    assert main([*words, "--upstream", *names]) == 1
    assert "4 cells, 3 made now, 1 failed" in capsys.readouterr().out
    made = by_pair(tmp_path / "o")
    failed, done = made["s3prl:fake_base", "phone_linear"], made["s3prl:fake_local:last=1.ckpt", "phone_linear"]
    assert failed["status"] == "failed"
    assert failed["reason"].startswith("s3prl:fake_base could not be downloaded (URLError: <urlopen error planted")
    assert "no route" in failed["traceback"]
    assert done["pretrain"] is None
    assert done["memory"] == MEMORY
    assert done["upstream"]["parameters"] == 54
    assert done["upstream"]["macs_10s"] is done["upstream"]["order"] is None
    assert list(done["time"]["phases"]) == ["whole_1s"]
    assert len(done["time"]["phases"]["whole_1s"]["baseline_samples_s"]) == 2
    ours = made[BASELINE, "phone_linear"]["time"]["phases"]
    assert list(ours) == ["features", "inference_1s", "train_step"]
    with (tmp_path / "o" / "leaderboard.csv").open(newline="") as file:
        rows = {row["upstream"]: row for row in csv.DictReader(file)}
    row = rows["s3prl:fake_local:last=1.ckpt"]
    whole = done["time"]["phases"]["whole_1s"]["samples_s"]
    assert float(row["real_time_factor"]) == pytest.approx(np.median(whole))
    assert float(row["inference_ratio"]) > 0
    assert row["train_ratio"] == row["macs_10s"] == row["pretrain_s"] == ""
    page = (tmp_path / "o" / "leaderboard.md").read_text()
    assert page.count("\n## phone_linear") == 1, "one table holds all rows"
    assert "\n| s3prl:fake_local:last=1.ckpt |" in page
    assert "not pre-trained here; it encodes one utterance at a time" in page
    assert not list((tmp_path / "o" / "timing").glob("s3prl%3Afake_base*"))

    def no_timing(*_):
        raise AssertionError("the baseline is timed again for an upstream that cannot be loaded")

    monkeypatch.setattr(stopwatch, "exclusive_lane", no_timing)
    assert main([*words, "--upstream", *names]) == 1
    assert "4 cells, 0 made now, 1 failed" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(stopwatch, "peak_memory", lambda *_: MEMORY)
    monkeypatch.setattr(s3prl_compat, "import_hub", lambda: fake_hub)
    fake_hub.online()
    assert main([*words, "--upstream", *names]) == 0
    assert by_pair(tmp_path / "o")["s3prl:fake_base", "phone_linear"]["time"]["phases"]["whole_1s"]["samples_s"]

    capsys.readouterr()
    assert main(["--status", "--out", str(tmp_path / "o")]) == 0
    assert "4 cells asked for, 4 finished, 0 failed, 0 skipped, 0 missing" in capsys.readouterr().out
    cell, path = find_cell("s3prl:fake_local:last=1.ckpt--phone_linear", tmp_path / "o")
    told = explain(cell, path)
    assert f"loaded from  s3prl:fake_local:{ckpt}; content " in told
    assert "54 parameters; one of s3prl's upstreams" in told
    assert "memory       inference 7 MB" in told
    assert "hidden_dim" not in told
    assert "this version would not make the same" not in told
    _, _, *again = shlex.split(remake.command(cell, tmp_path / "o"))
    plan = make_plan(request_of(*_parse(again)))
    assert path in [plan.path(one) for one in plan.cells]
    save_fake(ckpt, seed=4)
    assert remake.obstacles(cell) == ["its configuration differs in checkpoint"]
    ckpt.unlink()
    assert "it refuses the configuration (there is no checkpoint" in remake.obstacles(cell)[0]


def test_the_estimate_does_what_a_run_does(synthetic_tiny, fake_hub, tmp_path):
    utterances = synthetic_tiny.utterances[:6]
    study = load_study("s3prl:fake", "smoke")
    cost = measure_upstream(study, synthetic_tiny, utterances, {"timing", "extraction"}, "cpu")
    assert (cost.shape, cost.frame_repeat) == ((2, 6), 2)
    assert cost.extract_s > 0
    assert cost.lane_s > 0
    assert cost.pretrain_s == cost.maps_s == cost.checkpoint_bytes == 0


def test_a_dry_run_and_a_budget_take_them(synthetic_tiny, fake_hub, light, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("s3prl_attention.benchmark.estimate.peak_memory", lambda *_: MEMORY)
    words = ["--preset", "smoke", "--upstream", "s3prl:fake", "s3prl:fake_base", "--downstream", "speaker"]
    words += ["--executor", "inline"]
    assert main([*words, "--out", str(tmp_path / "o"), "--dry-run", "--budget", "2h"]) == 0
    told = capsys.readouterr().out
    assert "missing:  s3prl:fake " in told
    assert "not measured: s3prl:fake_base: could not be measured (ValueError: s3prl:fake_base could not be down" in told
    assert "3 of 3 cells fit" in told
    assert not (tmp_path / "o").exists()
    assert main([*words, "--out", str(tmp_path / "o"), "--budget", "2h"]) == 1
    assert "3 cells, 2 made now, 1 failed" in capsys.readouterr().out


def test_one_that_fails_in_the_lane_leaves_the_others_their_times(
    synthetic_tiny,
    fake_hub,
    light,
    tmp_path,
    monkeypatch,
):
    plan = make_plan(Request("smoke", tmp_path, ("s3prl:fake", BASELINE), ("speaker",)))
    real = Fake.forward
    monkeypatch.setattr(Fake, "forward", lambda self, wavs: real(self, wavs) if self.batches == [] else 1 / 0)
    time_upstreams(plan.studies, plan.records, 1, "cpu", ())
    record = json.loads(plan.records["s3prl:fake"].read_text())
    assert record["error"] == "whole_1s: ZeroDivisionError: division by zero"
    assert record["time"]["phases"] == {}
    assert "inference_1s" in json.loads(plan.records[BASELINE].read_text())["time"]["phases"]
