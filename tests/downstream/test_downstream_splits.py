"""Folds: disjoint, exhaustive, and honest about what they are."""

from dataclasses import replace
from pathlib import Path

import pytest
from downstream_fixtures import corpus, utterances
from s3prl_attention.downstream.splits import SPLITS, Fold, check_fold, phone_folds, speaker_folds
from s3prl_attention.recipes.corpora import load_corpus


def ids(fold: Fold) -> dict[str, set[str]]:
    return {split: {u.id for u in fold.utterances(split)} for split in SPLITS}


def assert_disjoint_and_tested_once(folds: list[Fold], everything: set[str]) -> None:
    tested: list[str] = []
    for fold in folds:
        sets = ids(fold)
        assert sum(map(len, sets.values())) == len(set().union(*sets.values())), "a fold's sets overlap"
        assert sum(map(len, sets.values())) == sum(len(fold.utterances(split)) for split in SPLITS), "one comes twice"
        assert set().union(*sets.values()) == everything
        tested += sorted(sets["test"])
    assert sorted(tested) == sorted(everything)


def test_cross_chapter_fold_keeps_the_held_out_chapter_out_of_train():
    made = corpus(utterances("train-clean", ["a", "b", "c"], chapters=2, each=5))
    (fold,) = speaker_folds(made)
    assert {u.chapter for u in fold.train} == {"9"}, "chapter 9 comes before chapter 10"
    assert {u.chapter for u in (*fold.dev, *fold.test)} == {"10"}
    for part in (fold.train, fold.dev, fold.test):
        assert {u.speaker for u in part} == {"a", "b", "c"}
    assert set().union(*ids(fold).values()) == {u.id for u in made.utterances}
    assert len(fold.test) == 9
    assert len(fold.dev) == 6
    assert "cross-chapter" in fold.split
    assert "3 speakers of train-clean" in fold.split


def test_a_chapter_of_one_utterance_is_joined_to_the_next_for_dev_and_test():
    parts = utterances("train", ["a", "b"], chapters=3, each=2)
    made = corpus([u for u in parts if not (u.chapter == "11" and u.id.endswith("1"))])
    (fold,) = speaker_folds(made)
    assert {u.chapter for u in fold.train} == {"9"}
    assert {u.chapter for u in (*fold.dev, *fold.test)} == {"10", "11"}


def test_speakers_with_one_chapter_are_left_out_of_a_cross_chapter_fold_and_counted():
    made = corpus(utterances("train", ["a", "b"], chapters=2), utterances("train", ["c"], chapters=1))
    (fold,) = speaker_folds(made)
    assert {u.speaker for u in fold.train} == {"a", "b"}
    assert "1 speakers with one chapter only are left out" in fold.split


def test_one_chapter_each_rotates_blocks_of_neighbours_and_says_that_the_session_is_shared():
    made = corpus(utterances("test-other", ["a", "b", "c"], each=10))
    folds = speaker_folds(made)
    assert len(folds) == 5
    assert_disjoint_and_tested_once(folds, {u.id for u in made.utterances})
    for fold in folds:
        assert "share the recording session" in fold.split
        for part in (fold.test, fold.dev):
            for speaker in "abc":
                numbers = [int(u.id[-4:]) for u in part if u.speaker == speaker]
                assert numbers == list(range(numbers[0], numbers[0] + 2)), "a block is made of neighbours"


def test_speaker_folds_are_as_many_as_the_shortest_speaker_has_utterances():
    made = corpus(utterances("x", ["a"], each=3), utterances("x", ["b"], each=11))
    folds = speaker_folds(made)
    assert len(folds) == 3
    assert_disjoint_and_tested_once(folds, {u.id for u in made.utterances})


def test_train_subsets_are_preferred_where_every_speaker_has_three_utterances():
    train, other = utterances("train", ["a", "b"], each=4), utterances("test", ["c", "d"], each=4)
    assert {u.subset for u in speaker_folds(corpus(train, other))[0].train} == {"train"}
    too_short = utterances("train", ["a", "b"], each=2)
    assert {u.subset for u in speaker_folds(corpus(too_short, other))[0].train} == {"test"}
    assert {u.subset for u in speaker_folds(corpus(train, other), ["test"])[0].train} == {"test"}


def test_phone_fold_follows_the_subsets_where_all_three_are_aligned():
    parts = [utterances(f"{split}-clean", [split + "1", split + "2"]) for split in ("train", "dev", "test")]
    (fold,) = phone_folds(corpus(*parts))
    assert ids(fold) == {
        split: {u.id for u in part} for split, part in zip(("train", "dev", "test"), parts, strict=True)
    }
    assert "train train-clean, dev dev-clean, test test-clean" in fold.split


@pytest.mark.parametrize(("num_speakers", "num_folds"), [(3, 3), (7, 7), (10, 7)])
def test_phone_folds_rotate_speakers(num_speakers: int, num_folds: int):
    made = corpus(
        utterances("train", ["unaligned"], aligned=False),
        utterances("test-other", [f"s{n}" for n in range(num_speakers)], each=2),
    )
    folds = phone_folds(made)
    assert len(folds) == num_folds
    assert_disjoint_and_tested_once(folds, {u.id for u in made.utterances if u.phones is not None})
    for fold in folds:
        speakers = [{u.speaker for u in fold.utterances(split)} for split in SPLITS]
        assert sum(map(len, speakers)) == len(set().union(*speakers)) == num_speakers


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (corpus(utterances("x", ["a", "b", "c"], aligned=False)), "has no phone alignments.*CTM and TextGrid"),
        (corpus(utterances("x", ["a", "b"])), "need 3 speakers with alignments.*has 2"),
    ],
)
def test_phone_task_says_what_it_needs(made, message: str):
    with pytest.raises(ValueError, match=message):
        phone_folds(made)


@pytest.mark.parametrize(
    ("made", "subsets", "message"),
    [
        (corpus(utterances("x", ["a", "b"], each=2)), (), "no subset of corpus 'toy' has 3 utterances"),
        (
            corpus(utterances("x", ["a", "b"], each=2)),
            ("x",),
            "speaker 'a' .2 in all. has fewer than 3 utterances in x",
        ),
        (corpus(utterances("x", ["a"])), (), "needs two speakers"),
        (corpus(utterances("clean", ["a", "b"])), ("claen",), "did you mean 'clean'"),
        (corpus([]), (), "it has no utterances"),
    ],
)
def test_speaker_task_says_what_it_needs(made, subsets: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        speaker_folds(made, subsets)


def test_a_speaker_in_two_subsets_is_named():
    other = [replace(u, id=f"again-{u.id}") for u in utterances("test", ["b"])]
    made = corpus(utterances("train", ["a"]), utterances("dev", ["b"]), other)
    with pytest.raises(ValueError, match="speaker 'b' is in dev and in test"):
        phone_folds(made)


def test_a_fold_with_a_leak_or_an_empty_set_is_refused():
    a, b, c = (tuple(utterances("x", [name], each=1)) for name in "abc")
    with pytest.raises(ValueError, match="utterance 'a-9-0000' is in train and in test"):
        check_fold(Fold(a, b, a, ""), speakers=False)
    with pytest.raises(ValueError, match="dev has none"):
        check_fold(Fold(a, (), c, ""), speakers=True)
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        Fold(a, b, c, "").utterances("valid")


def test_real_excerpt(librispeech_mini: Path):
    made = load_corpus("librispeech", librispeech_mini)
    phone, speaker = phone_folds(made), speaker_folds(made)
    test_other = {u.id for u in made.utterances if u.subset == "test-other"}
    assert (len(phone), len(speaker)) == (7, 5)
    assert_disjoint_and_tested_once(phone, test_other)
    assert_disjoint_and_tested_once(speaker, test_other)
    assert "share the recording session" in speaker[0].split


def test_synthetic_corpus(synthetic_tiny):
    (phone,), (speaker,) = phone_folds(synthetic_tiny), speaker_folds(synthetic_tiny)
    assert len(phone.train) + len(phone.dev) + len(phone.test) == len(synthetic_tiny.utterances)
    assert "cross-chapter" in speaker.split
