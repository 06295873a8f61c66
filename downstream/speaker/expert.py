"""Speaker of an utterance, read by one linear layer from the mean of the frozen features over time.

Legend: B utterances, T_i feature frames of utterance i, D model dim, C speakers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from ...recipes.corpora import Utterance
from ..dataset import TaskData
from ..outcomes import log_accuracy, record
from ..splits import speaker_folds as folds
from ..task import TaskInfo

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="speaker",
    kind="speaker",
    metric="accuracy",
    higher_is_better=True,
    unit="utterances",
    head="mean over time, linear",
    reads="mean",
    needs="two speakers or more, with three utterances each",
    source="s3prl speaker_linear_utter_libri; Liu et al. 2020 (Mockingjay)",
)


class DownstreamExpert(nn.Module):
    """s3prl's interface of the task.

    Args:
        upstream_dim: D.
        upstream_rate: samples from one feature frame to the next; the mean over time does not depend on it.
        downstream_expert: the section of that name in ``config.yaml``.
        expdir: folder for ``log.log``; None writes none.
        kw: ``corpus`` and ``fold``, already loaded; what else s3prl's runner passes is not used.
    """

    best_dev: Tensor

    def __init__(
        self,
        upstream_dim: int,
        upstream_rate: int,
        downstream_expert: dict[str, Any],
        expdir: str | Path | None,
        **kw: Any,
    ) -> None:
        super().__init__()
        del upstream_rate
        self.expdir = expdir
        self.data = TaskData(downstream_expert["datarc"], folds, kw.get("corpus"), kw.get("fold"))
        self.speakers = sorted({utterance.speaker for utterance in self.data.fold.train})
        self._class = {speaker: index for index, speaker in enumerate(self.speakers)}
        self.model = nn.Linear(upstream_dim, len(self.speakers))
        self.register_buffer("best_dev", torch.tensor(-1.0))

    def label(self, utterance: Utterance) -> Tensor:
        """The speaker's class: int64 (1,). ``ValueError`` for a speaker who is not in train."""
        if utterance.speaker not in self._class:
            raise ValueError(
                f"speaker {utterance.speaker!r} of {utterance.id} is not in train: the set of speakers is closed"
            )
        return torch.tensor([self._class[utterance.speaker]])

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches ``([wav, ...], [label (1,), ...], [id, ...])`` of ``train``, ``dev`` or ``test``."""
        return self.data.loader(split, self.label, epoch)

    def forward(
        self,
        split: str,
        features: list[Tensor],
        labels: list[Tensor],
        ids: list[str],
        records: dict[str, list[Any]] | None = None,
        **kw: Any,
    ) -> Tensor:
        """Mean cross-entropy over the utterances of the batch.

        Args:
            split: ``train``, ``dev`` or ``test``.
            features: B tensors (T_i, D), or already pooled (1, D).
            labels: B tensors (1,).
            ids: B utterance ids.
            records: where to append an ``Outcome`` an utterance; None records nothing.
            kw: what else s3prl's runner passes.
        """
        del split, kw
        pooled = torch.stack([part.mean(dim=0) for part in features])  # (B, D)
        logits = self.model(pooled)  # (B, C)
        target = torch.cat(labels).to(logits.device)  # (B,)
        if records is not None:
            record(records, self.data.who(ids), logits.detach().argmax(-1) == target, [1] * len(ids))
        return functional.cross_entropy(logits, target)

    def log_records(
        self, split: str, records: dict[str, list[Any]], logger: Any, global_step: int, **kw: Any
    ) -> list[str]:
        """Log the accuracy of the records; returns the names of the checkpoints to save (when dev improved)."""
        return log_accuracy("speaker", split, records, logger, global_step, self.expdir, self.best_dev)
