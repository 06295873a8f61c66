"""Speech without audio for the tests of hidden-state pictures: utterances with phones, and stores with known states."""

from pathlib import Path

import numpy as np
from s3prl_attention.recipes.corpora import Corpus, FrameStore, PhoneAlignment, Utterance
from s3prl_attention.recipes.corpora.corpus import PHONE_SET

FRAMES = 60
PHONES = ("SIL", "AA", "S", "T", "M", "L")


def utterance(speaker: str, chapter: str, number: int, aligned: bool = True) -> Utterance:
    """0.6 s in segments of 50 to 90 ms, one of each of ``PHONES`` and AA to the end."""
    starts = np.array([0, 5, 12, 21, 26, 33, 40])
    ends = np.append(starts[1:], FRAMES)
    names = [*np.roll(PHONES, number).tolist(), "AA"]
    ids = np.array([PHONE_SET.index(name) for name in names], np.int16)
    phones = PhoneAlignment(starts / 100, ends / 100, ids) if aligned else None
    id = f"{speaker}-{chapter}-{number:04d}"
    return Utterance(id, Path("nowhere"), 16_000, FRAMES * 160, speaker, chapter, "test", "", phones)


def corpus(*speakers: str, chapters: int = 2, each: int = 3, aligned: bool = True) -> Corpus:
    made = [utterance(s, str(c), n, aligned) for s in speakers for c in range(chapters) for n in range(each)]
    return Corpus("toy", Path("nowhere"), tuple(made), PHONE_SET if aligned else (), True, "made for a test")


def store(folder: Path, made: Corpus, num_states: int = 3, dim: int = 4, repeat: int = 3, clean: bool = True):
    """States (t, S, D) that tell what they are of: phone and speaker in the last layer, else noise.

    Value [0, 0] of a frame is its number.
    """
    generator = np.random.default_rng(0)
    speakers = sorted({u.speaker for u in made.utterances})

    def of(u: Utterance) -> np.ndarray:
        states = generator.standard_normal((FRAMES // repeat, num_states, dim))
        states[:, 0, 0] = np.arange(len(states))
        if clean and u.phones is not None:
            labels = u.phones.frame_labels(FRAMES)[repeat // 2 :: repeat]
            states[:, -1] *= 0.01
            states[:, -1, 0] += 10 * labels
            states[:, -1, 1] += 100 * speakers.index(u.speaker)
        return states

    meta = {"frame_repeat": repeat, "num_layers": num_states - 1, "dim": dim, "upstream_rate": 160 * repeat}
    return FrameStore.create(folder, ((u.id, of(u)) for u in made.utterances), "float32", meta)
