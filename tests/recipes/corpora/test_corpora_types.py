"""Corpus, utterance and alignment: frame labels, selection, fingerprint."""

import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from s3prl_attention.recipes.corpora import Corpus, PhoneAlignment, PhoneSegment, Utterance, load_corpus


def alignment(*edges_s: float) -> PhoneAlignment:
    starts, ends = np.array(edges_s[:-1]), np.array(edges_s[1:])
    return PhoneAlignment(starts, ends, np.arange(len(starts), dtype=np.int16))


def corpus() -> Corpus:
    rows = [("train", "1", "u1"), ("train", "2", "u2"), ("dev", "3", "u3")]
    utterances = tuple(
        Utterance(id, Path("/data") / id, 16_000, 16_000, speaker, "7", subset, "HI", alignment(0.0, 0.5, 1.0))
        for subset, speaker, id in rows
    )
    return Corpus("toy", Path("/data"), utterances, ("SIL", "AA"), False, "made up")


def test_a_frame_has_the_class_of_the_segment_at_its_centre() -> None:
    phones = alignment(0.0, 0.014, 0.026, 0.05)
    assert phones.frame_labels(5).tolist() == [0, 1, 1, 2, 2]
    assert phones.frame_labels(5).dtype == np.int64
    assert phones.frame_labels(2, hop_s=0.03).tolist() == [1, 2]
    assert phones.frame_labels(0).tolist() == []


def test_a_partial_last_frame_belongs_to_the_last_segment_and_more_is_an_error() -> None:
    phones = alignment(0.0, 0.02, 0.041)
    assert phones.frame_labels(5).tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"ends at 0.041 s: ask for at most 5"):
        phones.frame_labels(6)


@pytest.mark.parametrize(
    ("rate_hz", "num_samples", "frames"),
    [
        (16_000, 1, 1),
        (16_000, 160, 1),
        (16_000, 161, 2),
        (8_000, 80, 1),
        (8_000, 81, 2),
        (44_100, 441, 1),
        (44_100, 442, 2),
    ],
)
def test_num_frames_counts_the_partial_frame(rate_hz: int, num_samples: int, frames: int) -> None:
    utterance = dataclasses.replace(corpus().utterances[0], sample_rate_hz=rate_hz, num_samples=num_samples)
    assert utterance.num_frames == frames
    assert utterance.seconds == num_samples / rate_hz


def test_segments_have_names() -> None:
    made = corpus()
    assert made.utterances[0].segments(made.phone_set) == [PhoneSegment(0.0, 0.5, "SIL"), PhoneSegment(0.5, 1.0, "AA")]
    assert dataclasses.replace(made.utterances[0], phones=None).segments(()) == []


def test_select_keeps_order_and_refuses_unknown_subsets() -> None:
    made = corpus()
    assert made.subsets() == ["dev", "train"]
    assert made.seconds == 3.0
    assert [item.id for item in made.select("train").utterances] == ["u1", "u2"]
    assert [item.id for item in made.select("dev", "train").utterances] == ["u1", "u2", "u3"]
    with pytest.raises(ValueError, match="no subset 'tran': did you mean 'train'"):
        made.select("tran")
    with pytest.raises(ValueError, match="at least one subset"):
        made.select()


def test_fingerprint_follows_content_and_not_the_folder() -> None:
    made = corpus()
    moved = [dataclasses.replace(item, path=Path("/elsewhere") / item.id) for item in made.utterances]
    assert dataclasses.replace(made, root=Path("/elsewhere"), utterances=tuple(moved)).fingerprint == made.fingerprint
    first, *others = made.utterances
    assert first.phones is not None
    shifted = PhoneAlignment(first.phones.start_s, first.phones.end_s + 0.001, first.phones.phone)
    relabelled = PhoneAlignment(first.phones.start_s, first.phones.end_s, first.phones.phone[::-1].copy())
    changes: list[dict[str, object]] = [
        {"id": "u9"},
        {"num_samples": 16_001},
        {"sample_rate_hz": 8_000},
        {"speaker": "9"},
        {"chapter": "9"},
        {"subset": "other"},
        {"content": 5},
        {"phones": None},
        {"phones": shifted},
        {"phones": relabelled},
        {"start_sample": 160},
        {"split": "train"},
        {"labels": {"label": "a"}},
        {"labels": {"label": "b"}},
        {"labels": {"mood": "a"}},
        {"phone_names": ("AA",)},
        {"phone_names": ("AA", "B")},
    ]
    prints = {
        made.fingerprint,
        dataclasses.replace(made, phone_set=("SIL", "AE")).fingerprint,
        made.select("dev").fingerprint,
    }
    for change in changes:
        changed = dataclasses.replace(first, **change)  # type: ignore[arg-type]
        prints.add(dataclasses.replace(made, utterances=(changed, *others)).fingerprint)
    assert len(prints) == 3 + len(changes)


def old_fingerprint(made: Corpus) -> str:
    """What filed caches and results before utterances had parts, splits and labels."""
    digest = hashlib.sha256(repr(made.phone_set).encode())
    for u in made.utterances:
        row = (u.id, u.num_samples, u.sample_rate_hz, u.content, u.speaker, u.chapter, u.subset, u.phones is None)
        digest.update(repr(row).encode())
        if u.phones is not None:
            for times_s in (u.phones.start_s, u.phones.end_s):
                digest.update(np.rint(times_s * 1e6).astype("<i8").tobytes())
            digest.update(u.phones.phone.astype("<i2").tobytes())
    return digest.hexdigest()[:16]


def test_caches_and_results_of_older_corpora_stay_valid(synthetic_tiny: Corpus) -> None:
    assert corpus().fingerprint == old_fingerprint(corpus()) == "9c6fbae3c77489f7"
    assert synthetic_tiny.fingerprint == synthetic_tiny.speech_fingerprint == old_fingerprint(synthetic_tiny)
    train = synthetic_tiny.select("train-clean")
    assert train.fingerprint == old_fingerprint(train)


def test_the_speech_fingerprint_leaves_out_what_features_do_not_read() -> None:
    made = corpus()
    first, *others = made.utterances

    def with_first(**change: object) -> Corpus:
        return dataclasses.replace(made, utterances=(dataclasses.replace(first, **change), *others))  # type: ignore[arg-type]

    for same in ({"split": "dev"}, {"labels": {"label": "x"}}, {"phone_names": ("AA",)}):
        assert with_first(**same).speech_fingerprint == made.speech_fingerprint
        assert with_first(**same).fingerprint != made.fingerprint
    assert with_first(start_sample=1).speech_fingerprint != made.speech_fingerprint
    untimed = dataclasses.replace(made, utterances=tuple(dataclasses.replace(u, phones=None) for u in made.utterances))
    unnamed = dataclasses.replace(untimed, phone_set=())
    assert untimed.speech_fingerprint == unnamed.speech_fingerprint == old_fingerprint(unnamed)
    assert untimed.fingerprint != unnamed.fingerprint
    implied = dataclasses.replace(with_first(labels={"label": "x"}), implied_labels=("label",))
    assert implied.fingerprint == made.fingerprint


def test_a_corpus_travels_to_other_processes() -> None:
    made = corpus()
    assert pickle.loads(pickle.dumps(made)).fingerprint == made.fingerprint


def test_load_corpus_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown corpus 'librispech': did you mean 'librispeech'"):
        load_corpus("librispech")
    with pytest.raises(ValueError, match="--root FOLDER"):
        load_corpus("librispeech")
    with pytest.raises(ValueError, match="takes no root: it is made in the cache"):
        load_corpus("synthetic", root=tmp_path)
    with pytest.raises(ValueError, match=r"unknown size 'smal'.*did you mean 'small'"):
        load_corpus("synthetic", size="smal")
    with pytest.raises(ValueError, match="whole number from 0"):
        load_corpus("synthetic", seed=-1)
