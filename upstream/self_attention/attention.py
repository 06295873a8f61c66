"""Scaled dot-product self-attention through PyTorch's fused kernel.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import fused_attention, masked_softmax, merge_heads, split_heads, zero_padding


@dataclass(frozen=True)
class Options:
    """Self-attention has no options of its own."""


class Attention(nn.Module):
    """softmax(Q K^T / sqrt K) V; queries, keys and values come from one product."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        del max_frames  # any length will do
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, key, value = self.project(x)
        mixed = fused_attention(query, key, value, keep, self.dropout if self.training else 0.0)
        return zero_padding(self.output(merge_heads(mixed)), keep)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, each (B, H, n, K)."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        return query, key, value

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        query, key, _ = self.project(x)
        return masked_softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, keep)


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: four projections, queries by keys, weights by values."""
    return 4 * num_frames * hidden_dim**2 + 2 * num_frames**2 * hidden_dim


INFO = AttentionInfo(
    title="Self-attention",
    paper="Vaswani et al., Attention Is All You Need, NeurIPS 2017",
    family="baseline",
    input_dependent=True,
    order="n^2",
    macs=macs,
)
