"""Trains a task's head on stored hidden states: dev chooses the epoch, test is scored once, fold by fold.

Legend: S hidden states, N rows of a batch (frames, or utterances where a task reads means), D model dim, F folds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from . import config, load
from .featurizer import Standardizer, WeightedSum
from .outcomes import Outcome, accuracy
from .splits import SPLITS, Fold
from .states import States

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, FrameStore, Utterance

Labels = dict[str, Tensor]  # utterance id -> (items,) int64
Weights = dict[str, Tensor]  # parameter name -> value


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained, the same for every upstream.

    Args:
        num_epochs: passes over train; the learning rate falls linearly to zero over them.
        learning_rate: Adam's, at the start.
        weight_decay: L2 penalty on the head (not on the weights of the states).
        averaging: decay of the moving average of all weights over steps, which is what dev and test score.
        batch_frames: feature frames in a batch, in whole utterances, for tasks that read frames.
        batch_utterances: utterances in a batch, for tasks that read means.
        min_steps: of an epoch: a small train set gets smaller batches.
        normalize: layer-norm each state before the weighted sum (s3prl's ``--upstream_feature_normalize``).
        subsets: of the corpus; empty means the task's own choice.
    """

    num_epochs: int = 30
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    averaging: float = 0.9
    batch_frames: int = 4096
    batch_utterances: int = 8
    min_steps: int = 16
    normalize: bool = False
    subsets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that cannot train, all at once."""
        counts = ("num_epochs", "batch_frames", "batch_utterances", "min_steps")
        wrong = [f"{name} must be at least 1, got {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if not self.learning_rate > 0:
            wrong.append(f"learning_rate must be above 0, got {self.learning_rate}")
        if not self.weight_decay >= 0:
            wrong.append(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.averaging < 1:
            wrong.append(f"averaging must be at least 0 and below 1, got {self.averaging}")
        if wrong:
            raise ValueError(f"probe settings: {'; '.join(wrong)}")


@dataclass(frozen=True)
class ProbeResult:
    """What came out; scores are fractions of the scored items, pooled over the folds.

    Args:
        dev: score of the chosen epochs on dev, by which they were chosen.
        test: score of the chosen epochs on test.
        chance: what always answering the most frequent class of train scores on test.
        items: number of scored test items (frames or utterances).
        outcomes: (fold, utterance, speaker, correct, total) of every test utterance.
        layer_weights: F lists of S weights, input first.
        epochs_run: epochs of each fold.
        chosen_epoch: F numbers, from 1.
        seconds: wall-clock time of the probe: reading stored states, training and scoring.
        num_speakers_test: speakers who occur in test.
        num_folds: F.
        split: how train, dev and test were chosen, in a sentence.
        splits: number of utterances: of train and dev on average over the folds, of test in all.
    """

    dev: float
    test: float
    chance: float
    items: int
    outcomes: list[tuple[int, str, str, int, int]]
    layer_weights: list[list[float]]
    epochs_run: int
    chosen_epoch: list[int]
    seconds: float
    num_speakers_test: int
    num_folds: int
    split: str
    splits: dict[str, int]


@dataclass(frozen=True)
class FoldResult:
    """One fold's share of a ``ProbeResult``; ``chance_correct`` counts the test items of train's majority class."""

    dev: list[Outcome]
    test: list[Outcome]
    chance_correct: int
    layer_weights: list[float]
    chosen_epoch: int


def probe(
    task: str,
    corpus: Corpus,
    store: FrameStore,
    seed: int = 0,
    device: str | torch.device = "cpu",
    settings: ProbeSettings | None = None,
    progress: bool = True,
) -> ProbeResult:
    """Train and score one task on the stored hidden states of a frozen upstream.

    The same seed gives the same result on the same machine. The global random state is left as it was.

    Args:
        task: a name of ``downstream.names()``.
        corpus: with the labels; the task chooses its folds from it.
        store: from ``hidden_states.extract``, with every utterance of the folds.
        seed: of the head's start and of the order of the batches.
        device: where to train.
        settings: by default ``ProbeSettings()``.
        progress: show a bar (in a terminal only).

    Raises:
        ValueError: for an unknown task, a corpus that the task cannot use, a store that lacks utterances, or a loss
            that is not finite.
    """
    start_s = time.perf_counter()
    settings = settings or ProbeSettings()
    module = load(task)
    folds = module.folds(corpus, settings.subsets)
    states = States(store, folds, module.INFO.reads, settings.normalize, torch.device(device))
    results = []
    with tqdm(
        total=len(folds) * settings.num_epochs, desc=f"probe {task}", unit="epoch", leave=False,
        disable=None if progress else True,
    ) as bar:  # fmt: skip
        for number, fold in enumerate(folds):
            results.append(_probe_fold(task, corpus, fold, states, [seed, number], settings, bar))
    test = [outcome for result in results for outcome in result.test]
    items = sum(outcome.total for outcome in test)
    sizes = {split: sum(len(fold.utterances(split)) for fold in folds) for split in SPLITS}
    return ProbeResult(
        dev=accuracy([outcome for result in results for outcome in result.dev]),
        test=accuracy(test),
        chance=sum(result.chance_correct for result in results) / items,
        items=items,
        outcomes=[(number, *outcome) for number, result in enumerate(results) for outcome in result.test],
        layer_weights=[result.layer_weights for result in results],
        epochs_run=settings.num_epochs,
        chosen_epoch=[result.chosen_epoch for result in results],
        seconds=time.perf_counter() - start_s,
        num_speakers_test=len({outcome.speaker for outcome in test}),
        num_folds=len(folds),
        split=folds[0].split,
        splits={
            "train": round(sizes["train"] / len(folds)),
            "dev": round(sizes["dev"] / len(folds)),
            "test": sizes["test"],
        },
    )


class Probe(nn.Module):
    """A task's expert behind a weighted sum of standardised states."""

    expert: Any

    def __init__(self, expert: nn.Module, states: States, standardize: Standardizer) -> None:
        super().__init__()
        self.mix = WeightedSum(states.num_states)
        self.expert = expert
        self.states = states
        self.standardize = standardize

    def forward(
        self, split: str, batch: Sequence[Utterance], labels: Labels, records: dict[str, list[Any]] | None
    ) -> Tensor:
        """The loss of one batch; outcomes go to ``records``."""
        rows = self.mix(self.standardize(self.states.read(batch)))  # (N, D)
        features = rows.split([self.states.num_rows(utterance) for utterance in batch])
        ids = [utterance.id for utterance in batch]
        return self.expert(split, list(features), [labels[id] for id in ids], ids, records=records)


def _probe_fold(
    task: str, corpus: Corpus, fold: Fold, states: States, seed: list[int], settings: ProbeSettings, bar: tqdm
) -> FoldResult:
    """Train on train, keep the epoch that is best on dev (the last of equals), score test with it, once."""
    rng = np.random.default_rng(seed)
    max_rows = settings.batch_utterances if states.reads == "mean" else settings.batch_frames
    model = _build(task, corpus, fold, states, int(rng.integers(2**63)), max_rows)
    labels = {u.id: model.expert.label(u) for split in SPLITS for u in fold.utterances(split)}
    head = {"params": list(model.expert.parameters()), "weight_decay": settings.weight_decay}
    mix = {"params": list(model.mix.parameters()), "weight_decay": 0.0}
    optimizer = torch.optim.Adam([head, mix], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / settings.num_epochs)
    train_rows = math.ceil(sum(map(states.num_rows, fold.train)) / settings.min_steps)
    average = _copy(dict(model.named_parameters()))
    best: tuple[float, int, Weights, list[Outcome]] = (-math.inf, 0, {}, [])
    for epoch in range(1, settings.num_epochs + 1):
        shuffled = [fold.train[index] for index in rng.permutation(len(fold.train))]
        for batch in states.batches(shuffled, min(max_rows, train_rows)):
            loss = model("train", batch, labels, None)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter.detach(), 1 - settings.averaging)
        if not torch.isfinite(loss):
            raise ValueError(f"probe {task}: the loss is {loss.item()} in epoch {epoch}: lower learning_rate")
        schedule.step()
        dev = _score(model, average, "dev", fold.dev, labels, max_rows)
        if accuracy(dev) >= best[0]:
            best = (accuracy(dev), epoch, _copy(average), dev)
        bar.update()
    _, chosen_epoch, weights, dev = best
    majority = torch.cat([labels[u.id] for u in fold.train]).bincount().argmax()
    return FoldResult(
        dev=dev,
        test=_score(model, weights, "test", fold.test, labels, max_rows),
        chance_correct=sum(int((labels[u.id] == majority).sum()) for u in fold.test),
        layer_weights=weights["mix.weights"].softmax(0).tolist(),
        chosen_epoch=chosen_epoch,
    )


def _build(task: str, corpus: Corpus, fold: Fold, states: States, seed: int, max_rows: int) -> Probe:
    """The model of a fold, with the standardisation of its train set; the global random state is left as it was."""
    rate, section = states.store.meta["upstream_rate"], config(task)["downstream_expert"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        expert = load(task).DownstreamExpert(states.dim, rate, section, expdir=None, corpus=corpus, fold=fold)
    standardize = Standardizer(states.read(batch) for batch in states.batches(fold.train, max_rows))
    return Probe(expert, states, standardize).to(states.device)


@torch.no_grad()
def _score(
    model: Probe, weights: Weights, split: str, utterances: Sequence[Utterance], labels: Labels, max_rows: int
) -> list[Outcome]:
    """The outcome of every utterance of a split, with these weights instead of the model's own."""
    records: dict[str, list[Any]] = {}
    model.eval()
    for batch in model.states.batches(utterances, max_rows):
        functional_call(model, weights, (split, batch, labels, records))
    model.train()
    return records["outcomes"]


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}
