"""Every task: chance where there is nothing to learn, near 1 where there is, no leaks, and what it needs is told."""

from dataclasses import replace

import pytest
from downstream_fixtures import corpus, store, utterances
from s3prl_attention import downstream
from s3prl_attention.benchmark.statistics import clustered_interval
from s3prl_attention.downstream.hidden_states import extract
from s3prl_attention.downstream.probe import ProbeSettings, probe
from s3prl_attention.downstream.splits import SPLITS
from s3prl_attention.downstream.task import NotApplicable
from s3prl_attention.recipes.corpora import Corpus, FrameStore
from s3prl_attention.upstream.mel import MelExpert
from task_fixtures import labelled, melodies, random_phones

TASKS = downstream.names()
BLIND = {"phone": 1 / 4, "speaker": 1 / 10, "label": 1 / 2}  # accuracy to expect on labels like those of ``noise``
DISJOINT = [*downstream.expand(["phone"]), *downstream.expand(["labels"])]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, FrameStore]:
    """Ten speakers; phones, labels and hidden states are drawn at random."""
    made = labelled(corpus(utterances("x", list("abcdefghij"), each=8, seed=1)))
    return made, store(tmp_path_factory.mktemp("noise") / "states", made, seed=4)


@pytest.mark.parametrize("task", TASKS)
def test_where_labels_are_independent_of_the_audio_the_score_is_chance(task: str, noise: tuple[Corpus, FrameStore]):
    """Phones come from so many that a blind answer hits none: of few it would, and score better than an empty one."""
    made, states = noise
    info = downstream.load(task).INFO
    recognition = info.unit == "phones"
    if recognition:
        made = random_phones(made, 300)
    num_epochs = 10 if task == "phone_recognition" else 1  # a linear head takes longer to answer nothing
    settings = ProbeSettings(num_epochs=num_epochs, learning_rates=[0.003])
    result = probe(task, made, states, settings=settings)
    correct, total, insertions, speaker = (
        [outcome[field] for outcome in result.outcomes] for field in ("correct", "total", "insertions", "speaker")
    )
    if recognition:
        correct = [n - good + more for n, good, more in zip(total, correct, insertions, strict=True)]  # errors
    chance = 1.0 if recognition else BLIND[info.kind]
    interval = clustered_interval(correct, total, speaker, level=0.99)  # ten tasks are asked at once
    assert interval is not None
    assert interval[0] <= chance <= interval[1], (result.test, interval)
    assert result.chance == pytest.approx(chance, abs=0.02), "guessing, as it stands beside the score"


@pytest.fixture(scope="module")
def sung(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Corpus, FrameStore]]:
    """By kind of task, tones whose pitch is what it asks for, and their log-Mel frames through the real extraction."""
    made = {}
    for kind in ("phone", "speaker", "label"):
        folder = tmp_path_factory.mktemp(kind)
        tones = melodies(folder, kind)
        made[kind] = (tones, extract(MelExpert(), tones.utterances, folder / "states"))
    return made


@pytest.mark.parametrize("task", TASKS)
def test_where_the_label_is_a_tones_pitch_the_score_is_near_one(task: str, sung: dict[str, tuple[Corpus, FrameStore]]):
    info = downstream.load(task).INFO
    made, states = sung[info.kind]
    recognition = info.unit == "phones"
    settings = ProbeSettings(num_epochs=20 if recognition else 4, learning_rates=[0.01])
    result = probe(task, made, states, settings=settings)
    assert abs(result.chance - info.higher_is_better) > 0.4, "it has something to learn"
    assert result.test > 0.95 if info.higher_is_better else result.test < 0.05, result.test


@pytest.mark.parametrize("task", DISJOINT)
def test_a_test_speaker_in_train_is_named(task: str):
    made = labelled(
        corpus(
            utterances("train-a", ["a", "b", "mole"]),
            utterances("dev-a", ["c"], seed=1),
            [replace(u, id=f"again-{u.id}") for u in utterances("test-a", ["d", "mole"], seed=2)],
        )
    )
    with pytest.raises(ValueError, match="speaker 'mole' is in train and in test"):
        downstream.load(task).folds(made)
    honest = replace(made, utterances=tuple(u for u in made.utterances if u.speaker != "mole"))
    assert len(downstream.load(task).folds(honest)) == 1


@pytest.mark.parametrize("task", TASKS)
def test_folds_share_no_utterance_nor_a_speaker_where_that_is_promised(task: str, noise: tuple[Corpus, FrameStore]):
    folds = downstream.load(task).folds(noise[0])
    assert all(("speaker-disjoint" in fold.split) == (task in DISJOINT) for fold in folds)
    for fold in folds:
        for what in ("id", "speaker") if task in DISJOINT else ("id",):
            train, dev, test = ({getattr(u, what) for u in fold.utterances(split)} for split in SPLITS)
            assert not train & dev
            assert not train & test
            assert not dev & test


@pytest.mark.parametrize("task", TASKS)
def test_what_a_corpus_lacks_is_told_in_the_words_of_the_tasks_facts(task: str):
    bare = corpus(utterances("x", ["alone"], aligned=False))
    needs = downstream.load(task).INFO.needs.partition(",")[0]
    with pytest.raises(NotApplicable, match=needs):
        downstream.load(task).folds(bare)


def test_phones_without_times_are_enough_to_recognise_and_for_nothing_else():
    timed = random_phones(corpus(utterances("x", ["a", "b", "c"])))
    spoken = (
        replace(u, phones=None, phone_names=tuple(s.phone for s in u.segments(timed.phone_set)))
        for u in timed.utterances
    )
    untimed = replace(timed, utterances=tuple(spoken))
    for task in downstream.expand(["phone"]):
        folds = downstream.load(task).folds
        if downstream.load(task).INFO.unit == "phones":
            assert [len(fold.test) for fold in folds(untimed)] == [len(fold.test) for fold in folds(timed)]
        else:
            with pytest.raises(NotApplicable, match="phone alignments"):
                folds(untimed)
