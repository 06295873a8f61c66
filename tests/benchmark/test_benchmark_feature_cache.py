"""The cache's key in a benchmark run, and its command: list, verify, clear, and the two comparisons."""

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from s3prl_attention import downstream, upstream
from s3prl_attention.benchmark import cache_speed, prepare
from s3prl_attention.benchmark.cache_dtypes import difference
from s3prl_attention.benchmark.cache_speed import ASKED_STEPS, RUN, STORED, Side, batches, scores, times
from s3prl_attention.benchmark.feature_cache import main
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.downstream import feature_cache, hidden_states
from s3prl_attention.downstream.feature_cache import Key, states_folder
from s3prl_attention.downstream.outcomes import Outcome
from s3prl_attention.recipes.corpora import Corpus, FrameStore, PhoneAlignment, Utterance
from s3prl_attention.recipes.corpora.cache_room import claim

SMALL = {"hidden_dim": 32, "num_heads": 8, "num_layers": 1, "max_frames": 20}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))
    return states_folder()


def corpus(label: int = 0) -> Corpus:
    phones = PhoneAlignment(np.zeros(1), np.ones(1), np.full(1, label, np.int16))
    utterance = Utterance("a", Path("a.wav"), 16_000, 16_000, "s", "c", "all", "", phones)
    return Corpus("toy", Path("/nowhere"), (utterance,), ("SIL", "AA"), synthetic=True, note="")


def name_of(expert: torch.nn.Module, made: Corpus | None = None, dtype: str = "float16") -> str:
    return prepare.states_key(expert.name, expert, made or corpus(), dtype).name


def test_a_checkpoint_is_known_by_its_content_not_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    expert = upstream.load("fixed_init", **SMALL)
    for place in ("a", "deep/b"):
        expert.save(tmp_path / place)
    known = name_of(upstream.load("fixed_init", tmp_path / "a", long_input="windows"))
    assert name_of(upstream.load("fixed_init", tmp_path / "deep" / "b", long_input="windows")) == known
    assert name_of(upstream.load("fixed_init", tmp_path / "a", long_input="error")) != known
    assert name_of(upstream.load("fixed_init", tmp_path / "a", long_input="windows"), corpus(1)) != known
    assert name_of(upstream.load("fixed_init", tmp_path / "a", long_input="windows"), dtype="float32") != known
    with torch.no_grad():
        next(expert.parameters()).flatten()[0] += 1e-6
    expert.save(tmp_path / "a")
    assert name_of(upstream.load("fixed_init", tmp_path / "a", long_input="windows")) != known
    monkeypatch.setattr(prepare, "source_hash", lambda name: "changed")
    assert name_of(upstream.load("fixed_init", tmp_path / "deep" / "b", long_input="windows")) != known


def test_mel_is_known_by_its_fitted_statistics() -> None:
    def fitted(mean: float) -> torch.nn.Module:
        expert = upstream.load("mel")
        expert.log_mel.fit(torch.full((80,), mean), torch.ones(80))
        return expert

    assert name_of(fitted(0.5)) == name_of(fitted(0.5))
    assert name_of(fitted(0.5)) != name_of(fitted(0.25))


def test_a_task_that_raises_anything_fails_alone(synthetic_tiny: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(corpus: Corpus, subsets: object = ()) -> None:
        raise KeyError("planted")

    study = load_study("mel", "smoke")
    alone = prepare.needed(("speaker",), synthetic_tiny, study)
    monkeypatch.setattr(downstream.load("phone_linear"), "folds", broken)
    assert prepare.needed(("phone_linear", "speaker"), synthetic_tiny, study) == alone
    with pytest.raises(KeyError, match="planted"):
        prepare.needed(("phone_linear",), synthetic_tiny, study)


def test_a_further_task_encodes_only_what_it_adds(synthetic_tiny: Corpus, cache: Path, tmp_path: Path) -> None:
    study = load_study("mel", "smoke")
    speech = prepare.Speech(prepare.pretrain_part(synthetic_tiny, ()), synthetic_tiny)
    asked = [("speaker",), ("speaker", "phone_linear"), ("phone_linear",)]
    needed = [{u.id for u in prepare.needed(tasks, synthetic_tiny, study)} for tasks in asked]
    assert len(needed[0]) < len(needed[1]), "the corpus tells nothing here"
    stored, extracted = [], []
    for tasks in asked:
        prepared = prepare.prepare(study, speech, tasks, 0, tmp_path, "cpu")
        stored.append(set(prepared.states.ids))
        assert prepared.extraction_s > 0
        extracted.append(prepared.num_extracted)
        counts = sum(bucket["utterances"] for bucket in prepared.lengths)
        assert counts == len({u.id for u in prepare.needed(tasks, synthetic_tiny, study)})
    assert stored == [needed[0], needed[1], needed[1]]
    assert extracted == [len(needed[0]), len(needed[1]) - len(needed[0]), 0]
    assert [len(FrameStore.open(part)) for part in sorted(cache.glob("*/part-*"))] == [
        len(needed[0]),
        len(needed[1] - needed[0]),
    ]
    wide = replace(study, probe=replace(study.probe, states_dtype="float32"))
    assert prepare.prepare(wide, speech, ("speaker",), 0, tmp_path, "cpu").states.dtype == np.float32


def entry(cache: Path, name: str, days_ago: float = 0.0) -> Path:
    """An entry of one part."""
    key = Key(name, "w", {}, "s", "", "float16", "toy", "d")
    folder = cache / key.name
    claim(folder)()
    (folder / feature_cache.KEY).write_text(key.text)
    FrameStore.create(folder / "part-0000", [("u", np.ones((5, 2, 4)))], "float16", {})
    used = time.time() - 86_400 * days_ago
    os.utime(folder / "used", (used, used))
    return folder


def test_list_tells_every_entry(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "0 entries, 0 B" in capsys.readouterr().out
    old, new = entry(cache, "mel", 3), entry(cache, "uniform")
    FrameStore.create(cache / "mel-0123456789ab", [("u", np.ones((5, 2, 4)))], "float16", {})
    (old / "part-0000" / "frames.bin").write_bytes(b"")
    release = claim(new)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("mel ")
    assert "damaged" in lines[1]
    by_name = {line.split()[0]: line for line in lines[1:4]}
    assert by_name["uniform"].endswith(f"{new.name} (in use)")
    assert " toy " in by_name["uniform"]
    assert " float16 " in by_name["uniform"]
    assert time.strftime("%Y-%m-%d") in by_name["uniform"]
    assert "(of an older version)" in lines[2] + lines[3]
    assert "3 entries" in lines[4]
    assert "half of what the disk has free without them" in lines[4]
    release()


def test_verify_names_a_changed_byte_and_removes_when_asked(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = entry(cache, "mel"), entry(cache, "uniform")
    assert main(["verify"]) == 0
    (bad / "part-0000" / "frames.bin").write_bytes(bytes(80))
    capsys.readouterr()
    assert main(["verify"]) == 1
    told = capsys.readouterr().out
    assert f"{good.name}: intact" in told
    assert f"{bad.name}: damaged\n  frame store {bad / 'part-0000'}: frames.bin does not match its checksum" in told
    assert "verify --remove" in told
    assert main(["verify", "mel"]) == 0
    assert main(["verify", "--remove"]) == 0
    assert good.is_dir()
    assert not bad.exists()


def test_clear_takes_what_is_old_or_named_and_not_in_use(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mel, old, uniform = entry(cache, "mel"), entry(cache, "mean_map", 8), entry(cache, "uniform", 6)
    assert main(["clear", "--older-than", "7d"]) == 0
    assert [mel.exists(), old.exists(), uniform.exists()] == [True, False, True]
    assert main(["clear", uniform.name]) == 0
    assert [mel.exists(), uniform.exists()] == [True, False]
    release = claim(mel)
    capsys.readouterr()
    assert main(["clear", "mel"]) == 0
    assert f"removed 0 entries, 0 B\n{mel.name} stays: a running process uses it" in capsys.readouterr().out
    release()
    assert main(["clear"]) == 0
    assert not mel.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["clear", "unifrom"], "no entry or upstream 'unifrom'.*did you mean 'uniform'"),
        (["clear", "--older-than", "soon"], "--older-than: 'soon' is no span of time above 0: write it like 2h"),
        (["list", "probe.num_epochs=3"], "list takes no 'probe.num_epochs=3'"),
        (["speed", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["speed", "--device", "cuda:99"], "cuda:99"),
        (["compare-dtypes", "--device", "cuda:99"], "cuda:99"),
        (["speed", "--seed", "-1"], r"a seed must be a whole number from 0 and below 2\*\*63, got -1"),
    ],
)
def test_a_wrong_request_is_told_in_a_line(
    cache: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    kept = entry(cache, "uniform")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(says, error), error
    assert kept.is_dir()


def test_a_difference_is_paired_and_has_the_direction_of_the_score() -> None:
    def outcomes(*correct: int) -> list[dict]:
        rows = [Outcome(f"u{number}", f"s{number % 3}", right, 10) for number, right in enumerate(correct)]
        return [{"fold": 0, **row._asdict()} for row in rows]

    first, second = outcomes(5, 6, 7, 8, 9, 10), outcomes(4, 6, 7, 8, 9, 9)
    told = difference("speaker", first, list(reversed(second)))
    assert told.startswith("+3.33% (")
    assert told.endswith("; 2 of 6 utterances differ)")
    assert difference("speaker", second, first).startswith("-3.33% (")
    assert difference("speaker", first, first).startswith("+0.00% (+0.00% to +0.00%; 0 of 6")


def test_batches_go_through_train_in_another_order_each_epoch() -> None:
    train = [replace(corpus().utterances[0], id=str(number)) for number in range(10)]
    plan = [[u.id for u in batch] for batch in batches(train, 4, 7, seed=1)]
    assert [len(batch) for batch in plan] == [4, 4, 2, 4, 4, 2, 4]
    for epoch in (plan[:3], plan[3:6]):
        assert sorted(id for batch in epoch for id in batch) == sorted(u.id for u in train)
    assert plan[:3] != plan[3:6]
    assert plan == [[u.id for u in batch] for batch in batches(train, 4, 7, seed=1)]
    assert plan != [[u.id for u in batch] for batch in batches(train, 4, 7, seed=2)]


def test_a_chunk_begins_and_ends_when_its_device_has_done_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(cache_speed, "wait", lambda device: told.append(f"wait for {device}"))
    monkeypatch.setattr(cache_speed, "perf_counter", lambda: told.append("clock") or 0.0)
    head: Any = SimpleNamespace(parameters=[torch.zeros(1)], learn=lambda *_: told.append("step"))
    Side(lambda batch: (torch.zeros(1), []), head).train([[], []])
    assert told == ["wait for cpu", "clock", "step", "step", "wait for cpu", "clock"]


def test_times_count_the_extraction_and_say_what_was_not_run() -> None:
    def side(*chunks_s: float) -> Side:
        return Side(None, None, list(chunks_s), [False] * (len(chunks_s) - 1) + [True])  # type: ignore[arg-type]

    sides = {STORED: side(0.5, 0.5, 1.0), RUN: side(50.0, 60.0, 90.0)}
    filling = {"extraction_s": 5.0, "means_s": 3.0, "disturbed": False}
    whole = "\n".join(times(sides, filling, 7.0, ASKED_STEPS))
    assert "20.0 times with extraction, steps alone 100 times (quartiles of 3 chunks 95 to 110)" in whole
    assert "others used the machine in 2 of 6 chunks" in whole
    assert "reading audio 7.0 s" in whole
    assert "only" not in whole
    part = times(sides, {**filling, "disturbed": True}, 7.0, ASKED_STEPS // 10)
    assert "2 of 6 chunks, and during extraction" in part[-2]
    assert "only 200 of 2000 steps were run" in part[-1]
    assert f"{2000 / 28:.1f} times faster with extraction, which was not measured" in part[-1]


def test_scores_tell_both_sides_and_their_difference() -> None:
    rows = [Outcome(f"u{number}", f"s{number % 3}", number % 2, 1) for number in range(12)]
    lines = scores({STORED: rows, RUN: [row._replace(correct=1) for row in rows]})
    assert lines[0].startswith(f"test accuracy, {STORED}: 50.0 % (")
    assert lines[1].startswith(f"test accuracy, {RUN}: 100.0 %")
    assert lines[2].startswith("difference: -50.00% (")


def test_both_sides_of_the_speed_command_learn_the_same(
    synthetic_tiny: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[str] = []
    heads: list[cache_speed.Head] = []

    def wave_of(utterance: Utterance) -> torch.Tensor:
        read.append(utterance.id)
        return hidden_states.wave_of(utterance)

    class Head(cache_speed.Head):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            heads.append(self)

    monkeypatch.setattr(cache_speed, "wave_of", wave_of)
    monkeypatch.setattr(cache_speed, "Head", Head)
    options = ["--steps", "3", "--chunk", "2", "--batch", "4", "--preset", "smoke", "--pretrain-steps", "2"]
    where = ["--out", str(tmp_path / "out"), "--save", str(tmp_path / "speed.json")]
    assert main(["speed", *options, *where, "data.size=tiny", "probe.states_dtype=float32"]) == 0
    told = capsys.readouterr().out
    assert "only 3 of 2000 steps were run" in told
    assert "difference: +0.00%" in told
    raw = json.loads((tmp_path / "speed.json").read_text())
    assert [len(raw["sides"][name]["chunks_s"]) for name in (STORED, RUN)] == [2, 2]
    stored, run = heads[2:]  # the first two only warm up
    for ours, theirs in zip(stored.parameters, run.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # frames that the last one cuts weigh a little more
    assert not torch.equal(stored.parameters[0], heads[0].parameters[0]), "it learnt nothing"
    assert len(read) == 4 * (1 + 3) + raw["sides"][RUN]["num_scored"], "audio is read at every step, and by one side"
    assert not list(states_folder().parent.glob(".speed-*"))
