"""What s3prl's runner needs of a task: a corpus, a fold of it, and data loaders of waveforms and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..upstream.registry import nearest
from .splits import Fold

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance

Item = tuple[Tensor, Tensor, str]


@dataclass(frozen=True)
class DataConfig:
    """The section ``downstream_expert.datarc`` of a task's yaml.

    Args:
        corpus: a name that ``load_corpus`` knows.
        root: its folder or file, where it needs one.
        size: of a synthetic corpus.
        seed: of a synthetic corpus, and of the order of the training batches.
        alignments: of a corpus in LibriSpeech layout, phone labels that are not in ``root/alignments``.
        label: of a manifest, the column that ``utterance_label`` reads.
        split_lists: of a corpus in LibriSpeech layout, the lists of train and test utterances.
        shared_speakers: train, dev and test may share speakers in tasks that would else refuse.
        subsets: use these only; empty means the task's own choice.
        fold: which of the task's folds, from 0.
        train_batch_size: utterances in a training batch.
        eval_batch_size: utterances in a dev or test batch.
        num_workers: processes that read audio.
    """

    corpus: str = "synthetic"
    root: str | None = None
    size: str = "small"
    seed: int = 0
    alignments: str | None = None
    label: str = "label"
    split_lists: str | None = None
    shared_speakers: bool = False
    subsets: tuple[str, ...] = ()
    fold: int = 0
    train_batch_size: int = 8
    eval_batch_size: int = 8
    num_workers: int = 0

    @classmethod
    def read(cls, datarc: dict[str, Any]) -> DataConfig:
        """From a yaml section; raises ``ValueError`` that lists every key it does not know."""
        known = [field.name for field in fields(cls)]
        unknown = [key for key in datarc if key not in known]
        if unknown:
            listed = "; ".join(f"no option {key!r} ({nearest(key, known)})" for key in unknown)
            raise ValueError(f"downstream_expert.datarc: {listed}")
        return cls(**{**datarc, "subsets": tuple(datarc.get("subsets") or ())})

    def load(self) -> Corpus:
        """The corpus; raises what ``load_corpus`` raises."""
        from ..recipes.corpora import load_corpus

        return load_corpus(
            self.corpus,
            root=None if self.root is None else Path(self.root),
            size=self.size,
            seed=self.seed,
            alignments=None if self.alignments is None else Path(self.alignments),
            label=self.label,
            split_lists=self.split_lists,
            shared_speakers=self.shared_speakers,
        )


class TaskData:
    """The utterances of a task, loaded or handed over.

    Args:
        datarc: ``DataConfig`` as a dictionary.
        folds: the task's ``folds(corpus, subsets)``.
        corpus: already loaded; by default the one that ``datarc`` names.
        fold: already chosen; by default number ``datarc["fold"]`` of ``folds``.

    Raises:
        ValueError: for an unknown option, corpus or subset, or when there is no such fold.
    """

    def __init__(
        self,
        datarc: dict[str, Any],
        folds: Callable[[Corpus, Sequence[str]], list[Fold]],
        corpus: Corpus | None = None,
        fold: Fold | None = None,
    ) -> None:
        self.config = DataConfig.read(datarc)
        if corpus is None:
            corpus = self.config.load()
        if fold is None:
            every = folds(corpus, self.config.subsets)
            if not 0 <= self.config.fold < len(every):
                raise ValueError(f"datarc.fold is {self.config.fold}, but there are folds 0 to {len(every) - 1} only")
            fold = every[self.config.fold]
        self.corpus = corpus
        self.fold = fold
        self._speakers = {u.id: u.speaker for part in (fold.train, fold.dev, fold.test) for u in part}

    def who(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """(id, speaker) of utterances by id."""
        return [(id, self._speakers[id]) for id in ids]

    def loader(self, split: str, label: Callable[[Utterance], Tensor], epoch: int = 0) -> DataLoader:
        """Batches ``([wav (S_i,), ...], [labels, ...], [id, ...])`` of a split, as s3prl's runner takes them.

        Train batches are shuffled, differently in each ``epoch`` and in the same way in each run; the global random
        state is not touched.
        """
        train = split == "train"
        return DataLoader(
            WaveDataset(self.fold.utterances(split), label),
            batch_size=self.config.train_batch_size if train else self.config.eval_batch_size,
            shuffle=train,
            num_workers=self.config.num_workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(1_000_003 * epoch + self.config.seed),
        )


class WaveDataset(Dataset[Item]):
    """Utterances as (waveform (S,), labels (n,) int64, id); audio is read when an item is asked for."""

    def __init__(self, utterances: Sequence[Utterance], label: Callable[[Utterance], Tensor]) -> None:
        self.utterances = utterances
        self.label = label

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Item:
        from ..recipes.corpora import read_utterance

        utterance = self.utterances[index]
        return read_utterance(utterance), self.label(utterance), utterance.id


def collate(items: Sequence[Item]) -> tuple[list[Tensor], list[Tensor], list[str]]:
    """Items to lists; nothing is padded."""
    waves, labels, ids = zip(*items, strict=True)
    return list(waves), list(labels), list(ids)
