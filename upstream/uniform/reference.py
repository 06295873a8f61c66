"""Uniform attention, plainly: the values of one utterance at a time, averaged anew for each query.

In float64, because the gradient of so many equal rows is a sum in which almost everything cancels.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D): padding left out by indexing instead of masking."""
    rows = []
    for utterance, frames in enumerate(x):
        valid = torch.arange(len(frames)) if keep is None else keep[utterance].nonzero().squeeze(1)
        values = exactly(attention.value, frames[valid])  # (m, D)
        maps = values.new_ones(len(valid), len(valid)) / max(1, len(valid))
        own = exactly(attention.output, maps @ values)
        rows.append(torch.zeros_like(frames).index_copy(0, valid, own.to(x.dtype)))
    return torch.stack(rows)


def exactly(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer in float64."""
    return linear(x.double(), layer.weight.double(), layer.bias.double())
