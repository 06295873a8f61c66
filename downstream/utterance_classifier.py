"""Classifies whole utterances from the mean of the frozen features over time.

Legend: B utterances, T_i feature frames of utterance i, D model dim, C classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .outcomes import Count, count_right


class UtteranceClassifier(nn.Module):
    """A head on the mean over time.

    Args:
        head: makes layers (..., D) -> (..., C) of ``(dim, num_classes)``.
        upstream_dim: D.
        upstream_rate: samples from one feature frame to the next; the mean over time does not depend on it.
        num_classes: C.
    """

    def __init__(
        self, head: Callable[[int, int], nn.Module], /, upstream_dim: int, upstream_rate: int, num_classes: int
    ) -> None:
        super().__init__()
        del upstream_rate
        self.head = head(upstream_dim, num_classes)

    def forward(
        self, features: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[str], scored: bool
    ) -> tuple[Tensor, list[Count]]:
        """Mean cross-entropy over the utterances of the batch.

        Args:
            features: B tensors (T_i, D), or already pooled (1, D).
            labels: B tensors (1,).
            ids: B utterance ids.
            scored: count right utterances, or leave the list empty.
        """
        pooled = torch.stack([part.mean(dim=0) for part in features])  # (B, D)
        scores = self.head(pooled)  # (B, C)
        target = torch.cat(list(labels)).to(scores.device)  # (B,)
        counts = count_right(scores.detach().argmax(-1) == target, [1] * len(ids)) if scored else []
        return functional.cross_entropy(scores, target), counts
