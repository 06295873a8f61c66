"""Audio with speakers, text and labels as typed objects: ``load_corpus``, ``read_utterance`` and ``FrameStore``."""

import dataclasses
from pathlib import Path

from .audio import read_audio, read_utterance
from .audio_headers import raise_for_all
from .cache import atomic_folder, cache_dir, ensure_folder
from .corpus import Corpus, PhoneAlignment, PhoneSegment, Utterance, near_names
from .frame_store import FrameStore
from .librispeech import load_librispeech
from .manifest import load_manifest
from .split_lists import assign_splits
from .synthetic import load_synthetic

__all__ = [
    "CORPORA",
    "Corpus",
    "FrameStore",
    "PhoneAlignment",
    "PhoneSegment",
    "Utterance",
    "atomic_folder",
    "cache_dir",
    "ensure_folder",
    "load_corpus",
    "raise_for_all",
    "read_audio",
    "read_utterance",
]

CORPORA = ("synthetic", "librispeech", "manifest")
ROOTS = {
    "librispeech": "a folder in LibriSpeech layout: give --root FOLDER",
    "manifest": "a CSV that lists its recordings: give --root FILE.csv",
}
_MADE = "it is made in the cache; drop it, or name another corpus"
REFUSED = {  # options that a corpus does not take, and what to do instead
    "synthetic": {
        "root": _MADE,
        "alignments": _MADE,
        "label": "its one label is the speaker's sex",
        "split_lists": _MADE,
        "shared_speakers": "its subsets share none",
        "skip_broken": "where a file of it is damaged, remove its folder in the cache, it will be made again",
    },
    "librispeech": {"label": "list the recordings in a CSV with that column, and name the corpus 'manifest'"},
    "manifest": {
        "alignments": "write them into its column phones",
        "split_lists": "write them into its column split",
    },
}


def load_corpus(
    name: str,
    root: Path | None = None,
    size: str = "small",
    seed: int = 0,
    alignments: Path | None = None,
    label: str = "label",
    split_lists: str | None = None,
    shared_speakers: bool = False,
    skip_broken: bool = False,
) -> Corpus:
    """Load a corpus by name.

    Args:
        name: ``synthetic`` (made on first use and cached), ``librispeech`` (a folder in LibriSpeech layout) or
            ``manifest`` (a CSV that lists recordings).
        root: the folder of ``librispeech``, the file of ``manifest`` or its folder; ``synthetic`` takes none.
        size: of ``synthetic``: ``tiny`` (4 minutes of audio), ``small`` (about an hour) or ``base`` (about five hours).
        seed: of ``synthetic``: another seed gives other speakers and other sentences.
        alignments: for ``librispeech``, a file or folder of phone labels that is not at ``root/alignments``.
        label: for ``manifest``, the column that tasks of kind ``label`` read.
        split_lists: for ``librispeech``, a folder or files that list the utterances of train and test
            (``assign_splits``).
        shared_speakers: for ``librispeech`` and ``manifest``, whether train, dev and test may share speakers.
        skip_broken: for the same, leave out recordings that cannot be decoded to their end, instead of refusing.

    Raises:
        ValueError: for an unknown name, size or folder, unreadable audio, malformed labels, an option that the corpus
            does not take, or when ``synthetic`` lacks its optional packages.
    """
    if name not in CORPORA:
        raise ValueError(f"unknown corpus {name!r}: {near_names(name, CORPORA)}")
    given = {
        "root": root is not None,
        "alignments": alignments is not None,
        "label": label != "label",
        "split_lists": split_lists is not None,
        "shared_speakers": shared_speakers,
        "skip_broken": skip_broken,
    }
    refused = [option for option in REFUSED[name] if given[option]]
    if refused:
        raise ValueError(f"corpus {name!r} takes no {' or '.join(refused)}: {REFUSED[name][refused[0]]}")
    if name == "synthetic":
        return load_synthetic(size=size, seed=seed)
    if root is None:
        raise ValueError(f"corpus {name!r} needs {ROOTS[name]}")
    if name == "manifest":
        return load_manifest(root, label=label, shared_speakers=shared_speakers, skip_broken=skip_broken)
    corpus = load_librispeech(root, alignments=alignments, skip_broken=skip_broken)
    if split_lists is not None:
        return assign_splits(corpus, split_lists)
    return dataclasses.replace(corpus, shared_speakers=shared_speakers)
