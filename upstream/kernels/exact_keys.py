"""The definition of hash attention: all keys ranked by agreement of hash, a block of queries at a time.

Legend: B batch, H heads, n frames, K head dim, m keys of a query, c queries of a block.
"""

import torch
from torch import Tensor

from .chosen_keys import attend_chosen, chosen_macs
from .hashing import product

TIES = 1 << 15  # frames for which the order of equally good keys is told apart
BLOCK_ENTRIES = 1 << 24  # scores held at once


def tie_order(queries: Tensor, keys: Tensor) -> Tensor:
    """Numbers in [0, 1) that order equally good keys: scattered, so that no place in the utterance is preferred.

    A function of the two positions alone; for one query no two of the first 32,768 keys share a number. Float32 holds
    it exactly beside a whole number up to 256.
    """
    return ((queries * 12_011 + keys * 20_173) & (TIES - 1)).float() / TIES


def exact(
    query: Tensor,
    value: Tensor,
    keep: Tensor | None,
    key_signs: Tensor,
    query_signs: Tensor,
    num_keys: int,
    dropout: float,
) -> Tensor:
    """Attention of each query to itself and to the m - 1 other valid keys whose hash agrees best.

    Args:
        query: (B, H, n, K), the keys as well; ``value`` the same shape.
        keep: (B, n) bool, True = valid, or None.
        key_signs: hashes of the keys (B, H, n, bits), 1 or -1; ``query_signs`` those of the queries.
        num_keys: m.
        dropout: share of the weights dropped.

    Returns:
        (B, H, n, K). Rows of padding mean nothing, but are finite.

    Raises:
        ValueError: when n is above 32,768.
    """
    batch, num_heads, num_frames, _ = query.shape
    if num_frames > TIES:
        raise ValueError(
            f"mode=exact ranks at most {TIES} stacked frames, got {num_frames}: load the upstream with mode=bucketed"
        )
    rows_at_once = max(1, BLOCK_ENTRIES // (batch * num_heads * num_frames))
    position = torch.arange(num_frames, device=query.device)
    mixed = []
    for rows in position.split(rows_at_once):
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        scores = product(query_signs[:, :, block], key_signs.transpose(-1, -2))  # (B, H, c, n)
        scores += tie_order(rows[:, None], position)
        if keep is not None:
            scores.masked_fill_(~keep[:, None, None], float("-inf"))
        scores[:, :, rows - rows[0], rows] = float("inf")
        top = scores.topk(min(num_keys, num_frames), dim=-1, sorted=False)
        ok = top.values > float("-inf")
        mixed.append(attend_chosen(query[:, :, block], query, value, top.indices, ok, dropout))
    return torch.cat(mixed, dim=2)


def exact_macs(num_frames: int, hidden_dim: int, num_heads: int, num_bits: int, num_keys: int) -> int:
    """Multiply-accumulates of ``exact`` for one utterance: every query's hash by every key's, then the chosen keys."""
    return num_heads * num_frames**2 * num_bits + chosen_macs(num_frames, min(num_keys, num_frames), hidden_dim)
