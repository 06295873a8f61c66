"""What a pre-training is made of: the corpus that a configuration names, its part to train on, and the lineage."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..upstream.maps_file import fingerprint
from .config import DataConfig, Recipe
from .corpora import Corpus, load_corpus


def named_corpus(data: DataConfig) -> Corpus:
    """Load the corpus that a configuration names."""
    return load_corpus(
        data.corpus,
        root=Path(data.root) if data.root else None,
        size=data.size,
        seed=data.seed,
        alignments=Path(data.alignments) if data.alignments else None,
        label=data.label,
        split_lists=data.split_lists,
        shared_speakers=data.shared_speakers,
        skip_broken=data.skip_broken,
    )


def pretrain_part(corpus: Corpus, subsets: Sequence[str]) -> Corpus:
    """The part to pre-train on: the subsets named, else all called train*, else all.

    Where none are named, utterances that the corpus assigns to test are left out. The part's fingerprint, under which
    checkpoints and features are filed, follows the utterances that are left.

    Raises:
        ValueError: for an unknown subset, or when nothing is left.
    """
    if subsets:
        return corpus.select(*subsets)
    part = corpus.select(*([name for name in corpus.subsets() if name.startswith("train")] or corpus.subsets()))
    kept = tuple(utterance for utterance in part.utterances if utterance.split != "test")
    if not kept:
        raise ValueError(
            f"all utterances of corpus {corpus.name!r} that could be pre-trained on are assigned to test: assign some "
            f"to train, or name subsets with data.pretrain_subsets"
        )
    return replace(part, utterances=kept)


def lineage(recipe: Recipe, corpus: Corpus, seed: int) -> dict[str, Any]:
    """What decides the weights, as plain values: written into every checkpoint."""
    resolved = recipe.resolved()
    decisive = {key: resolved[key] for key in ("upstream", "preset", "model", "attention", "pretrain")}
    decisive["attention"] = by_content(recipe.attention)
    decisive["pretrain"] = deciding(resolved["pretrain"])
    return {"recipe": decisive, "seed": seed, "corpus": corpus.name, "data": corpus.speech_fingerprint}


def deciding(pretrain: dict[str, Any]) -> dict[str, Any]:
    """The options of a pre-training without those that change its numbers by rounding alone, so that a run may be
    resumed on a machine with less memory; ``precision`` is left out at its default, which older runs did not name.

    ``accumulate`` does more to ``routing``, whose centroids move with every part of a batch: runs of it that differ in
    ``accumulate`` are taken for the same and are not quite.
    """
    left_out = {"accumulate", "compile"} | ({"precision"} if pretrain["precision"] == "float32" else set())
    return {key: value for key, value in pretrain.items() if key not in left_out}


def by_content(attention: dict[str, Any]) -> dict[str, Any]:
    """An attention's options with its file of maps named by content, so that the place of the file decides nothing."""
    return {**attention, "maps": fingerprint(attention["maps"])} if attention.get("maps") else attention
