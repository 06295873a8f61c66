"""s3prl's interface of a task: made of its facts, its folds, what it asks for, and the head that answers.

Legend: B utterances, T_i feature frames of utterance i, D model dim, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .dataset import DataConfig, TaskData
from .outcomes import Outcome, log_score, worst
from .s3prl_datarc import check_modelrc
from .s3prl_protocol import Form, compatible
from .targets import Targets
from .task import TaskInfo

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance
    from .splits import Fold


class TaskExpert(nn.Module):
    """What a task's ``DownstreamExpert`` is, once its folder has filled in the first five arguments.

    Args:
        module: ``__name__`` of the task's ``expert.py``; its folder is the task's name in logs.
        info: the task's facts.
        folds: the task's ``folds(corpus, subsets)``.
        targets: the classes and labels, from the task's data.
        model: makes, of ``(upstream_dim, upstream_rate, num_classes)``, an ``nn.Module`` that maps ``(features, labels,
            ids, scored)`` to the loss and a ``Count`` an utterance (none unless ``scored``).
        upstream_dim: D.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next: 160, 320, 480, ...
        downstream_expert: the section of that name in ``config.yaml``.
        expdir: folder for ``log.log``; None writes none.
        s3prl_form: what ``s3prl_compatible`` in the yaml switches to; None where s3prl has no such task.
        kw: ``corpus`` and ``fold``, already loaded; what else s3prl's runner passes is not used.
    """

    best_dev: Tensor

    def __init__(
        self,
        module: str,
        info: TaskInfo,
        folds: Callable[[Corpus, Sequence[str]], list[Fold]],
        targets: Callable[[TaskData], Targets],
        model: Callable[[int, int, int], nn.Module],
        /,
        upstream_dim: int,
        upstream_rate: int,
        downstream_expert: dict[str, Any],
        expdir: str | Path | None,
        *,
        s3prl_form: Form | None = None,
        **kw: Any,
    ) -> None:
        super().__init__()
        config = DataConfig.read(downstream_expert["datarc"])
        self.task = module.split(".")[-2]
        check_modelrc(downstream_expert.get("modelrc"), self.task)
        self.info = info
        self.expdir = expdir
        if config.s3prl_compatible:
            assert kw.get("corpus") is None, "s3prl's form of a task reads its own corpus"
            self.data, self.targets, model = compatible(s3prl_form, self.task, config)
        else:
            self.data = TaskData(config, folds, kw.get("corpus"), kw.get("fold"))
            self.targets = targets(self.data)
        self.model = model(upstream_dim, upstream_rate, len(self.targets.classes))
        self.register_buffer("best_dev", torch.tensor(worst(info.higher_is_better)))

    def label(self, utterance: Utterance) -> Tensor:
        """The classes that the task asks for: int64 (items,), one for each scored item."""
        return self.targets.label(utterance)

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches ``([wav, ...], [labels, ...], [id, ...])`` of ``train``, ``dev`` or ``test``."""
        return self.data.loader(split, self.targets.label, epoch)

    def forward(
        self,
        split: str,
        features: list[Tensor],
        labels: list[Tensor],
        ids: list[str],
        records: dict[str, list[Any]] | None = None,
        **kw: Any,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            split: ``train``, ``dev`` or ``test``.
            features: B tensors (T_i, D); tasks that read the mean over time also take it, (1, D).
            labels: B tensors, from ``label``.
            ids: B utterance ids.
            records: where to append an ``Outcome`` an utterance; None records nothing.
            kw: what else s3prl's runner passes.

        Raises:
            ValueError: when features and labels of an utterance do not fit.
        """
        del split, kw
        loss, counts = self.model(features, labels, ids, records is not None)
        if records is not None:
            rows = zip(self.data.who(ids), counts, strict=True)
            records.setdefault("outcomes", []).extend(Outcome(*utterance, *count) for utterance, count in rows)
        return loss

    def log_records(
        self, split: str, records: dict[str, list[Any]], logger: Any, global_step: int, **kw: Any
    ) -> list[str]:
        """Log the score of the records; returns the names of the checkpoints to save (when dev improved)."""
        del kw
        return log_score(
            self.task, split, records, logger, global_step, self.expdir, self.best_dev, self.info.higher_is_better,
            self.notes(),
        )  # fmt: skip

    def notes(self) -> list[str]:
        """What a reader of the score must know, in sentences."""
        notes = getattr(self.model, "notes", None)
        return notes() if notes else []
