"""Classifies every 10 ms from the frozen feature frames: cross-entropy and right frames of a batch.

Legend: B utterances, T_i feature frames of utterance i, n_i labels (10 ms), N sum of all T_i, D model dim, C classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .alignment import read_frames
from .outcomes import Count, count_right


class FrameClassifier(nn.Module):
    """A head that says a class every 10 ms.

    Args:
        head: makes a ``heads.FrameHead`` of ``(dim, num_classes)``.
        upstream_dim: D.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next.
        num_classes: C.
    """

    def __init__(
        self, head: Callable[[int, int], nn.Module], /, upstream_dim: int, upstream_rate: int, num_classes: int
    ) -> None:
        super().__init__()
        self.upstream_rate = upstream_rate
        self.head = head(upstream_dim, num_classes)

    def forward(
        self, features: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[str], scored: bool
    ) -> tuple[Tensor, list[Count]]:
        """Mean cross-entropy over all labels of the batch.

        Nothing is padded: neither padding nor batch mates can enter the loss.

        Args:
            features: B tensors (T_i, D).
            labels: B tensors (n_i,).
            ids: B utterance ids.
            scored: count right labels, or leave the list empty.

        Raises:
            ValueError: when features and labels of an utterance differ in length by more than 5 feature frames.
        """
        num_labels = [len(part) for part in labels]
        rows = torch.cat(list(features))  # (N, D)
        frame = read_frames(num_labels, [len(part) for part in features], self.upstream_rate, ids).to(rows.device)
        scores = self.head(rows, frame, num_labels)  # (sum n_i, C)
        target = torch.cat(list(labels)).to(scores.device)  # (sum n_i,)
        loss = -scores.gather(1, target[:, None]).mean()
        return loss, count_right(scores.detach().argmax(-1) == target, num_labels) if scored else []
