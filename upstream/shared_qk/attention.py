"""Self-attention whose keys are its queries, through PyTorch's fused kernel.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import fused_attention, masked_softmax
from ..kernels.shared_qk import SharedQueryKey, projection_macs


@dataclass(frozen=True)
class Options:
    """Shared-QK attention has no options of its own."""


class Attention(nn.Module):
    """softmax(Q Q^T / sqrt K) V."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        del max_frames  # any length will do
        self.dropout = dropout
        self.shared = SharedQueryKey(hidden_dim=hidden_dim, num_heads=num_heads)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, value = self.shared(x)
        mixed = fused_attention(query, query, value, keep, self.dropout if self.training else 0.0)
        return self.shared.join(mixed, keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        query, _ = self.shared(x)
        return masked_softmax(query @ query.transpose(-1, -2) / query.shape[-1] ** 0.5, keep)


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: three projections, queries by queries, weights by values."""
    return projection_macs(num_frames, hidden_dim) + 2 * num_frames**2 * hidden_dim


INFO = AttentionInfo(
    title="Shared-QK attention",
    paper="Kitaev et al., Reformer: The Efficient Transformer, ICLR 2020",
    family="baseline",
    input_dependent=True,
    order="n^2",
    macs=macs,
)
