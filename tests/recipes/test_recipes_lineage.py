"""Which part of a corpus is pre-trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
from recipes_fixtures import write_corpus
from s3prl_attention.recipes.corpora import load_corpus
from s3prl_attention.recipes.lineage import pretrain_part


def test_the_subsets_to_train_on(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "speech", 4)
    (root / "train-clean-100").rename(root / "dev-clean")
    only = load_corpus("librispeech", root)
    assert pretrain_part(only, []).subsets() == ["dev-clean"]
    write_corpus(root, 3)
    for path in (root / "train-clean-100").rglob("*.wav"):
        path.rename(path.with_stem("t" + path.stem))
    both = load_corpus("librispeech", root)
    assert both.subsets() == ["dev-clean", "train-clean-100"]
    assert pretrain_part(both, []).subsets() == ["train-clean-100"]
    assert pretrain_part(both, ["dev-clean"]).subsets() == ["dev-clean"]
    with pytest.raises(ValueError, match="did you mean 'dev-clean'"):
        pretrain_part(both, ["dev-clear"])


def test_what_is_assigned_to_test_is_not_pretrained_on(tmp_path: Path) -> None:
    corpus = load_corpus("librispeech", write_corpus(tmp_path / "speech", 8))
    splits = ["train", "test", "", "dev"]
    assigned = replace(
        corpus,
        utterances=tuple(replace(u, split=splits[number % 4]) for number, u in enumerate(corpus.utterances)),
        assigned_by="the split lists",
    )
    part = pretrain_part(assigned, [])
    assert [u.id for u in part.utterances] == [u.id for u in assigned.utterances if u.split != "test"]
    assert part.speech_fingerprint != corpus.speech_fingerprint
    assert pretrain_part(assigned, assigned.subsets()).utterances == assigned.utterances, "as named"
    assert pretrain_part(corpus, []).speech_fingerprint == corpus.speech_fingerprint
    none = replace(assigned, utterances=tuple(replace(u, split="test") for u in assigned.utterances))
    with pytest.raises(ValueError, match="are assigned to test: assign some to train"):
        pretrain_part(none, [])
