"""Strided sparse attention, plainly: dense attention masked to the pattern."""

from torch import Tensor

from ..kernels.reference import attend_pattern
from ..kernels.sparse_attention import SparseAttention
from .attention import rule


def attend(attention: SparseAttention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""
    return attend_pattern(attention.shared, x, keep, rule)
