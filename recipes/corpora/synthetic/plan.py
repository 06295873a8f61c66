"""What a synthetic corpus consists of: sizes, speakers, chapters and ids, the same for the loader and its workers."""

import hashlib
import random
from dataclasses import dataclass

GENERATOR_VERSION = 1  # raise it whenever a sample, a text or a label may come out differently
NUM_CHAPTERS = 2  # recording sessions per speaker, each with its own channel


@dataclass(frozen=True)
class Size:
    """How much speech: speakers and utterances per speaker of each subset, and sentences per utterance."""

    subsets: dict[str, tuple[int, int]]
    max_sentences: int


SIZES = {
    "tiny": Size({"train-clean": (8, 6), "dev-clean": (2, 4), "test-clean": (2, 4)}, max_sentences=1),
    "small": Size({"train-clean": (40, 12), "dev-clean": (8, 6), "test-clean": (8, 6)}, max_sentences=3),
    "base": Size({"train-clean": (100, 24), "dev-clean": (10, 12), "test-clean": (20, 12)}, max_sentences=3),
}


@dataclass(frozen=True)
class SpeakerPlan:
    """One speaker's share of the corpus."""

    index: int
    subset: str
    num_utterances: int

    @property
    def id(self) -> str:
        """Name of the speaker's folder."""
        return str(1000 + self.index)

    def utterances(self) -> list[tuple[int, str, str]]:
        """``(chapter index, chapter id, utterance id)`` of each utterance, in order."""
        rows = []
        for chapter in range(NUM_CHAPTERS):
            chapter_id = str(10000 + 10 * self.index + chapter)
            share = self.num_utterances // NUM_CHAPTERS + (chapter < self.num_utterances % NUM_CHAPTERS)
            rows += [(chapter, chapter_id, f"{self.id}-{chapter_id}-{number:04d}") for number in range(share)]
        return rows


def speaker_plans(size: str) -> list[SpeakerPlan]:
    """All speakers of a size; no speaker is in two subsets."""
    plans: list[SpeakerPlan] = []
    for subset, (num_speakers, num_utterances) in SIZES[size].subsets.items():
        first = len(plans)
        plans += [SpeakerPlan(first + number, subset, num_utterances) for number in range(num_speakers)]
    return plans


def stream(*key: object) -> random.Random:
    """Random numbers that depend on the key alone: the same in any process and in any order.

    Draw with ``.random()`` only: that sequence is the one that Python promises to keep from version to version.
    """
    digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def uniform(draw: random.Random, low: float, high: float) -> float:
    """One number between ``low`` and ``high``."""
    return low + (high - low) * draw.random()
