"""Shared-QK attention, plainly: every valid frame looks at every valid frame."""

import torch
from torch import Tensor

from ..kernels.reference import attend_pattern
from .attention import Attention


def everyone(query: Tensor, at: Tensor, length: int) -> Tensor:
    """(1, m, m): all True."""
    del query, length
    return torch.ones(1, len(at), len(at), dtype=torch.bool, device=at.device)


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""
    return attend_pattern(attention.shared, x, keep, everyone)
