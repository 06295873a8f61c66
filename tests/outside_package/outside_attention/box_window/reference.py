"""The mean of the frames around, one frame at a time."""

import torch
from torch import Tensor

from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""
    valid = x.new_ones(x.shape[:2], dtype=torch.bool) if keep is None else keep
    values = attention.value(x) * valid[..., None]
    rows = []
    for i in range(x.shape[1]):
        window = slice(max(0, i - attention.radius), i + attention.radius + 1)
        rows.append(values[:, window].sum(1) / valid[:, window].sum(1, keepdim=True).clamp_min(1))
    return attention.output(torch.stack(rows, 1)) * valid[..., None]
