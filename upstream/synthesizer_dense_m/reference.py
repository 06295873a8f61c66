"""The mixed Dense Synthesizer, plainly."""

from torch import Tensor

from ..kernels.heads import masked_softmax, merge_heads, split_heads, zero_padding
from ..kernels.reference import position_logits
from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """Both kinds of logits in full, mixed, then the softmax: (B, n, D) -> (B, n, D)."""
    parts = attention.query_key_value(x).chunk(3, dim=-1)
    query, key, value = (split_heads(part, attention.num_heads) for part in parts)
    products = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    share = attention.balance.sigmoid()[:, None, None]
    logits = share * position_logits(attention.positions, x) + (1 - share) * products
    return zero_padding(attention.output(merge_heads(masked_softmax(logits, keep) @ value)), keep)
