"""Trains a task's head on stored hidden states: dev chooses the epoch, test is scored once, fold by fold.

Legend: S hidden states, N rows of a batch (frames, or utterances where a task reads means), D model dim, F folds.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import config, load
from .featurizer import Standardizer, WeightedSum, normalize_states
from .hidden_states import means
from .outcomes import Outcome, accuracy
from .splits import SPLITS, Fold

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, FrameStore, Utterance


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained, the same for every upstream.

    Args:
        num_epochs: passes over train; the learning rate falls linearly to zero over them.
        learning_rate: Adam's, at the start.
        weight_decay: L2 penalty on the head (not on the weights of the states).
        batch_frames: feature frames in a batch, in whole utterances, for tasks that read frames.
        batch_utterances: utterances in a batch, for tasks that read means.
        min_steps: of an epoch: a small train set gets smaller batches.
        normalize: layer-norm each state before the weighted sum (s3prl's ``--upstream_feature_normalize``).
        subsets: of the corpus; empty means the task's own choice.
    """

    num_epochs: int = 30
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    batch_frames: int = 4096
    batch_utterances: int = 32
    min_steps: int = 16
    normalize: bool = False
    subsets: tuple[str, ...] = ()


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
            results.append(_probe_fold(task, module, corpus, fold, states, [seed, number], settings, bar))
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
        splits={"train": round(sizes["train"] / len(folds)), "dev": round(sizes["dev"] / len(folds)), "test": sizes["test"]},
    )


class States:
    """The stored hidden states of the folds' utterances, read in batches: (S, N, D) float32 on ``device``.

    ``frames``: N counts the frames of all utterances of a batch, one utterance after the other. ``mean``: one row an
    utterance; the means are computed once, here.
    """

    def __init__(
        self, store: FrameStore, folds: Sequence[Fold], reads: str, normalize: bool, device: torch.device
    ) -> None:
        ids = sorted({u.id for fold in folds for split in SPLITS for u in fold.utterances(split)})
        missing = [id for id in ids if id not in store]
        if missing:
            raise ValueError(
                f"the stored hidden states lack {len(missing)} of {len(ids)} utterances, the first is {missing[0]!r}: extract "
                f"them again from this corpus"
            )
        self.store = store
        self.reads = reads
        self.normalize = normalize
        self.device = device
        self.num_states, self.dim = store.frame_shape
        self._row = {id: row for row, id in enumerate(ids)}
        self._means = means(store, ids, normalize) if reads == "mean" else None

    def num_rows(self, utterance: Utterance) -> int:
        """Rows of one utterance."""
        return 1 if self._means is not None else self.store.num_frames(utterance.id)

    def read(self, batch: Sequence[Utterance]) -> Tensor:
        """(S, N, D) float32."""
        if self._means is not None:
            rows = torch.from_numpy(self._means[[self._row[u.id] for u in batch]])
            return rows.transpose(0, 1).contiguous().to(self.device)
        rows = torch.from_numpy(np.concatenate([self.store[u.id] for u in batch])).to(self.device)  # (N, S, D)
        states = torch.empty(self.num_states, len(rows), self.dim, device=self.device)
        states.copy_(rows.transpose(0, 1))
        return normalize_states(states) if self.normalize else states


class Probe(nn.Module):
    """A task's expert behind a weighted sum of standardised states."""

    def __init__(self, expert: nn.Module, states: States, standardize: Standardizer) -> None:
        super().__init__()
        self.mix = WeightedSum(states.num_states)
        self.expert = expert
        self.states = states
        self.standardize = standardize

    def forward(
        self, split: str, batch: Sequence[Utterance], labels: dict[str, Tensor], records: dict[str, list[Any]] | None
    ) -> Tensor:
        """The loss of one batch; outcomes go to ``records``."""
        rows = self.mix(self.standardize(self.states.read(batch)))  # (N, D)
        features = rows.split([self.states.num_rows(utterance) for utterance in batch])
        ids = [utterance.id for utterance in batch]
        return self.expert(split, list(features), [labels[id] for id in ids], ids, records=records)


def _probe_fold(
    task: str,
    module: ModuleType,
    corpus: Corpus,
    fold: Fold,
    states: States,
    seed: list[int],
    settings: ProbeSettings,
    bar: tqdm,
) -> FoldResult:
    rng = np.random.default_rng(seed)
    rate, section = states.store.meta["upstream_rate"], config(task)["downstream_expert"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        expert = module.DownstreamExpert(states.dim, rate, section, expdir=None, corpus=corpus, fold=fold)
    budget = settings.batch_utterances if states.reads == "mean" else settings.batch_frames
    train_budget = min(budget, math.ceil(sum(map(states.num_rows, fold.train)) / settings.min_steps))
    standardize = Standardizer(states.read(batch) for batch in _batches(fold.train, states, budget))
    model = Probe(expert, states, standardize).to(states.device)
    labels = {u.id: expert.label(u) for split in SPLITS for u in fold.utterances(split)}
    optimizer = torch.optim.Adam(
        [
            {"params": list(expert.parameters()), "weight_decay": settings.weight_decay},
            {"params": list(model.mix.parameters())},
        ],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / settings.num_epochs)
    best: tuple[float, int, dict[str, Tensor], list[Outcome]] = (-math.inf, 0, {}, [])
    for epoch in range(1, settings.num_epochs + 1):
        shuffled = [fold.train[index] for index in rng.permutation(len(fold.train))]
        model.train()
        for batch in _batches(shuffled, states, train_budget):
            loss = model("train", batch, labels, None)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise ValueError(f"probe {task}: the loss is {float(loss)} in epoch {epoch}: lower learning_rate")
        schedule.step()
        dev = _score(model, "dev", fold.dev, labels, budget)
        if accuracy(dev) > best[0]:
            best = (accuracy(dev), epoch, copy.deepcopy(model.state_dict()), dev)
        bar.update()
    model.load_state_dict(best[2])
    test = _score(model, "test", fold.test, labels, budget)
    majority = int(torch.cat([labels[u.id] for u in fold.train]).bincount().argmax())
    return FoldResult(
        dev=best[3],
        test=test,
        chance_correct=sum(int((labels[u.id] == majority).sum()) for u in fold.test),
        layer_weights=model.mix.shares(),
        chosen_epoch=best[1],
    )


@torch.no_grad()
def _score(
    model: Probe, split: str, utterances: Sequence[Utterance], labels: dict[str, Tensor], budget: int
) -> list[Outcome]:
    """The outcome of every utterance of a split."""
    model.eval()
    records: dict[str, list[Any]] = {}
    for batch in _batches(utterances, model.states, budget):
        model(split, batch, labels, records)
    return records["outcomes"]


def _batches(utterances: Sequence[Utterance], states: States, budget: int) -> Iterator[list[Utterance]]:
    """Neighbours in batches of up to ``budget`` rows; an utterance with more rows is a batch of its own."""
    batch: list[Utterance] = []
    rows = 0
    for utterance in utterances:
        count = states.num_rows(utterance)
        if batch and rows + count > budget:
            yield batch
            batch, rows = [], 0
        batch.append(utterance)
        rows += count
    if batch:
        yield batch
