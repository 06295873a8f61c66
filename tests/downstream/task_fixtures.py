"""Corpora and experts for the tests of the tasks: labels that are a tone's pitch, and labels that are nothing's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from downstream_fixtures import PHONES, corpus, utterances
from s3prl_attention import downstream
from s3prl_attention.recipes.corpora import Corpus, PhoneAlignment, Utterance
from torch import Tensor

HERTZ = {"SIL": 0.0, "AA": 500.0, "B": 1500.0, "CH": 3500.0}
SEGMENT_S = 0.08


def labelled(made: Corpus) -> Corpus:
    """The same with labels ``x`` and ``y`` by turns, which say nothing of the audio."""
    spoken = (replace(u, labels={"label": "xy"[number % 2]}) for number, u in enumerate(made.utterances))
    return replace(made, utterances=tuple(spoken))


def small() -> Corpus:
    """Four speakers, one chapter each, all that any task needs; there are no files."""
    return labelled(corpus(utterances("test", ["a", "b", "c", "d"], each=6)))


def random_phones(made: Corpus, num_phones: int = 39, seed: int = 0) -> Corpus:
    """The same with phones that are drawn from ``num_phones`` for every 100 ms; no silence."""
    rng = np.random.default_rng(seed)

    def drawn(utterance: Utterance) -> Utterance:
        edges_s = np.append(np.arange(0, utterance.num_frames, 10), utterance.num_frames) * 0.01
        phones = rng.integers(1, 1 + num_phones, size=len(edges_s) - 1).astype(np.int16)
        return replace(utterance, phones=PhoneAlignment(edges_s[:-1], edges_s[1:], phones))

    phone_set = ("SIL", *(f"P{number}" for number in range(num_phones)))
    return replace(made, utterances=tuple(map(drawn, made.utterances)), phone_set=phone_set)


def melodies(folder: Path, pitched: str, each: int = 12) -> Corpus:
    """WAV files of pure tones, whose pitch is the phone, the label of the utterance, or the speaker (``pitched``).

    Four speakers. Melodies of phones are silent in between; the others hold one tone.
    """
    rng = np.random.default_rng(7)
    made = []
    for speaker in range(4):
        for number in range(each):
            if pitched == "phone":
                notes = [int(rng.integers(1, 4))]
                while len(notes) < 6:
                    notes.append(1 + (notes[-1] - 1 + int(rng.integers(1, 3))) % 3)  # another one
                tune = [0, *(phone for note in notes for phone in (note, 0))]
                hertz = [HERTZ[PHONES[note]] for note in tune]
            else:
                tune = [1, 0, 1]
                hertz = [500.0 * (1 + 2 * (speaker if pitched == "speaker" else number % 3))] * len(tune)
            clock_s = np.arange(int(SEGMENT_S * 16_000)) / 16_000
            wave = np.concatenate([0.1 * np.sin(2 * np.pi * pitch * clock_s) for pitch in hertz])
            path = folder / f"s{speaker}-0-{number:04d}.wav"
            soundfile.write(path, wave + 0.001 * rng.normal(size=len(wave)), 16_000)
            edges_s = np.arange(len(tune) + 1) * SEGMENT_S
            phones = PhoneAlignment(edges_s[:-1], edges_s[1:], np.array(tune, dtype=np.int16))
            subset = "all" if pitched == "speaker" else ("train", "train", "dev", "test")[speaker]
            label = {"label": str(number % 3)}
            made.append(
                Utterance(
                    path.stem, path, 16_000, len(wave), f"s{speaker}", "0", subset, "", phones, labels=label
                )
            )  # fmt: skip
    return corpus(made)


def build(task: str, made: Corpus, dim: int = 5, rate: int = 160, expdir: Path | None = None, **datarc):
    """The expert of a task on a corpus, in the first fold."""
    module = downstream.load(task)
    fold = module.folds(made)[datarc.get("fold", 0)]
    section = {"datarc": datarc, "modelrc": {}}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return module.DownstreamExpert(dim, rate, downstream_expert=section, expdir=expdir, corpus=made, fold=fold)


def batch(expert, rate: int, num: int, dim: int = 5) -> tuple[list[Tensor], list[Tensor], list[str]]:
    """Random features of the first ``num`` train utterances, their labels and ids."""
    spoken = expert.data.fold.train[:num]
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(-(-u.num_frames * 160 // rate), dim, generator=generator) for u in spoken]
    return features, [expert.label(u) for u in spoken], [u.id for u in spoken]
