"""Self-attention, one head of one utterance at a time."""

import torch
from torch import Tensor

from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D): the definition, padding left out by indexing instead of masking."""
    batch, num_frames, hidden_dim = x.shape
    head_dim = hidden_dim // attention.num_heads
    query, key, value = attention.query_key_value(x).split(hidden_dim, dim=-1)
    rows = []
    for utterance in range(batch):
        valid = torch.arange(num_frames) if keep is None else keep[utterance].nonzero().squeeze(1)
        heads = []
        for head in range(attention.num_heads):
            at = slice(head * head_dim, (head + 1) * head_dim)
            q, k, v = (part[utterance, valid, at] for part in (query, key, value))  # (m, K)
            heads.append(torch.softmax(q @ k.T / head_dim**0.5, dim=-1) @ v)
        mixed = attention.output(torch.cat(heads, dim=-1))
        rows.append(torch.zeros_like(x[utterance]).index_copy(0, valid, mixed.to(x.dtype)))
    return torch.stack(rows)
