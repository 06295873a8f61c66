"""Audio with speakers, text and phone labels as typed objects: ``load_corpus``, ``read_audio`` and ``FrameStore``."""

from pathlib import Path

from .audio import read_audio
from .cache import atomic_folder, cache_dir, ensure_folder
from .corpus import Corpus, PhoneAlignment, PhoneSegment, Utterance, near_names
from .frame_store import FrameStore
from .librispeech import load_librispeech
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
    "read_audio",
]

CORPORA = ("synthetic", "librispeech")


def load_corpus(
    name: str, root: Path | None = None, size: str = "small", seed: int = 0, alignments: Path | None = None
) -> Corpus:
    """Load a corpus by name.

    Args:
        name: ``synthetic`` (made on first use and cached) or ``librispeech`` (a folder in LibriSpeech layout).
        root: the folder of ``librispeech``; ``synthetic`` takes none.
        size: of ``synthetic``: ``tiny`` (4 minutes of audio), ``small`` (about an hour) or ``base`` (about five hours).
        seed: of ``synthetic``: another seed gives other speakers and other sentences.
        alignments: for ``librispeech``, a file or folder of phone labels that is not at ``root/alignments``.

    Raises:
        ValueError: for an unknown name, size or folder, unreadable audio, malformed labels, or when ``synthetic`` lacks
            its optional packages.
    """
    if name == "synthetic":
        if root is not None or alignments is not None:
            raise ValueError(
                "corpus 'synthetic' is made in the cache and takes no root or alignments: drop them, or name the "
                "corpus 'librispeech'"
            )
        return load_synthetic(size=size, seed=seed)
    if name == "librispeech":
        if root is None:
            raise ValueError("corpus 'librispeech' needs a folder in LibriSpeech layout: give --root FOLDER")
        return load_librispeech(root, alignments=alignments)
    raise ValueError(f"unknown corpus {name!r}: {near_names(name, CORPORA)}")
