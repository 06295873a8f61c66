"""Trains a task's head on stored hidden states: dev chooses learning rate and epoch, test is scored once, fold by fold.

Legend: S hidden states, N rows of a batch (frames, or utterances where a task reads means), D model dim, F folds.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from ..upstream.kernels.onednn import fast_linear
from . import config, load
from .featurizer import Standardizer, WeightedSum
from .outcomes import Outcome, score
from .probe_settings import ProbeSettings
from .splits import SPLITS, Fold, check_fold
from .states import States

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, FrameStore, Utterance

Weights = dict[str, Tensor]  # parameter name -> value
Batch = tuple[Tensor, list[int], list[Tensor], list[str]]  # rows (S, N, D), rows, labels and id of each utterance


@dataclass(frozen=True)
class ProbeResult:
    """What came out; scores are pooled over the folds, in the task's metric.

    Args:
        dev: score on dev with the chosen learning rates and epochs, by which they were chosen.
        test: score on test with them.
        chance: score of guessing on test, as the task defines it.
        items: number of scored test items (frames, phones or utterances).
        outcomes: a mapping for every test utterance: ``fold``, the fields of ``Outcome``, ``seconds``.
        layer_weights: F lists of S weights, input first.
        epochs_run: the most epochs that a head was trained for.
        chosen_epoch: F numbers, from 1.
        tried: a mapping for each learning rate: ``learning_rate``; ``dev``, its best score in each of the F folds (None
            where its loss was not finite before the first epoch ended); ``epochs``, trained in each fold.
        chosen: F mappings with the chosen ``learning_rate``.
        race_ended: the epoch after which one learning rate went on; 0 where all did.
        seconds: wall-clock time of the probe: reading stored states, training and scoring.
        num_speakers_test: speakers who occur in test.
        num_folds: F.
        split: how train, dev and test were chosen, in a sentence.
        notes: what a reader of the scores must know, in sentences, once each.
        splits: number of utterances: of train and dev on average over the folds, of test in all.
    """

    dev: float
    test: float
    chance: float
    items: int
    outcomes: list[dict[str, Any]]
    layer_weights: list[list[float]]
    epochs_run: int
    chosen_epoch: list[int]
    tried: list[dict[str, Any]]
    chosen: list[dict[str, float]]
    race_ended: int
    seconds: float
    num_speakers_test: int
    num_folds: int
    split: str
    notes: list[str]
    splits: dict[str, int]


@dataclass(frozen=True)
class FoldResult:
    """One fold's share of a ``ProbeResult``; ``guessed`` counts the test items that train's majority class has."""

    dev: list[Outcome]
    test: list[Outcome]
    guessed: int
    layer_weights: list[float]
    learning_rate: float
    chosen_epoch: int
    dev_by_rate: list[float | None]
    epochs_by_rate: list[int]
    notes: list[str]


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

    The same seed gives the same result on the same CPU (on CUDA sums come in any order). The global random
    state is left as it was.

    Args:
        task: a name of ``downstream.names()``.
        corpus: with the labels; the task chooses its folds from it.
        store: from ``hidden_states.extract``, with every utterance of the folds.
        seed: of the head's start and of the order of the batches.
        device: where to train.
        settings: by default ``ProbeSettings()``.
        progress: show a bar (in a terminal only).

    Raises:
        ValueError: for an unknown task, a corpus that the task cannot use, folds that leak, a store that lacks
            utterances, or a loss that is not finite.
    """
    start_s = time.perf_counter()
    settings = settings or ProbeSettings()
    module = load(task)
    info, folds = module.INFO, [check_fold(fold, speakers=False) for fold in module.folds(corpus, settings.subsets)]
    states = States(store, folds, info.reads, settings.normalize, torch.device(device))
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
    seconds = {u.id: u.seconds for fold in folds for u in fold.test}
    return ProbeResult(
        dev=score([outcome for result in results for outcome in result.dev], info.higher_is_better),
        test=score(test, info.higher_is_better),
        chance=sum(result.guessed for result in results) / items if info.chance == "majority" else 1.0,
        items=items,
        outcomes=[
            {"fold": number, **outcome._asdict(), "seconds": seconds[outcome.utterance]}
            for number, result in enumerate(results)
            for outcome in result.test
        ],
        layer_weights=[result.layer_weights for result in results],
        epochs_run=max(epochs for result in results for epochs in result.epochs_by_rate),
        chosen_epoch=[result.chosen_epoch for result in results],
        tried=[
            {
                "learning_rate": rate,
                "dev": [result.dev_by_rate[index] for result in results],
                "epochs": [result.epochs_by_rate[index] for result in results],
            }
            for index, rate in enumerate(settings.learning_rates)
        ],
        chosen=[{"learning_rate": result.learning_rate} for result in results],
        race_ended=settings.race_ends(info.settling),
        seconds=time.perf_counter() - start_s,
        num_speakers_test=len({outcome.speaker for outcome in test}),
        num_folds=len(folds),
        split=folds[0].split,
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        splits={
            "train": round(sizes["train"] / len(folds)),
            "dev": round(sizes["dev"] / len(folds)),
            "test": sizes["test"],
        },
    )


class Probe(nn.Module):
    """A task's expert behind a weighted sum of standardised states."""

    expert: Any

    def __init__(self, expert: nn.Module, num_states: int) -> None:
        super().__init__()
        self.mix = WeightedSum(num_states)
        self.expert = expert

    def forward(
        self, split: str, rows: Tensor, sizes: list[int], labels: list[Tensor], ids: list[str],
        records: dict[str, list[Any]] | None,
    ) -> Tensor:  # fmt: skip
        """The loss of a batch: ``rows`` (S, N, D) of its utterances, ``sizes`` of them each; outcomes go to
        ``records``."""
        with fast_linear():
            return self.expert(split, list(self.mix(rows).split(sizes)), labels, ids, records=records)


class Batches:
    """A fold's utterances as what a ``Probe`` takes: standardised rows, and labels, which are made when asked for."""

    def __init__(self, fold: Fold, states: States, label: Callable[[Utterance], Tensor], max_rows: int) -> None:
        self.states = states
        self.max_rows = max_rows
        self.label = label
        self.standardize = Standardizer(states.read(batch) for batch in states.batches(fold.train, max_rows))

    def __call__(self, utterances: Sequence[Utterance], max_rows: int | None = None) -> Iterator[Batch]:
        """Neighbours in batches of up to ``max_rows`` rows."""
        return map(self.ready, self.states.batches(utterances, max_rows or self.max_rows))

    def ready(self, batch: Sequence[Utterance]) -> Batch:
        """One batch of these utterances."""
        rows = self.standardize(self.states.read(batch))
        return rows, list(map(self.states.num_rows, batch)), list(map(self.label, batch)), [u.id for u in batch]


class Candidate:
    """A head in training with one learning rate, and the best that dev has seen of it (the last of equals)."""

    def __init__(self, model: Probe, learning_rate: float, settings: ProbeSettings, higher_is_better: bool) -> None:
        self.model = model
        self.learning_rate = learning_rate
        self.decay = settings.averaging
        self.higher_is_better = higher_is_better
        head = {"params": list(model.expert.parameters()), "weight_decay": settings.weight_decay}
        mix = {"params": list(model.mix.parameters()), "weight_decay": 0.0}
        self.optimizer = torch.optim.Adam([head, mix], lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: 1 - epoch / settings.num_epochs)
        self.average = _copy(dict(model.named_parameters()))
        self.loss = torch.zeros(())
        self.score = -math.inf  # of the best, turned so that higher is better
        self.epoch = 0
        self.epochs_run = 0
        self.weights: Weights = {}
        self.dev: list[Outcome] = []

    def learn(self, batch: Batch) -> None:
        """One step."""
        self.loss = self.model("train", *batch, None)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.backward()
        self.optimizer.step()
        for name, parameter in self.model.named_parameters():
            self.average[name].lerp_(parameter.detach(), 1 - self.decay)

    def end_epoch(self, epoch: int, outcomes: list[Outcome]) -> None:
        """Keep these weights if their outcomes on dev are the best so far."""
        self.schedule.step()
        self.epochs_run = epoch
        turned = score(outcomes, self.higher_is_better) * (1 if self.higher_is_better else -1)
        if turned >= self.score:
            self.score, self.epoch, self.weights, self.dev = turned, epoch, _copy(self.average), outcomes

    @property
    def dev_score(self) -> float | None:
        """Of the best epoch; None before the first."""
        return score(self.dev, self.higher_is_better) if self.dev else None


def _probe_fold(
    task: str, corpus: Corpus, fold: Fold, states: States, seed: list[int], settings: ProbeSettings, bar: tqdm
) -> FoldResult:
    """Train on train, keep the learning rate and epoch that are best on dev, score test with them, once.

    A candidate whose loss is not finite any more, that has lost the race, or whose dev score has not improved for long,
    is trained no further; the epochs before count. Race and patience begin when the task has settled.
    """
    rng = np.random.default_rng(seed)
    info, start = load(task).INFO, int(rng.integers(2**63))
    candidates = [
        Candidate(build_probe(task, corpus, fold, states, start), rate, settings, info.higher_is_better)
        for rate in settings.learning_rates
    ]
    most = settings.max_rows(states.reads, states.store.meta["upstream_rate"])
    batches = Batches(fold, states, candidates[0].model.expert.label, most)
    train_rows = settings.train_rows(sum(map(states.num_rows, fold.train)), most)
    running, race_ends = list(candidates), settings.race_ends(info.settling)
    for epoch in range(1, settings.num_epochs + 1):
        if not running:
            break
        shuffled = [fold.train[index] for index in rng.permutation(len(fold.train))]
        for batch in batches(shuffled, train_rows):
            for candidate in running:
                candidate.learn(batch)
        running = [candidate for candidate in running if torch.isfinite(candidate.loss)]
        for candidate, outcomes in zip(
            running, _outcomes("dev", [(c.model, c.average) for c in running], batches(fold.dev)), strict=True
        ):
            candidate.end_epoch(epoch, outcomes)
        if epoch == race_ends and running:
            running = [max(running, key=lambda candidate: candidate.score)]  # the first of equals
        running = [c for c in running if epoch - max(c.epoch, info.settling) < settings.patience]
        bar.update()
    best = max(candidates, key=lambda candidate: candidate.score)  # the first of equals
    if not best.epoch:
        rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
        raise ValueError(
            f"probe {task}: the loss is {best.loss.item()} in the first epoch with each of the learning rates {rates}: "
            f"lower probe.learning_rates"
        )
    return FoldResult(
        dev=best.dev,
        test=_outcomes("test", [(best.model, best.weights)], batches(fold.test))[0],
        guessed=_guessed(fold, batches.label) if info.chance == "majority" else 0,
        layer_weights=best.weights["mix.weights"].softmax(0).tolist(),
        learning_rate=best.learning_rate,
        chosen_epoch=best.epoch,
        dev_by_rate=[candidate.dev_score for candidate in candidates],
        epochs_by_rate=[candidate.epochs_run for candidate in candidates],
        notes=best.model.expert.notes() if hasattr(best.model.expert, "notes") else [],
    )


def _guessed(fold: Fold, label: Callable[[Utterance], Tensor]) -> int:
    """Test items that have train's most frequent class."""
    counts: Counter[int] = Counter()
    for utterance in fold.train:
        counts.update(dict(enumerate(label(utterance).bincount().tolist())))
    majority = max(counts, key=lambda answer: (counts[answer], -answer))
    return sum(int((label(utterance) == majority).sum()) for utterance in fold.test)


def build_probe(task: str, corpus: Corpus, fold: Fold, states: States, seed: int) -> Probe:
    """The untrained model of a fold for such states; the global random state is left as it was."""
    rate, section = states.store.meta["upstream_rate"], config(task)["downstream_expert"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        expert = load(task).DownstreamExpert(states.dim, rate, section, expdir=None, corpus=corpus, fold=fold)
    return Probe(expert, states.num_states).to(states.device)


@torch.no_grad()
def _outcomes(split: str, models: Sequence[tuple[Probe, Weights]], batches: Iterable[Batch]) -> list[list[Outcome]]:
    """The outcome of every utterance of a split, for each model with these weights instead of its own."""
    records: list[dict[str, list[Any]]] = [{} for _ in models]
    for model, _ in models:
        model.eval()
    for batch in batches:
        for (model, weights), found in zip(models, records, strict=True):
            functional_call(model, weights, (split, *batch, found))
    for model, _ in models:
        model.train()
    return [found["outcomes"] for found in records]


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}
