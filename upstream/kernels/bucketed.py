"""Hash attention in O(n log n): queries and keys sorted by hash, each block of queries ranks the keys near its place.

Legend: B batch, H heads, n frames, K head dim, m keys of a query, c blocks, b queries of a block, w keys of a window.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.functional import scaled_dot_product_attention as attend

from .exact_keys import tie_order
from .hashing import codes, product
from .heads import take_frames

BLOCK = 32  # queries that look at one window
WINDOW = 4  # keys of a window as a multiple of the keys of a query
BEYOND = 1 << 24  # sorts after every code


def bucketed(
    query: Tensor,
    value: Tensor,
    keep: Tensor | None,
    key_signs: Tensor,
    query_signs: Tensor,
    num_keys: int,
    dropout: float,
) -> Tensor:
    """As ``exact_keys.exact``, but for the keys that are ranked: only those in the window of the query's block.

    The code is the first 24 bits of a hash. Sorted queries are cut into blocks; the window of a block is
    centred where the code of its middle query belongs among the sorted keys. Where a window holds all valid keys the
    result is that of ``exact``.
    """
    num_frames = query.shape[2]
    chosen, windows, blocks = _choose(keep, key_signs, query_signs, num_keys)
    queries, own_values = (take_frames(x, blocks) for x in (query, value))  # (B, H, c, b, K)
    keys = torch.cat([take_frames(query, windows), queries], dim=3)  # (B, H, c, w + b, K)
    values = torch.cat([take_frames(value, windows), own_values], dim=3)
    itself = torch.eye(BLOCK, dtype=torch.bool, device=query.device).expand(*chosen.shape[:3], -1, -1)
    mask = torch.cat([chosen, itself], dim=-1)
    q, k, v = (x.flatten(0, 1) for x in (queries, keys, values))
    mixed = attend(q, k, v, attn_mask=mask.flatten(0, 1), dropout_p=dropout)
    mixed = mixed.view(*queries.shape).flatten(2, 3)[:, :, :num_frames]
    place = blocks.flatten(2)[:, :, :num_frames].argsort(-1)  # where in the sorted order each query stands
    return take_frames(mixed, place)


@torch.no_grad()
def _choose(
    keep: Tensor | None, key_signs: Tensor, query_signs: Tensor, num_keys: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The choice: (B, H, c, b, w) bool, the windows' keys (B, H, c, w) and the blocks' queries (B, H, c, b)."""
    batch, num_heads, num_frames, _ = key_signs.shape
    width, num_blocks = min(WINDOW * num_keys, num_frames), -(-num_frames // BLOCK)
    if keep is None:
        keep = key_signs.new_ones(batch, num_frames, dtype=torch.bool)
    num_valid = keep.sum(1)[:, None, None]  # (B, 1, 1)
    sorted_keys, sorted_queries = (
        codes(x).masked_fill(~keep[:, None], BEYOND).sort(dim=-1, stable=True) for x in (key_signs, query_signs)
    )
    first = BLOCK * torch.arange(num_blocks, device=keep.device)
    middle = (first + ((num_valid - first).clamp(1, BLOCK) - 1) // 2).clamp_max(num_frames - 1)  # (B, 1, c)
    wanted = sorted_queries.values.gather(-1, middle.expand(batch, num_heads, -1))
    place = torch.searchsorted(sorted_keys.values, wanted)  # (B, H, c)
    start = torch.minimum((place - width // 2).clamp_min(0), (num_valid - width).clamp_min(0))
    at = start[..., None] + torch.arange(width, device=keep.device)  # (B, H, c, w)
    windows = sorted_keys.indices.gather(-1, at.flatten(2)).view(at.shape)
    blocks = pad(sorted_queries.indices, (0, num_blocks * BLOCK - num_frames)).unflatten(-1, (num_blocks, BLOCK))
    asked, found = take_frames(query_signs, blocks), take_frames(key_signs, windows)
    scores = product(asked, found.transpose(-1, -2))  # (B, H, c, b, w)
    queries, keys = blocks[..., None], windows[..., None, :]
    scores += tie_order(queries, keys)
    scores.masked_fill_((queries == keys) | (at >= num_valid[..., None])[..., None, :], float("-inf"))
    top = scores.topk(min(num_keys - 1, width), dim=-1, sorted=False)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, top.indices, top.values > float("-inf"))
    return chosen, windows, blocks


def bucketed_macs(num_frames: int, hidden_dim: int, num_heads: int, num_bits: int, num_keys: int) -> int:
    """Multiply-accumulates of ``bucketed`` for one utterance: codes, agreement in the windows, attention."""
    width, padded = min(WINDOW * num_keys, num_frames), -(-num_frames // BLOCK) * BLOCK
    coded = 2 * num_heads * num_frames * min(24, num_bits)
    agreement = num_heads * padded * width * num_bits
    return coded + agreement + 2 * padded * (width + BLOCK) * hidden_dim
