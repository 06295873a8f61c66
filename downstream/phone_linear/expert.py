"""Phone of every 10 ms frame, read by one linear layer from the frozen feature frame under it.

Legend: B utterances, T_i feature frames of utterance i, n_i labels (10 ms), N sum of all T_i, D model dim, C phones.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...recipes.corpora import Utterance
from ..alignment import feature_frames
from ..dataset import TaskData
from ..outcomes import log_accuracy, record
from ..splits import phone_folds as folds
from ..task import TaskInfo

__all__ = ["INFO", "DownstreamExpert", "folds"]

INFO = TaskInfo(
    title="phone, linear",
    kind="phone",
    metric="accuracy",
    higher_is_better=True,
    unit="frames",
    head="linear",
    reads="frames",
    needs="phone alignments",
    source="s3prl phone_linear; Liu et al. 2020 (Mockingjay)",
)


class DownstreamExpert(nn.Module):
    """s3prl's interface of the task.

    Args:
        upstream_dim: D.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next: 160, 320, 480, ...
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
        self.upstream_rate = upstream_rate
        self.expdir = expdir
        self.data = TaskData(downstream_expert["datarc"], folds, kw.get("corpus"), kw.get("fold"))
        self.model = nn.Linear(upstream_dim, len(self.data.corpus.phone_set))
        self.register_buffer("best_dev", torch.tensor(-1.0))

    def label(self, utterance: Utterance) -> Tensor:
        """The phone of each 10 ms frame: int64 (n,)."""
        assert utterance.phones is not None, f"{utterance.id} has no alignment and is in a fold"
        return torch.from_numpy(utterance.phones.frame_labels(utterance.num_frames))

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches ``([wav, ...], [labels (n_i,), ...], [id, ...])`` of ``train``, ``dev`` or ``test``."""
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
        """Mean cross-entropy over all labels of the batch.

        Features are computed on once and read by each label that lies on them, so that a batch costs as many logits as
        it has feature frames. Nothing is padded: neither padding nor batch mates can enter the loss.

        Args:
            split: ``train``, ``dev`` or ``test``.
            features: B tensors (T_i, D).
            labels: B tensors (n_i,).
            ids: B utterance ids.
            records: where to append an ``Outcome`` an utterance; None records nothing.
            kw: what else s3prl's runner passes.

        Raises:
            ValueError: when features and labels of an utterance differ in length by more than 5 feature frames.
        """
        del split, kw
        scores = self.model(torch.cat(features)).log_softmax(-1)  # (N, C)
        target = torch.cat(labels).to(scores.device)  # (sum n_i,)
        frame = read_frames([len(part) for part in labels], [len(part) for part in features], self.upstream_rate, ids)
        frame = frame.to(scores.device)  # (sum n_i,)
        loss = -scores[frame, target].mean()
        if records is not None:
            right = scores.detach().argmax(-1)[frame] == target
            record(records, self.data.who(ids), right, [len(part) for part in labels])
        return loss

    def log_records(
        self, split: str, records: dict[str, list[Any]], logger: Any, global_step: int, **kw: Any
    ) -> list[str]:
        """Log the accuracy of the records; returns the names of the checkpoints to save (when dev improved)."""
        return log_accuracy("phone_linear", split, records, logger, global_step, self.expdir, self.best_dev)


def read_frames(num_labels: list[int], num_features: list[int], upstream_rate: int, ids: list[str]) -> Tensor:
    """For each label of B utterances, the row of their concatenated features that it reads: int64 (sum n_i,)."""
    parts, start = [], 0
    for labels, features, id in zip(num_labels, num_features, ids, strict=True):
        try:
            parts.append(start + feature_frames(labels, features, upstream_rate))
        except ValueError as error:
            raise ValueError(f"utterance {id!r}: {error}") from None
        start += features
    return torch.cat(parts)
