"""What a task trains on the frozen features: layers that turn a row into scores of classes.

Legend: N feature frames of all utterances of a batch, n labels (10 ms) of all of them, D model dim, C classes, W
neighbouring labels.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .alignment import neighbours

HIDDEN = 768  # s3prl's phone_1hidden
WIDTH = 9  # s3prl's phone_linear_concat


class FrameHead(Protocol):
    """Reads frames: built with ``(dim, num_classes)``."""

    def __call__(self, rows: Tensor, frame: Tensor, num_labels: Sequence[int]) -> Tensor:
        """Log-probabilities (n, C), from ``rows`` (N, D), the row ``frame`` (n,) that lies under each label, and how
        many of the n labels each utterance has."""
        ...


def layers(
    dim: int, num_classes: int, hidden: Sequence[int] = (), activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Module:
    """Linear layers with an activation in between: (..., D) -> (..., C).

    Args:
        dim: D.
        num_classes: C.
        hidden: sizes of the layers in between; none of them is a linear head.
        activation: makes one.
    """
    inner: list[nn.Module] = []
    for size, following in pairwise([dim, *hidden]):
        inner += [nn.Linear(size, following), activation()]
    last = nn.Linear(hidden[-1] if hidden else dim, num_classes)
    return nn.Sequential(*inner, last) if inner else last


class Pointwise(nn.Module):
    """A ``FrameHead``: each label reads the one frame under it, through ``layers``.

    Every frame is computed on once and read by each label that lies on it, so that a batch costs as many scores as it
    has feature frames.
    """

    def __init__(self, dim: int, num_classes: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.layers = layers(dim, num_classes, hidden)

    def forward(self, rows: Tensor, frame: Tensor, num_labels: Sequence[int]) -> Tensor:
        """As ``FrameHead``."""
        del num_labels
        return self.layers(rows).log_softmax(-1)[frame]


class Concat(nn.Module):
    """A ``FrameHead``: one linear layer on the concatenated frames under W neighbouring labels, zeros beyond the ends.

    The layer is a sum over its W parts, so each frame is projected once, to W * C scores, and each label adds up W of
    them: nothing of width W * D is ever made.
    """

    def __init__(self, dim: int, num_classes: int, width: int = WIDTH) -> None:
        super().__init__()
        assert width % 2 == 1, f"a label stands in the middle of its neighbours, so their number is odd, not {width}"
        self.width = width
        self.linear = nn.Linear(width * dim, num_classes)

    def forward(self, rows: Tensor, frame: Tensor, num_labels: Sequence[int]) -> Tensor:
        """As ``FrameHead``."""
        parts = self.linear.weight.unflatten(1, (self.width, -1)).transpose(0, 1)  # (W, C, D)
        scores = functional.linear(rows, parts.flatten(0, 1)).view(len(rows) * self.width, -1)  # (N * W, C)
        label, inside = (part.to(frame.device) for part in neighbours(num_labels, self.width))  # (n, W)
        place = frame[label] * self.width + torch.arange(self.width, device=frame.device)  # (n, W)
        summed = functional.embedding_bag(place, scores, mode="sum", per_sample_weights=inside.to(scores.dtype))
        return (summed + self.linear.bias).log_softmax(-1)
