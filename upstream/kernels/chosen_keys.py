"""Attention of each query to a few keys of its own.

Legend: B batch, H heads, n frames, K head dim, c queries, m keys of a query.
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from .heads import take_frames

DENSE_BELOW = 16  # with fewer frames than this times m, a masked product is faster than gathering keys one by one


def attend_chosen(
    query: Tensor, key: Tensor, value: Tensor, chosen: Tensor, ok: Tensor, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt K) v over the chosen keys.

    Args:
        query: (B, H, c, K).
        key: (B, H, n, K), as ``value`` is.
        chosen: (B, H, c, m) int64, which keys; no key twice among those that are ``ok``.
        ok: (B, H, c, m) bool, False where ``chosen`` is to be left out; every query has at least one.
        dropout: share of the weights dropped; 0 in evaluation.

    Returns:
        (B, H, c, K).
    """
    num_frames, head_dim = key.shape[2:]
    if is_dense(num_frames, chosen.shape[-1]):
        counts = torch.zeros(*chosen.shape[:3], num_frames, dtype=torch.int8, device=key.device)
        mask = counts.scatter_add_(-1, chosen, ok.to(torch.int8)).bool()
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    keys, values = take_frames(key, chosen), take_frames(value, chosen)  # (B, H, c, m, K)
    logits = (keys @ query[..., None]).squeeze(-1) / head_dim**0.5  # (B, H, c, m)
    weights = drop(logits.masked_fill(~ok, float("-inf")).softmax(-1), dropout)
    return (weights[..., None, :] @ values).squeeze(-2)


def is_dense(num_frames: int, num_keys: int) -> bool:
    """Whether ``attend_chosen`` takes the masked product."""
    return num_frames <= DENSE_BELOW * num_keys


def chosen_macs(num_frames: int, num_keys: int, hidden_dim: int) -> int:
    """Multiply-accumulates of ``attend_chosen`` for all n queries of one utterance."""
    width = num_frames if is_dense(num_frames, num_keys) else num_keys
    return 2 * num_frames * width * hidden_dim
