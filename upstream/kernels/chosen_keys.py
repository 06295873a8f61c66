"""Attention of each query to a few keys of its own.

Legend: B batch, H heads, n frames, K head dim, c queries, m keys of a query.
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

DENSE_BELOW = 16  # with fewer frames than this times m, a masked product is faster than gathering keys one by one


def attend_chosen(
    query: Tensor, key: Tensor, value: Tensor, chosen: Tensor, ok: Tensor, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt K) v over the chosen keys.

    Args:
        query: (B, H, c, K).
        key: (B, H, n, K), as ``value`` is.
        chosen: (B, H, c, m) int64, which keys; no key twice.
        ok: (B, H, c, m) bool, False where ``chosen`` is to be left out; every query has at least one.
        dropout: share of the weights dropped; 0 in evaluation.

    Returns:
        (B, H, c, K).
    """
    batch, num_heads, num_frames, head_dim = key.shape
    num_keys = chosen.shape[-1]
    if is_dense(num_frames, num_keys):
        mask = torch.zeros(*chosen.shape[:3], num_frames, dtype=torch.bool, device=key.device)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask.scatter_(-1, chosen, ok), dropout_p=dropout
        )
    first = num_frames * torch.arange(batch * num_heads, device=key.device).view(batch, num_heads, 1, 1)
    rows = (first + chosen).flatten()
    keys, values = (x.reshape(-1, head_dim).index_select(0, rows).view(*chosen.shape, head_dim) for x in (key, value))
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
