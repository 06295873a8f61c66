"""Folds: disjoint, exhaustive, and honest about what they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from downstream_fixtures import corpus, utterances
from s3prl_attention.downstream.splits import SPLITS, Fold, check_fold, label_folds, phone_folds, speaker_folds
from s3prl_attention.downstream.task import NotApplicable
from s3prl_attention.recipes.corpora import Corpus, Utterance, load_corpus


def ids(fold: Fold) -> dict[str, set[str]]:
    return {split: {u.id for u in fold.utterances(split)} for split in SPLITS}


def renamed(utterance: Utterance, prefix: str) -> Utterance:
    """Another recording of the same speaker."""
    id = f"{prefix}-{utterance.id}"
    return replace(utterance, id=id, path=Path(f"{id}.flac"))


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
    with pytest.raises(NotApplicable, match=message):
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
    other = [renamed(u, "again") for u in utterances("test", ["b"])]
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


@pytest.mark.parametrize(("start", "leaks"), [(0, True), (1000, True), (2400, False), (4800, False)])
def test_the_same_audio_under_two_ids_is_a_leak(start: int, leaks: bool):
    heard, other, dev = utterances("x", ["a"], each=3)
    heard = replace(heard, num_samples=4800)
    again = replace(heard, id="again", start_sample=start)
    after = replace(heard, id="after", start_sample=20_000)
    fold = Fold((heard, after, other), (dev,), (again,), "")
    if not leaks:
        assert check_fold(fold, speakers=False) is fold
        return
    with pytest.raises(ValueError, match=r"a-9-0000.flac: 'a-9-0000' in train and 'again' in test are the same audio"):
        check_fold(fold, speakers=False)


def test_utterances_that_lack_phones_beside_others_are_told():
    aligned, bare = utterances("x", ["a", "b", "c"], each=2), utterances("x", ["d"], each=3, aligned=False)
    elsewhere = utterances("y", ["e"], aligned=False)
    for times, what in ((True, "without phone alignments"), (False, "without phones")):
        split = phone_folds(corpus(aligned, bare, elsewhere), times=times)[0].split
        assert split.endswith(f"; 3 utterances {what} are left out")
    assert "left out" not in phone_folds(corpus(aligned, elsewhere))[0].split


def test_what_is_lacking_is_told_apart_from_what_was_asked_wrongly():
    short = corpus(utterances("x", ["a", "b"], each=2))
    for lacking in (short, corpus(utterances("x", ["a"])), corpus([])):
        with pytest.raises(NotApplicable):
            speaker_folds(lacking)
    with pytest.raises(ValueError, match="fewer than 3 utterances in x") as caught:
        speaker_folds(short, ["x"])
    assert not isinstance(caught.value, NotApplicable)
    with pytest.raises(NotApplicable, match=r"it has x .speaker 'a' has 2."):
        speaker_folds(short)


def test_phones_without_times_count_where_times_are_not_asked_for():
    timed, named = utterances("x", ["a", "b"]), utterances("x", ["c", "d"], aligned=False)
    made = corpus(timed, [replace(u, phone_names=("AA", "B")) for u in named], utterances("x", ["e"], aligned=False))
    assert {u.speaker for fold in phone_folds(made, times=False) for u in fold.test} == set("abcd")
    with pytest.raises(NotApplicable, match=r"need 3 speakers with alignments.*has 2"):
        phone_folds(made)
    with pytest.raises(NotApplicable, match=r"has no phones, which phone recognition learns from.*column phones"):
        phone_folds(corpus(utterances("x", ["e"], aligned=False)), times=False)


def test_an_utterance_of_silence_only_is_not_recognised():
    made = corpus(utterances("x", ["a", "b", "c"]))
    first, second, *others = made.utterances
    still = replace(first, phones=replace(first.phones, phone=np.zeros_like(first.phones.phone)))
    named = replace(second, phones=None, phone_names=("SIL", "SIL"))
    quiet = replace(made, utterances=(still, named, *others))
    for fold in phone_folds(quiet, times=False):
        assert {u.id for split in SPLITS for u in fold.utterances(split)} == {u.id for u in others}
        assert "2 utterances of silence only are left out" in fold.split
    assert first.id in {u.id for fold in phone_folds(quiet) for u in fold.test}, "its frames can be told"
    assert "silence only" not in phone_folds(made, times=False)[0].split
    with pytest.raises(NotApplicable, match="has no phones"):
        phone_folds(replace(made, utterances=(still, named)), times=False)


def assigned(*parts: tuple[str, list[str]], each: int = 5, shared: bool = False, **kw: Any) -> Corpus:
    """Utterances of the speakers of each split; several parts may name the same speaker."""
    made = [
        replace(renamed(u, f"{split or 'none'}-{number}"), split=split)
        for number, (split, speakers) in enumerate(parts)
        for u in utterances("all", speakers, each=each, **kw)
    ]
    return replace(corpus(made), assigned_by="the column split", shared_speakers=shared)


def by_split(made: Corpus) -> dict[str, set[str]]:
    return {split: {u.id for u in made.utterances if u.split == split} for split in SPLITS}


def with_labels(made: Corpus, **of_speaker: str) -> Corpus:
    """``x/y``: the speaker's utterances have both, by turns; an empty one is none."""
    found = []
    for number, u in enumerate(made.utterances):
        names = of_speaker.get(u.speaker, "").split("/")
        found.append(replace(u, labels={"label": names[number % len(names)]}))
    return replace(made, utterances=tuple(found))


def test_assigned_sets_are_used_as_they_are():
    made = assigned(("train", ["a", "b"]), ("dev", ["c"]), ("test", ["d", "e"]), ("", ["f"]))
    for folds in (phone_folds(made), label_folds(with_labels(made, **dict.fromkeys("abcdef", "x/y")))):
        (fold,) = folds
        assert ids(fold) == by_split(made)
        assert fold.split == "assigned by the column split: speaker-disjoint; 5 utterances are assigned to none"
    partly = replace(
        made, utterances=tuple(replace(u, phones=None if u.speaker == "e" else u.phones) for u in made.utterances)
    )
    (fold,) = phone_folds(partly)
    assert {u.speaker for u in fold.test} == {"d"}
    assert "5 utterances without phone alignments are left out" in fold.split


def test_an_assigned_speaker_in_two_sets_is_named_unless_the_corpus_allows_it():
    parts = (("train", ["a", "b", "c"]), ("dev", ["b"]), ("test", ["b", "c", "d"]))
    labels = dict.fromkeys("abcd", "x/y")
    for folds in (phone_folds, label_folds):
        with pytest.raises(ValueError, match=r"speaker 'b' .2 in all. is in train and in dev: .*shared_speakers=true"):
            folds(with_labels(assigned(*parts), **labels))
        made = with_labels(assigned(*parts, shared=True), **labels)
        (fold,) = folds(made)
        assert ids(fold) == by_split(made)
        assert fold.split == "assigned by the column split: 2 of the 3 speakers of test are in train or dev too"


def test_own_subsets_may_share_speakers_where_the_corpus_allows_it():
    again = [renamed(u, "again") for u in utterances("test", ["a"])]
    made = corpus(utterances("train", ["a"]), utterances("dev", ["b"]), again)
    with pytest.raises(ValueError, match="speaker 'a' is in train and in test"):
        phone_folds(made)
    (fold,) = phone_folds(replace(made, shared_speakers=True))
    assert fold.split.startswith("1 of the 1 speakers of test are in train or dev too, the corpus's own subsets")


def test_without_an_assigned_dev_some_speakers_of_train_are_dev():
    made = assigned(("train", [f"s{n:02d}" for n in range(30)]), ("test", ["t"]))
    (fold,) = phone_folds(made)
    dev = {u.speaker for u in fold.dev}
    assert dev == {"s05", "s15", "s25"}
    assert dev.isdisjoint(u.speaker for u in fold.train)
    assert {u.id for u in (*fold.train, *fold.dev)} == by_split(made)["train"]
    assert "speaker-disjoint; no dev is assigned: 3 speakers of train are dev" in fold.split
    assert phone_folds(made) == [fold]


def test_dev_speakers_leave_every_class_in_train():
    speakers = [f"s{n}" for n in range(10)]
    made = assigned(("train", speakers), ("test", ["t"]))
    made = with_labels(made, **{**dict.fromkeys(speakers, "x"), "s5": "y", "t": "x/y"})
    (fold,) = label_folds(made)
    assert {u.speaker for u in fold.dev} == {"s0"}, "s5 would be in the middle, but nobody else says y"
    only = with_labels(made, s0="x", s1="y", t="x/y")
    (fold,) = label_folds(only)
    assert len(fold.dev) == 1
    assert fold.split == (
        "assigned by the column split: test shares no speaker, but 1 of the 1 speakers of dev are in train too; no dev "
        "is assigned: 1 utterances of train are dev, spread over its speakers; 40 utterances without a label are left "
        "out"
    )
    assert {u.labels["label"] for u in fold.train} == {"x", "y"}


def test_where_speakers_are_shared_a_tenth_of_the_utterances_is_dev():
    made = assigned(("train", ["a", "b"]), ("test", ["b"]), each=25, shared=True)
    (fold,) = phone_folds(made)
    assert len(fold.dev) == 5
    assert {u.speaker for u in fold.dev} == {"a", "b"}
    assert "5 utterances of train are dev" in fold.split
    assert {u.id for u in (*fold.train, *fold.dev)} == by_split(made)["train"]
    with pytest.raises(NotApplicable, match="no dev is assigned, and train is too small"):
        phone_folds(assigned(("train", ["a"]), ("test", ["a"]), each=1, shared=True))


def test_assigned_speakers_are_a_closed_set():
    made = assigned(("train", ["a", "b"]), ("dev", ["a"]), ("test", ["b", "a"]))
    (fold,) = speaker_folds(made)
    assert ids(fold) == by_split(made)
    assert "closed set of 2 speakers; 2 of the 2 chapters of test are in train too" in fold.split
    (fold,) = speaker_folds(assigned(("train", ["a", "b"]), ("test", ["b"]), each=10))
    assert len(fold.dev) == 2
    assert {u.speaker for u in fold.train} == {"a", "b"}
    (fold,) = speaker_folds(assigned(("train", ["a", "a", "b"]), ("test", ["b"]), each=1))
    assert [u.speaker for u in fold.dev] == ["a"], "b has one utterance, which train needs"
    other = [replace(u, chapter="another") if u.split == "test" else u for u in made.utterances]
    assert "the chapters of test are not in train" in speaker_folds(replace(made, utterances=tuple(other)))[0].split
    unknown = [replace(u, chapter="") for u in made.utterances]
    assert "chapters are not known" in speaker_folds(replace(made, utterances=tuple(unknown)))[0].split


def test_assigned_test_speakers_who_are_not_in_train_are_named():
    with pytest.raises(
        ValueError, match=r"speaker 'c', 'd', 'e' and 1 more of test is not in train .* closed"
    ) as caught:
        speaker_folds(assigned(("train", ["a", "b"]), ("test", ["b", "c", "d", "e", "f"])))
    assert not isinstance(caught.value, NotApplicable)
    with pytest.raises(ValueError, match="speaker 'c' of dev is not in train"):
        speaker_folds(assigned(("train", ["a", "b"]), ("dev", ["c"]), ("test", ["b"])))
    with pytest.raises(NotApplicable, match="speaker-disjoint tasks only"):
        speaker_folds(assigned(("train", ["a", "b"]), ("test", ["c"])))
    with pytest.raises(NotApplicable, match=r"two speakers or more in train; .* has 1"):
        speaker_folds(assigned(("train", ["a"]), ("test", ["a"])))


def test_assigned_sets_that_lack_something():
    made = assigned(("train", ["a", "b"]), ("dev", ["c"]))
    for folds in (phone_folds, speaker_folds):
        with pytest.raises(NotApplicable, match="test of corpus 'toy' has no utterance with"):
            folds(made)
    none = replace(corpus(utterances("x", ["a", "b", "c"])), assigned_by="the split lists")
    with pytest.raises(NotApplicable, match=r"train and test of corpus 'toy' .* assigned by the split lists"):
        phone_folds(none)


def test_assigned_classes_of_test_are_all_in_train():
    made = assigned(("train", ["a", "b", "c"]), ("dev", ["d"]), ("test", ["e"]))
    with pytest.raises(ValueError, match="class 'z' of test is not in train"):
        label_folds(with_labels(made, a="x", b="y", d="x", e="x/z"))
    with pytest.raises(ValueError, match="class 'z' of dev is not in train"):
        label_folds(with_labels(made, a="x", b="y", d="z", e="x"))
    with pytest.raises(NotApplicable, match="train of corpus 'toy' has one class only"):
        label_folds(
            with_labels(assigned(("train", ["a", "b"]), ("test", ["e"]), ("", ["f"])), a="x", b="x", e="x", f="y")
        )


def test_labels_follow_the_subsets_where_all_three_have_some():
    parts = [utterances(f"{split}-clean", [split + "1", split + "2"]) for split in SPLITS]
    speakers = {f"{split}{n}": "x" if n == 1 else "y" for split in SPLITS for n in (1, 2)}
    (fold,) = label_folds(with_labels(corpus(*parts), **speakers))
    assert fold.split == (
        "speaker-disjoint, the corpus's own subsets: train train-clean, dev dev-clean, test test-clean"
    )
    with pytest.raises(ValueError, match="class 'z' of test is not in train"):
        label_folds(with_labels(corpus(*parts), **{**speakers, "test1": "z"}))


@pytest.mark.parametrize(
    ("classes", "num_folds"),
    [
        ("xxyy", 4),
        ("xxxyyy", 6),
        ("xyxyxyxyxyxyxy", 7),
        ("xxxxyyyyzzzz", 7),
        ("xxxxxxxxxxyy", 7),
        ("tuvwxyz" * 3, 6),
        ("mnopqrstuvwxyz" * 2, 6),
        ("uvwxyz" * 2, 4),
    ],
)
def test_labelled_speakers_rotate_so_that_train_has_every_class(classes: str, num_folds: int):
    speakers = [f"s{n:02d}" for n in range(len(classes))]
    made = with_labels(
        corpus(utterances("all", [*speakers, "none"], each=2)), **dict(zip(speakers, classes, strict=True))
    )
    folds = label_folds(made)
    assert len(folds) == num_folds
    assert_disjoint_and_tested_once(folds, {u.id for u in made.utterances if u.speaker != "none"})
    for fold in folds:
        assert {u.labels["label"] for u in fold.train} == set(classes)
        groups = [{u.speaker for u in fold.utterances(split)} for split in SPLITS]
        assert sum(map(len, groups)) == len(set().union(*groups))
        assert "2 utterances without a label are left out" in fold.split


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "in corpus 'toy' there are none: name a column with data.label=COLUMN, of a manifest"),
        ({"a": "x", "b": "x"}, "all are 'x'"),
        ({"a": "x", "b": "y"}, "needs 3 speakers with labels .* has 2"),
        ({"a": "x", "b": "x", "c": "y"}, "held out in turn: class 'y' of dev is not in train"),
    ],
)
def test_label_task_says_what_it_needs(labels: dict[str, str], message: str):
    with pytest.raises(NotApplicable, match=message):
        label_folds(with_labels(corpus(utterances("x", ["a", "b", "c"])), **labels))


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
    (label,) = label_folds(synthetic_tiny)
    assert ids(label) == ids(phone)
