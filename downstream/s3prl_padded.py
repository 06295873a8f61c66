"""Classifies frames as s3prl does, on a padded batch: for ``s3prl_protocol`` only, traps included.

Legend: B utterances, T_i feature frames of utterance i, T the most of them, n_i labels, n frames after matching, D
model dim, C classes, W neighbouring frames.

Source: s3prl 0.4.18, ``phone_linear/expert.py``, ``phone_linear_concat/model.py``,
``speaker_linear_frame_libri/expert.py``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from .heads import WIDTH
from .outcomes import Count, count_right

NO_LABEL = -100  # what cross-entropy leaves out


class Padded(NamedTuple):
    """Frames (B, n, D), their labels (B, n) int64, and how many frames of each utterance are scored."""

    frames: Tensor
    target: Tensor
    num_scored: list[int]


def phones(features: Sequence[Tensor], labels: Sequence[Tensor]) -> Padded:
    """Frames cut or tiled to the labels of the longest utterance; only labels count, in the loss and in the score.

    The tiling is one factor for the batch, the rounded ratio of its longest labels to its longest features, and where
    frames are still too few, the last column is repeated: padding (zeros), for all but the longest utterances.
    """
    rows = pad_sequence(list(features), batch_first=True)  # (B, T, D)
    target = pad_sequence(list(labels), batch_first=True, padding_value=NO_LABEL).to(rows.device)  # (B, n)
    tiling = max(1, round(target.shape[1] / rows.shape[1]))
    column = torch.arange(target.shape[1], device=rows.device) // tiling
    return Padded(rows[:, column.clamp_(max=rows.shape[1] - 1)], target, [len(part) for part in labels])


def speaker(features: Sequence[Tensor], labels: Sequence[Tensor]) -> Padded:
    """Every frame has the label of its utterance: padding too, which counts in the loss, though not in the score."""
    rows = pad_sequence(list(features), batch_first=True)  # (B, T, D)
    target = torch.cat(list(labels)).to(rows.device)[:, None].expand(rows.shape[:2])  # (B, T)
    return Padded(rows, target, [len(part) for part in features])


class PaddedFrames(nn.Module):
    """A head on the frames of a padded batch.

    Args:
        arrange: ``phones`` or ``speaker``.
        head: makes layers (B, n, D) -> (B, n, C) of ``(dim, num_classes)``.
        upstream_dim: D.
        upstream_rate: samples from one feature frame to the next; s3prl goes by the lengths instead.
        num_classes: C.
    """

    def __init__(
        self,
        arrange: Callable[[Sequence[Tensor], Sequence[Tensor]], Padded],
        head: Callable[[int, int], nn.Module],
        /,
        upstream_dim: int,
        upstream_rate: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        del upstream_rate
        self.arrange = arrange
        self.head = head(upstream_dim, num_classes)

    def forward(
        self, features: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[str], scored: bool
    ) -> tuple[Tensor, list[Count]]:
        """Mean cross-entropy over all frames that ``arrange`` labels.

        Args:
            features: B tensors (T_i, D).
            labels: B tensors, (n_i,) of phones or (1,) of a speaker.
            ids: B utterance ids.
            scored: count right frames, or leave the list empty.
        """
        del ids
        frames, target, num_scored = self.arrange(features, labels)
        scores = self.head(frames)  # (B, n, C)
        loss = functional.cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=NO_LABEL)
        if not scored:
            return loss, []
        right = scores.detach().argmax(-1) == target  # (B, n)
        return loss, count_right(torch.cat([row[:num] for row, num in zip(right, num_scored, strict=True)]), num_scored)


class PaddedConcat(nn.Module):
    """One linear layer on W neighbouring frames, the later ones first; the ends of the batch's longest are repeated.

    Behind the end of a shorter utterance lie the zeros of its padding.
    """

    def __init__(self, dim: int, num_classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width * dim, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, n, D) -> (B, n, C)."""
        later = self.width // 2 - torch.arange(self.width, device=frames.device)
        place = torch.arange(frames.shape[1], device=frames.device)[:, None] + later  # (n, W)
        return self.linear(frames[:, place.clamp_(0, frames.shape[1] - 1)].flatten(2))
