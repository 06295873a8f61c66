"""The Dense Synthesizer, plainly."""

from torch import Tensor

from ..kernels.heads import masked_softmax, merge_heads, split_heads, zero_padding
from ..kernels.reference import position_logits
from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(W2 relu(W1 x + b1) + b2) V with the whole map: (B, n, D) -> (B, n, D)."""
    maps = masked_softmax(position_logits(attention.positions, x), keep)
    values = split_heads(attention.value(x), attention.num_heads)
    return zero_padding(attention.output(merge_heads(maps @ values)), keep)
