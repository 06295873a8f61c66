"""No attention, plainly: one utterance at a time."""

import torch
from torch import Tensor

from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D): padding left out by indexing instead of masking."""
    rows = []
    for utterance, frames in enumerate(x):
        valid = torch.arange(len(frames)) if keep is None else keep[utterance].nonzero().squeeze(1)
        own = attention.output(attention.value(frames[valid]))  # (m, D)
        rows.append(torch.zeros_like(frames).index_copy(0, valid, own.to(x.dtype)))
    return torch.stack(rows)
