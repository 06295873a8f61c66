"""The probe: learns what is there, nothing that is not, chooses on dev and scores test once."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_fixtures import FakeUpstream, corpus, store, tones, utterances
from s3prl_attention import downstream
from s3prl_attention.downstream import probe as probe_module
from s3prl_attention.downstream.hidden_states import extract
from s3prl_attention.downstream.probe import ProbeSettings, probe
from s3prl_attention.downstream.splits import phone_folds, speaker_folds
from s3prl_attention.recipes.corpora import Corpus, FrameStore
from torch.nn import functional

FAST = ProbeSettings(num_epochs=6, learning_rates=[0.03])


@pytest.fixture
def made() -> Corpus:
    return corpus(utterances("x", ["a", "b", "c", "d"], each=6))


@pytest.fixture
def readable(made: Corpus, tmp_path: Path) -> FrameStore:
    return store(tmp_path / "readable", made, label_dims=True)


def test_phones_that_are_in_the_features_are_found_and_the_right_state_gets_the_weight(made: Corpus, readable):
    result = probe("phone_linear", made, readable, settings=FAST)
    assert result.test > 0.95  # labels of 30 ms against frames of 30 ms: the same edges
    assert all(last > first for first, last in result.layer_weights)
    assert result.num_folds == 4
    assert result.items == sum(u.num_frames for u in made.utterances)
    assert result.num_speakers_test == 4
    assert result.splits == {"train": 12, "dev": 6, "test": 24}


def test_labels_that_are_not_in_the_features_score_chance(tmp_path: Path):
    made = corpus(utterances("x", ["a", "b", "c"], each=15))
    blind = store(tmp_path / "blind", made)
    result = probe("phone_linear", made, blind, settings=FAST)
    assert abs(result.test - 0.25) < 0.06
    assert abs(result.chance - 0.25) < 0.06
    speaker = probe("speaker", made, blind, settings=FAST)
    assert abs(speaker.test - 1 / 3) < 0.25
    assert speaker.chance == pytest.approx(1 / 3)


def test_speakers_are_told_by_their_pitch_through_extraction_and_probe(tmp_path: Path):
    made = tones(tmp_path, {"low": 500.0, "mid": 1500.0, "high": 2500.0, "top": 3500.0}, each=6)
    states = extract(FakeUpstream(), made.utterances, tmp_path / "states")
    result = probe("speaker", made, states, settings=replace(FAST, num_epochs=30))
    assert result.test == 1.0
    assert result.items == len(made.utterances)


def test_every_test_utterance_is_scored_once(made: Corpus, readable: FrameStore):
    for task, folds in (("phone_linear", phone_folds(made)), ("speaker", speaker_folds(made))):
        result = probe(task, made, readable, settings=FAST)
        expected = [(number, u.id, u.speaker) for number, fold in enumerate(folds) for u in fold.test]
        assert [(o["fold"], o["utterance"], o["speaker"]) for o in result.outcomes] == expected
        assert {o["utterance"]: o["seconds"] for o in result.outcomes} == {
            u.id: u.seconds for fold in folds for u in fold.test
        }
        correct, total = (sum(outcome[column] for outcome in result.outcomes) for column in ("correct", "total"))
        assert result.test == correct / total
        assert result.items == total
        assert result.split == folds[0].split


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_nothing_but_the_test_score_depends_on_test(task: str, tmp_path: Path):
    """Other features for the test utterances: had they a say in the choice of the epoch, it would move."""
    made = corpus(
        utterances("train", ["a", "b", "c"], chapters=2, each=4), utterances("dev", ["d"]), utterances("test", ["e"])
    )
    (fold,) = (phone_folds if task == "phone_linear" else speaker_folds)(made)
    results = [
        probe(
            task,
            made,
            store(tmp_path / f"s{seed}", made, noise={u.id: seed for u in fold.test}),
            settings=ProbeSettings(),
        )
        for seed in range(6)
    ]
    assert len({result.test for result in results}) > 1
    for result in results[1:]:
        assert result.dev == results[0].dev
        assert result.chosen_epoch == results[0].chosen_epoch
        assert result.layer_weights == results[0].layer_weights


def test_the_epoch_that_is_best_on_dev_is_the_one_that_is_scored(made: Corpus, readable: FrameStore, monkeypatch):
    seen: list[tuple[str, float, dict[str, torch.Tensor]]] = []
    plain = probe_module._outcomes

    def spy(split, models, batches):
        ((_, weights),) = models
        (outcomes,) = plain(split, models, batches)
        right = sum(o.correct for o in outcomes) / sum(o.total for o in outcomes)
        seen.append((split, right, {name: value.clone() for name, value in weights.items()}))
        return [outcomes]

    monkeypatch.setattr(probe_module, "_outcomes", spy)
    blind = replace(ProbeSettings(), num_epochs=8, patience=8, learning_rates=[0.3])
    result = probe("speaker", made, readable, settings=blind)
    assert [split for split, _, _ in seen] == (["dev"] * 8 + ["test"]) * result.num_folds, "test is scored once"
    for number, epoch in enumerate(result.chosen_epoch):
        *dev, test = seen[9 * number : 9 * (number + 1)]
        scores = [score for _, score, _ in dev]
        assert epoch == max(number for number, score in enumerate(scores, 1) if score == max(scores))
        assert all(torch.equal(test[2][name], value) for name, value in dev[epoch - 1][2].items())
    assert any(epoch < 8 for epoch in result.chosen_epoch)


RATES = [1e-5, 1e30, 0.03, 0.3]  # too low, hopeless, and two that learn


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_dev_chooses_among_learning_rates_that_do_not_touch_each_other(task: str, made: Corpus, readable: FrameStore):
    swept = probe(task, made, readable, settings=replace(FAST, learning_rates=RATES, race_epochs=0))
    assert [tried["learning_rate"] for tried in swept.tried] == RATES
    assert swept.tried[1]["dev"] == [None] * swept.num_folds
    alone = {rate: probe(task, made, readable, settings=replace(FAST, learning_rates=[rate])) for rate in (1e-5, 0.03)}
    for rate, result in alone.items():
        assert result.tried == [tried for tried in swept.tried if tried["learning_rate"] == rate]
    chosen = [fold["learning_rate"] for fold in swept.chosen]
    for number, rate in enumerate(chosen):
        dev = [-1.0 if tried["dev"][number] is None else tried["dev"][number] for tried in swept.tried]
        assert rate == RATES[dev.index(max(dev))], "the first of equals"
    assert swept.tried[1]["epochs"] == [0] * swept.num_folds
    taken = [number for number, rate in enumerate(chosen) if rate == 0.03]
    assert taken, "or the next line would check nothing"
    for number in taken:
        assert [o for o in swept.outcomes if o["fold"] == number] == [
            o for o in alone[0.03].outcomes if o["fold"] == number
        ]


def test_after_the_race_only_the_learning_rate_that_dev_likes_best_goes_on(made: Corpus, readable: FrameStore):
    settings = replace(FAST, num_epochs=8, patience=8, learning_rates=[1e-5, 0.03, 0.1])
    raced = probe("phone_linear", made, readable, settings=replace(settings, race_epochs=2))
    for fold in range(raced.num_folds):
        epochs = {tried["learning_rate"]: tried["epochs"][fold] for tried in raced.tried}
        winner = raced.chosen[fold]["learning_rate"]
        assert epochs == {rate: 8 if rate == winner else 2 for rate in settings.learning_rates}
        alone = probe("phone_linear", made, readable, settings=replace(settings, learning_rates=[winner]))
        assert [o for o in raced.outcomes if o["fold"] == fold] == [o for o in alone.outcomes if o["fold"] == fold]
    full = probe("phone_linear", made, readable, settings=replace(settings, race_epochs=0))
    assert all(tried["epochs"] == [8] * full.num_folds for tried in full.tried)
    assert full.dev >= raced.dev


@pytest.mark.parametrize("settling", [0, 3, 6])
def test_neither_race_nor_patience_counts_epochs_in_which_a_task_settles(
    settling: int, made: Corpus, readable: FrameStore, monkeypatch: pytest.MonkeyPatch
):
    module = downstream.load("phone_linear")
    monkeypatch.setattr(module, "INFO", replace(module.INFO, settling=settling))
    hopeless = replace(FAST, num_epochs=12, patience=3, learning_rates=[1e-12, 2e-12], averaging=0.0)
    monkeypatch.setattr(probe_module.Candidate, "end_epoch", worse_each_epoch(probe_module.Candidate.end_epoch))
    result = probe("phone_linear", made, readable, settings=replace(hopeless, race_epochs=1))
    first, second = (set(tried["epochs"]) for tried in result.tried)
    assert first == {max(1, settling) + 3}, "patience ends it"
    assert second == {settling + 1}, "the race ends it"
    assert result.race_ended == settling + 1


def worse_each_epoch(end_epoch):
    """Dev falls from the first epoch on."""

    def fall(candidate, epoch, outcomes):
        end_epoch(candidate, epoch, [outcome._replace(correct=20 - epoch) for outcome in outcomes])

    return fall


def test_a_head_that_gets_no_better_is_trained_no_further(made: Corpus, readable: FrameStore):
    patient = replace(FAST, num_epochs=12, learning_rates=[0.3], patience=12)
    full = probe("speaker", made, readable, settings=patient)
    short = probe("speaker", made, readable, settings=replace(patient, patience=2))
    assert full.tried[0]["epochs"] == [12] * full.num_folds
    stopped = [number for number, epochs in enumerate(short.tried[0]["epochs"]) if epochs < 12]
    assert stopped, "or the next lines would check nothing"
    for number in stopped:
        assert short.tried[0]["epochs"][number] == short.chosen_epoch[number] + 2
        assert short.chosen_epoch[number] <= full.chosen_epoch[number]
    assert short.epochs_run == max(short.tried[0]["epochs"])


def test_chance_is_the_majority_of_train_scored_on_test(tmp_path: Path):
    made = corpus(
        *(utterances(split, [split], seed=seed) for seed, split in enumerate(("train", "dev", "test"), start=2))
    )
    result = probe("phone_linear", made, store(tmp_path / "s", made), settings=replace(FAST, num_epochs=1))
    labels = {
        split: np.concatenate([u.phones.frame_labels(u.num_frames) for u in made.utterances if u.subset == split])
        for split in ("train", "test")
    }
    counts = np.bincount(labels["test"])
    majority = np.bincount(labels["train"]).argmax()
    assert counts[majority] < counts.max(), "or this test would see no difference"
    assert result.chance == counts[majority] / counts.sum()


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_a_seed_repeats_itself_whatever_the_global_random_state(task: str, made: Corpus, readable: FrameStore):
    outcomes = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        result = probe(task, made, readable, seed=3, settings=FAST)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
        outcomes.append(replace(result, seconds=0.0))
    assert outcomes[0] == outcomes[1]
    assert replace(probe(task, made, readable, seed=4, settings=FAST), seconds=0.0) != outcomes[0]


def test_scale_and_offset_of_the_states_do_not_matter(made: Corpus, tmp_path: Path):
    first = store(tmp_path / "a", made, label_dims=True)
    moved = {u.id: first[u.id] * np.float32(1000) + np.float32(50) for u in made.utterances}
    second = FrameStore.create(tmp_path / "b", moved.items(), "float32", first.meta)
    for task in ("phone_linear", "speaker"):
        a, b = (probe(task, made, stored, settings=FAST) for stored in (first, second))
        assert a.test == pytest.approx(b.test, abs=0.02)


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_normalize_is_the_probe_of_normalised_states(task: str, made: Corpus, tmp_path: Path):
    """For the means too: each frame is normalised before they are taken."""
    raw = store(tmp_path / "raw", made)
    done = {id: functional.layer_norm(torch.from_numpy(raw[id].copy()), (6,)).numpy() for id in raw.ids}
    beforehand = FrameStore.create(tmp_path / "done", done.items(), "float32", raw.meta)
    inside = probe(task, made, raw, settings=replace(FAST, normalize=True))
    assert inside.outcomes == probe(task, made, beforehand, settings=FAST).outcomes
    assert inside.outcomes != probe(task, made, raw, settings=FAST).outcomes


def test_a_small_train_set_still_takes_enough_steps(made: Corpus, readable: FrameStore, monkeypatch):
    steps: list[int] = []
    plain = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *args: (steps.append(1), plain(self, *args))[1])
    probe("speaker", made, readable, settings=replace(FAST, num_epochs=2, batch_utterances=1000, min_steps=4))
    assert len(steps) >= 2 * 4 * 5


def test_mistakes_are_told(made: Corpus, readable: FrameStore, tmp_path: Path):
    with pytest.raises(ValueError, match="unknown downstream 'speakr': did you mean 'speaker'"):
        probe("speakr", made, readable)
    more = corpus(list(made.utterances), utterances("x", ["zoe"], each=6))
    with pytest.raises(ValueError, match="lack 6 of 30 utterances, the first is 'zoe-9-0000'"):
        probe("speaker", more, readable)
    with pytest.raises(ValueError, match=r"num_epochs must be at least 1, got 0; .*numbers above 0, at least one"):
        ProbeSettings(num_epochs=0, learning_rates=[0.0])
    with pytest.raises(ValueError, match="race_epochs must be at least 0, got -1"):
        ProbeSettings(race_epochs=-1)
    for wrong in ([], [0.1, 0.1]):
        with pytest.raises(ValueError, match="learning_rates must be different numbers"):
            ProbeSettings(learning_rates=wrong)
    with pytest.raises(ValueError, match="states_dtype must be float16 or float32, got 'half'"):
        ProbeSettings(states_dtype="half")
    with pytest.raises(ValueError, match="has no subset 'y'"):
        probe("speaker", made, readable, settings=ProbeSettings(subsets=("y",)))
    with pytest.raises(ValueError, match=r"with each of the learning rates 1e\+30: lower probe.learning_rates"):
        probe("phone_linear", made, readable, settings=ProbeSettings(learning_rates=[1e30]))
