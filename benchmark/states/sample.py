"""Which frames and utterances a picture of hidden states shows: the same ones for every upstream, and their states.

Legend: P points (frames or utterances), S hidden states, D model dim.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...downstream.alignment import LABEL_HOP_SAMPLES, feature_frames
from ...downstream.hidden_states import means
from ...recipes.corpora import Corpus, FrameStore, Utterance
from ...recipes.corpora.corpus import SAMPLE_RATE_HZ
from ..scattered import scattered

FRAMES_PER_PHONE = 40
PHONE_UTTERANCES = 200  # the most that frames are taken from, so that a large corpus is not encoded for a picture
PER_SPEAKER = 12  # utterances, at most
FEWEST_PER_SPEAKER = 3  # as the speaker task wants
HOP_S = LABEL_HOP_SAMPLES / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Sample:
    """P points, each with the utterance it is in or is.

    Args:
        utterances: of each point.
        names: (P,) the phone or the speaker.
        speakers: (P,) who speaks.
        groups: (P,) points of one group are too near to each other, for other reasons, to be called neighbours.
        frames: (P,) the 10 ms frame; None where a point is the mean over a whole utterance.
    """

    utterances: tuple[Utterance, ...]
    names: np.ndarray
    speakers: np.ndarray
    groups: np.ndarray
    frames: np.ndarray | None = None

    def states(self, store: FrameStore) -> np.ndarray:
        """(P, S, D) float32 from stored hidden states."""
        if self.frames is None:
            return means(store, [u.id for u in self.utterances])
        found = np.empty((len(self.utterances), *store.frame_shape), np.float32)
        for row, (utterance, frame) in enumerate(zip(self.utterances, self.frames, strict=True)):
            states = store[utterance.id]
            found[row] = states[feature_frames(utterance.num_frames, len(states), store.meta["upstream_rate"])[frame]]
        return found


def phone_sample(corpus: Corpus, per_phone: int = FRAMES_PER_PHONE, most: int = PHONE_UTTERANCES) -> Sample | None:
    """The middle frames of up to ``per_phone`` segments of each phone, from at most ``most`` utterances.

    One frame a segment, because neighbours within one are near for no reason that matters. Groups are speakers. None
    where no two speakers have phone alignments, or these hold no two phones.
    """
    labelled = scattered(u for u in corpus.utterances if u.phones is not None)[:most]
    if len({u.speaker for u in labelled}) < 2:
        return None
    found: dict[str, list[tuple[Utterance, int]]] = defaultdict(list)
    for utterance in labelled:
        for segment in utterance.segments(corpus.phone_set):
            frame = min(int((segment.start_s + segment.end_s) / 2 / HOP_S), utterance.num_frames - 1)
            found[segment.phone].append((utterance, frame))
    if len(found) < 2:
        return None
    generator = np.random.default_rng(0)
    points = [
        (phone, *found[phone][place])
        for phone in sorted(found)
        for place in sorted(generator.permutation(len(found[phone]))[:per_phone])
    ]
    phones, utterances, frames = zip(*points, strict=True)
    speakers = np.array([u.speaker for u in utterances])
    return Sample(utterances, np.array(phones), speakers, speakers, np.array(frames))


def speaker_sample(corpus: Corpus, num_speakers: int, per_speaker: int = PER_SPEAKER) -> Sample | None:
    """Up to ``per_speaker`` utterances of each of ``num_speakers`` speakers, those with the most utterances.

    Groups are sessions (chapters) where each speaker has two or more, so that a speaker must be found again in another
    session; else single utterances. None where no two speakers have three utterances.
    """
    spoken: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in scattered(corpus.utterances):
        spoken[utterance.speaker].append(utterance)
    fitting = [name for name in spoken if len(spoken[name]) >= FEWEST_PER_SPEAKER]
    fitting.sort(key=lambda name: -min(per_speaker, len(spoken[name])))  # stable: chance decides between equals
    if len(fitting) < 2:
        return None
    chosen = tuple(u for name in sorted(fitting[:num_speakers]) for u in _by_turns(spoken[name])[:per_speaker])
    speakers = np.array([u.speaker for u in chosen])
    sessions = np.array([f"{u.speaker}/{u.chapter}" for u in chosen])
    again = all(len(set(sessions[speakers == name])) > 1 for name in set(speakers))
    return Sample(chosen, speakers, speakers, sessions if again else np.array([u.id for u in chosen]))


def _by_turns(utterances: Sequence[Utterance]) -> list[Utterance]:
    """One of each session, then the next of each."""
    turns: dict[str, int] = defaultdict(int)
    numbered = []
    for utterance in utterances:
        numbered.append((turns[utterance.chapter], utterance.chapter, utterance))
        turns[utterance.chapter] += 1
    return [utterance for _, _, utterance in sorted(numbered, key=lambda item: item[:2])]
