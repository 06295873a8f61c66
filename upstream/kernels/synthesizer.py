"""Dense Synthesizer weights, softmax(W2 relu(W1 x + b1) + b2), in the fused kernel of dot-product attention.

Legend: B batch, n frames, D model dim, H heads, K head dim, N max_frames, R bottleneck, F factors.

The logit of query i and key j is a dot product too: of [relu(W1 x_i + b1); 1], which depends on the query alone, and
row j of [W2, b2], a parameter. What takes queries and keys can take these, so the n x n logits need never exist.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .heads import fused_attention, masked_softmax, split_heads
from .lengths import refuse_beyond


@dataclass(frozen=True)
class DenseOptions:
    """The network of a head.

    Args:
        bottleneck: R, its inner size.
    """

    bottleneck: int = 16

    def __post_init__(self) -> None:
        """Refuse a size that no network can have."""
        if self.bottleneck < 1:
            raise ValueError(f"bottleneck must be at least 1, got {self.bottleneck}: the default is 16")


class PositionLogits(nn.Module):
    """Each head's network from its slice of a frame to a logit for each position, as factors of a dot product.

    Args:
        hidden_dim: D, a multiple of H.
        num_heads: H.
        max_frames: N.
        bottleneck: R, the inner size.
    """

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, bottleneck: int) -> None:
        super().__init__()
        DenseOptions(bottleneck)  # refuses what is out of range
        self.num_heads, self.max_frames = num_heads, max_frames
        head_dim = hidden_dim // num_heads
        self.inner_weight = nn.Parameter(torch.randn(num_heads, bottleneck, head_dim) / head_dim**0.5)
        self.inner_bias = nn.Parameter(torch.zeros(num_heads, bottleneck))
        self.weight = nn.Parameter(torch.randn(num_heads, max_frames, bottleneck) * (2 / bottleneck) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(num_heads, max_frames))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, D) -> queries and keys, (B, H, n, R + 1) each, whose dot products are the logits.

        Raises:
            ValueError: when n > max_frames.
        """
        num_frames = x.shape[1]
        refuse_beyond(self.max_frames, num_frames)
        inner = split_heads(x, self.num_heads) @ self.inner_weight.transpose(1, 2) + self.inner_bias[:, None]
        query = pad(inner.relu(), (0, 1), value=1.0)
        key = torch.cat([self.weight[:, :num_frames], self.bias[:, :num_frames, None]], dim=-1)  # (H, n, R + 1)
        return query, key.expand(len(x), -1, -1, -1)


def attend_factors(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q K^T) V over valid keys, unscaled: (B, H, n, F), (B, H, n, F), (B, H, n, K) -> (B, H, n, K).

    PyTorch's fused CPU kernel wants F = K: the smaller is filled up with zeros, which change nothing.
    """
    num_factors, head_dim = query.shape[-1], value.shape[-1]
    size = max(num_factors, head_dim)
    query, key = (pad(part, (0, size - num_factors)) for part in (query, key))
    mixed = fused_attention(query, key, pad(value, (0, size - head_dim)), keep, dropout, scale=1.0)
    return mixed[..., :head_dim]


def factor_maps(query: Tensor, key: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(Q K^T), unscaled: the maps (B, H, n, n)."""
    return masked_softmax(query @ key.transpose(-1, -2), keep)


def position_macs(num_frames: int, hidden_dim: int, bottleneck: int) -> int:
    """Multiply-accumulates of ``PositionLogits`` for one utterance."""
    return num_frames * hidden_dim * bottleneck


def factor_macs(num_frames: int, hidden_dim: int, num_heads: int, num_factors: int) -> int:
    """Multiply-accumulates of ``attend_factors`` for one utterance, zeros included."""
    return 2 * num_frames**2 * num_heads * max(num_factors, hidden_dim // num_heads)
