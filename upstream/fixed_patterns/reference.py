"""Fixed patterns, plainly: the n x n maps of each utterance's own length, made and multiplied."""

import torch
from torch import Tensor

from ..kernels.fixed_patterns import shift_of
from ..kernels.hand_crafted import NAMES, hand_crafted
from ..kernels.heads import merge_heads, split_heads, zero_padding
from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""
    values = split_heads(attention.value(x), attention.num_heads)  # (B, H, n, K)
    mixed = torch.zeros_like(values)
    for utterance, own in enumerate(values):
        valid = torch.ones(x.shape[1], dtype=torch.bool) if keep is None else keep[utterance]
        if valid.any():
            length = int(valid.nonzero().max()) + 1
            maps = valid_maps(attention.num_heads, valid[:length]).to(x.dtype)
            mixed[utterance, :, :length] = maps @ own[:, :length]
    return zero_padding(attention.output(merge_heads(mixed)), keep)


def valid_maps(num_heads: int, valid: Tensor) -> Tensor:
    """The maps (H, m, m) over valid keys (m,): rows sum to 1, and a row without any valid key is identity."""
    num_frames = len(valid)
    i, j = torch.arange(num_frames)[:, None], torch.arange(num_frames)[None, :]
    shifts = [(j == i + shift_of(head)).float()[None] for head in range(len(NAMES), num_heads)]
    maps = torch.cat([hand_crafted(num_frames), *shifts]) * valid
    mass = maps.sum(-1, keepdim=True)
    return torch.where(mass > 0, maps / mass.where(mass > 0, 1.0), torch.eye(num_frames))
