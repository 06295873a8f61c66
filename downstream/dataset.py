"""What s3prl's runner needs of a task: a corpus, a fold of it, and data loaders of waveforms and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..upstream.registry import nearest
from .s3prl_datarc import NAMES, SECTION, divided, translated
from .splits import Fold

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance

Item = tuple[Tensor, Tensor, str]


@dataclass(frozen=True)
class DataConfig:
    """The section ``downstream_expert.datarc`` of a task's yaml, which may also be in s3prl's names (``s3prl_datarc``).

    Args:
        corpus: a name that ``load_corpus`` knows.
        root: its folder or file, where it needs one.
        size: of a synthetic corpus.
        seed: of a synthetic corpus, and of the order of the training batches.
        alignments: of a corpus in LibriSpeech layout, phone labels that are not in ``root/alignments``.
        label: of a manifest, the column that ``utterance_label`` reads.
        split_lists: of a corpus in LibriSpeech layout, the lists of train and test utterances.
        train_dev_seed: a tenth of the train list is dev, by s3prl's shuffle with this seed; None chooses another way.
        bucket_file: the folder of s3prl's ``train-clean-100.csv``, for ``s3prl_compatible`` only.
        s3prl_compatible: batches, classes and loss as s3prl has them, traps included (``s3prl_protocol``).
        shared_speakers: train, dev and test may share speakers in tasks that would else refuse.
        skip_broken: leave out recordings that cannot be decoded to their end.
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
    train_dev_seed: int | None = None
    bucket_file: str | None = None
    s3prl_compatible: bool = False
    shared_speakers: bool = False
    skip_broken: bool = False
    subsets: tuple[str, ...] = ()
    fold: int = 0
    train_batch_size: int = 8
    eval_batch_size: int = 8
    num_workers: int = 0

    @classmethod
    def read(cls, datarc: dict[str, Any]) -> DataConfig:
        """From a yaml section; raises ``ValueError`` with every key it does not know, or with a contradiction."""
        if not isinstance(datarc, Mapping):
            raise ValueError(
                f"{SECTION}: must hold options as 'name: value' lines, got {str(datarc)[:60]!a}: correct it"
            )
        defaults = {field.name: field.default for field in fields(cls)}
        known = [*defaults, *NAMES]
        unknown = [key for key in datarc if key not in known]
        if unknown:
            listed = "; ".join(f"no option {key!r} ({nearest(key, known)})" for key in unknown)
            raise ValueError(f"{SECTION}: {listed}")
        values = translated(datarc, defaults)
        if isinstance(values.get("subsets"), list):
            values["subsets"] = tuple(values["subsets"])
        config = cls(**{**values, "subsets": values.get("subsets") or ()})
        config._check()
        if config.train_dev_seed is not None and config.split_lists is None:
            raise ValueError(f"{SECTION}: train_dev_seed divides a list of train: name its folder with split_lists")
        return config

    def _check(self) -> None:
        """Raises ``ValueError`` for every value of the wrong type or size."""
        wrong = []
        for name, kind in get_type_hints(DataConfig).items():
            value, kinds = getattr(self, name), get_args(kind) or (kind,)
            if name == "subsets":
                good, rule = (
                    isinstance(value, tuple) and all(isinstance(each, str) for each in value),
                    "a list of names",
                )
            elif bool in kinds:
                good, rule = isinstance(value, bool), "True or False"
            elif int in kinds:
                least = 1 if name.endswith("batch_size") else 0
                good = isinstance(value, int) and not isinstance(value, bool) and value >= least
                rule = f"a whole number from {least}"
            else:
                good, rule = isinstance(value, str | Path), "a text"
            if not good and not (value is None and type(None) in kinds):
                wrong.append(f"{name} is {str(value)[:60]!a}: write {rule}")
        if wrong:
            raise ValueError(f"{SECTION}: {'; '.join(wrong)}")

    def load(self) -> Corpus:
        """The corpus; raises what ``load_corpus`` raises."""
        from ..recipes.corpora import load_corpus

        corpus = load_corpus(
            self.corpus,
            root=None if self.root is None else Path(self.root),
            size=self.size,
            seed=self.seed,
            alignments=None if self.alignments is None else Path(self.alignments),
            label=self.label,
            split_lists=self.split_lists,
            shared_speakers=self.shared_speakers,
            skip_broken=self.skip_broken,
        )
        if self.split_lists is None or self.train_dev_seed is None:
            return corpus
        return divided(corpus, self.split_lists, self.train_dev_seed)


def shuffled(config: DataConfig, split: str, epoch: int) -> dict[str, Any]:
    """Which utterances make a batch, as options of a ``DataLoader``: whole batches, the last one as small as it is.

    Train is shuffled, differently in each ``epoch`` and in the same way in each run; the global random state is not
    touched.
    """
    train = split == "train"
    return {
        "batch_size": config.train_batch_size if train else config.eval_batch_size,
        "shuffle": train,
        "generator": torch.Generator().manual_seed(1_000_003 * epoch + config.seed),
    }


class TaskData:
    """The utterances of a task, loaded or handed over.

    Args:
        config: what the yaml says.
        folds: the task's ``folds(corpus, subsets)``.
        corpus: already loaded; by default the one that ``config`` names.
        fold: already chosen; by default number ``config.fold`` of ``folds``.
        batches: of each split, the places of the utterances of each batch; by default ``shuffled``.

    Raises:
        ValueError: for an unknown corpus or subset, or when there is no such fold.
    """

    def __init__(
        self,
        config: DataConfig,
        folds: Callable[[Corpus, Sequence[str]], list[Fold]],
        corpus: Corpus | None = None,
        fold: Fold | None = None,
        batches: Mapping[str, Iterable[list[int]]] | None = None,
    ) -> None:
        if corpus is None:
            corpus = config.load()
        if fold is None:
            every = folds(corpus, config.subsets)
            if not 0 <= config.fold < len(every):
                raise ValueError(f"datarc.fold is {config.fold}, but there are folds 0 to {len(every) - 1} only")
            fold = every[config.fold]
        self.config = config
        self.corpus = corpus
        self.fold = fold
        self.batches = batches
        self._speakers = {u.id: u.speaker for part in (fold.train, fold.dev, fold.test) for u in part}

    def who(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """(id, speaker) of utterances by id."""
        return [(id, self._speakers[id]) for id in ids]

    def loader(self, split: str, label: Callable[[Utterance], Tensor], epoch: int = 0) -> DataLoader:
        """Batches ``([wav (S_i,), ...], [labels, ...], [id, ...])`` of a split, as s3prl's runner takes them."""
        if self.batches is None:
            options = shuffled(self.config, split, epoch)
        else:
            options = {"batch_sampler": self.batches[split]}
        return DataLoader(
            WaveDataset(self.fold.utterances(split), label),
            num_workers=self.config.num_workers,
            collate_fn=collate,
            **options,
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
