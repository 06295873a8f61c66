"""What a probe costs, from a few of its real batches on random hidden states.

Legend: S hidden states, D model dim.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
import torch

from .. import downstream
from ..downstream.probe import Batches, Candidate, ProbeSettings, build_probe
from ..downstream.splits import SPLITS, Fold
from ..downstream.states import States
from ..recipes.corpora import Corpus, FrameStore, Utterance
from .measure import median_s
from .noise import Noise
from .workloads import wait

NUM_BATCHES = 4  # of train, the first of which is not timed


def measure_probe(
    task: str, corpus: Corpus, shape: tuple[int, int], frame_repeat: int, settings: ProbeSettings, device: str
) -> float:
    """Seconds of one probe with all its learning rates, folds and epochs.

    Args:
        task: which.
        corpus: with the labels.
        shape: (S, D) of a frame of the hidden states.
        frame_repeat: 10 ms frames to one of theirs.
        settings: of the probe.
        device: where it trains.

    Raises:
        Exception: whatever the task raises.
    """
    module = downstream.load(task)
    folds: list[Fold] = module.folds(corpus, settings.subsets)
    fold, reads = folds[0], module.INFO.reads
    most = settings.max_rows(reads, 160 * frame_repeat)
    rows = {u.id: 1 if reads == "mean" else math.ceil(u.num_frames / frame_repeat) for u in corpus.utterances}
    train_rows = [settings.train_rows(sum(rows[u.id] for u in part.train), most) for part in folds]
    order = np.random.default_rng(0).permutation(len(fold.train))
    few = _first([fold.train[index] for index in order], rows, NUM_BATCHES * train_rows[0])

    meta = {"frame_repeat": frame_repeat, "upstream_rate": 160 * frame_repeat}
    frames = {u.id: math.ceil(u.num_frames / frame_repeat) for u in few}
    noise = cast(FrameStore, Noise(frames, shape, meta))
    sample = Fold(tuple(few), (), (), fold.split)

    where = torch.device(device)

    def read() -> States:
        return States(noise, [sample], reads, settings.normalize, where)

    states = read()
    candidates = [
        Candidate(build_probe(task, corpus, fold, states, 0), rate, settings, module.INFO.higher_is_better)
        for rate in settings.learning_rates
    ]

    def fit() -> Batches:
        return Batches(sample, read(), candidates[0].model.expert.label, most)

    reading_s = median_s([fit, fit])
    batches = fit()

    def learn(batch: Sequence[Utterance]) -> None:
        found = batches.ready(batch)
        for candidate in candidates:
            candidate.learn(found)
        wait(where)

    @torch.no_grad()
    def evaluate(batch: Sequence[Utterance]) -> None:
        found = batches.ready(batch)
        for candidate in candidates:
            candidate.model("dev", *found, {})
        wait(where)

    train_s = median_s([partial(learn, batch) for batch in states.batches(few, train_rows[0])])
    for candidate in candidates:
        candidate.model.eval()
    large = next(states.batches(few, most))
    row_s = median_s([partial(evaluate, large)] * 3) / sum(rows[u.id] for u in large)
    total_s = 0.0
    for part, limit in zip(folds, train_rows, strict=True):
        num_train, num_dev, num_test = (sum(rows[u.id] for u in part.utterances(split)) for split in SPLITS)
        epochs = settings.head_epochs(module.INFO.settling) / len(candidates)  # of all side by side, as measured
        total_s += epochs * (math.ceil(num_train / limit) * train_s + num_dev * row_s)
        total_s += num_test * row_s / len(candidates) + reading_s / len(few) * len(part.train)
    return total_s


def _first(utterances: Sequence[Utterance], rows: dict[str, int], wanted: int) -> list[Utterance]:
    """As many of the first as have ``wanted`` rows."""
    taken: list[Utterance] = []
    for utterance in utterances:
        taken.append(utterance)
        wanted -= rows[utterance.id]
        if wanted <= 0:
            break
    return taken
