"""Each frame takes the mean of the frames around it.

Legend: B batch, n frames, D model dim, H heads.
"""

from dataclasses import dataclass

import torch
from s3prl_attention.upstream.contract import AttentionInfo
from s3prl_attention.upstream.kernels.heads import merge_heads, split_heads, zero_padding
from s3prl_attention.upstream.kernels.weightless import refuse_dropout
from torch import Tensor, nn


@dataclass(frozen=True)
class Options:
    """How wide the window is.

    Args:
        radius: frames on either side.
    """

    radius: int = 2


class Attention(nn.Module):
    """The mean of V over |i - j| <= radius."""

    def __init__(
        self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0, radius: int = Options.radius
    ) -> None:
        super().__init__()
        del max_frames  # any length will do
        refuse_dropout(dropout)
        self.num_heads, self.radius = num_heads, radius
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        values = split_heads(self.value(x), self.num_heads)
        return zero_padding(self.output(merge_heads(self.weights(x, keep) @ values)), keep)

    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        place = torch.arange(x.shape[1], device=x.device)
        near = ((place[:, None] - place).abs() <= self.radius).to(x.dtype)  # (n, n)
        maps = near.expand(len(x), self.num_heads, -1, -1)
        if keep is not None:
            maps = maps * keep[:, None, None, :] * keep[:, None, :, None]
        return maps / maps.sum(-1, keepdim=True).clamp_min(1)


def macs(num_frames: int, hidden_dim: int, num_heads: int, radius: int) -> int:
    """Multiply-accumulates of one utterance: two projections, maps by values."""
    return 2 * num_frames * hidden_dim**2 + num_frames**2 * hidden_dim


INFO = AttentionInfo(
    title="Box window",
    paper="an example",
    family="fixed",
    input_dependent=False,
    order="n^2",
    macs=macs,
)
