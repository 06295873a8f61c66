"""A control: every frame gets the same mean over all frames, so that only what an utterance has in common passes.

Legend: B batch, n frames, D model dim, H heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import masked_softmax, zero_padding
from ..kernels.weightless import refuse_dropout, weighted_mean


@dataclass(frozen=True)
class Options:
    """Uniform attention has no options of its own."""


class Attention(nn.Module):
    """The mean over valid frames through value and output projection, the same for every query."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        del max_frames  # any length will do
        refuse_dropout(dropout)
        self.num_heads = num_heads
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        weights = x.new_ones(1, x.shape[1]) if keep is None else keep
        mean = self.output(self.value(weighted_mean(x, weights)))  # (B, 1, D): projections and mean may change places
        return zero_padding(mean.expand_as(x), keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n): equal shares for all valid keys."""
        batch, num_frames, _ = x.shape
        return masked_softmax(x.new_zeros(batch, self.num_heads, num_frames, num_frames), keep)


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: the mean, and two projections of one vector."""
    return num_frames * hidden_dim + 2 * hidden_dim**2


INFO = AttentionInfo(
    title="Uniform",
    paper="control, this project",
    family="control",
    input_dependent=False,
    order="n",
    macs=macs,
)
