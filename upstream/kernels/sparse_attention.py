"""Sparse attention whose two halves of the heads follow two patterns: what its upstreams share.

Legend: B batch, n frames, D model dim, H heads.
"""

import torch
from torch import Tensor, nn

from .patterns import Rule, pattern_maps
from .shared_qk import SharedQueryKey
from .sparse import Kernel, with_own_stride


class SparseAttention(nn.Module):
    """Shared-QK attention in which the first H // 2 heads follow one sparse pattern and the others a second.

    Args:
        kernels: the fast paths of the two halves.
        rule: the same pattern in its plain form, for ``weights``.
        hidden_dim: D, a multiple of H.
        num_heads: H, at least 2.
        max_frames: not used: any length will do.
        dropout: share of attention weights dropped in training.
    """

    def __init__(
        self,
        *,
        kernels: tuple[Kernel, Kernel],
        rule: Rule,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        del max_frames
        self.dropout = dropout
        self.kernels = kernels
        self.rule = rule
        self.shared = SharedQueryKey(hidden_dim=hidden_dim, num_heads=num_heads)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, value = self.shared(x)
        dropout = self.dropout if self.training else 0.0
        return self.shared.join(with_own_stride(query, value, keep, dropout, self._both), keep)

    def _both(self, query: Tensor, value: Tensor, keep: Tensor | None, stride: int, dropout: float) -> Tensor:
        """Each pattern on its half of the heads: (B, H, n, K) -> (B, H, n, K)."""
        half = self.shared.num_heads // 2
        first, second = self.kernels
        upper = first(query[:, :half], value[:, :half], keep, stride, dropout)
        lower = second(query[:, half:], value[:, half:], keep, stride, dropout)
        return torch.cat([upper, lower], dim=1)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n), made densely."""
        query, _ = self.shared(x)
        return pattern_maps(query, keep, self.rule)
