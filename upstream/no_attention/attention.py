"""A control: no frame sees another, only value and output projection are left.

Legend: B batch, n frames, D model dim, H heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import zero_padding
from ..kernels.weightless import refuse_dropout


@dataclass(frozen=True)
class Options:
    """Without attention there are no options of its own."""


class Attention(nn.Module):
    """Value and output projection of each frame."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        del max_frames  # any length will do
        refuse_dropout(dropout)
        self.num_heads = num_heads
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        return zero_padding(self.output(self.value(x)), keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n): identity."""
        batch, num_frames, _ = x.shape
        valid = x.new_ones(batch, num_frames) if keep is None else keep.to(x.dtype)
        return valid.diag_embed()[:, None].repeat(1, self.num_heads, 1, 1)


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: two projections."""
    return 2 * num_frames * hidden_dim**2


INFO = AttentionInfo(
    title="No attention",
    paper="control, this project",
    family="control",
    input_dependent=False,
    order="n",
    macs=macs,
)
