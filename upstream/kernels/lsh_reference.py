"""Which keys a query picks by hash, one query at a time: the plain form of both modes of the LSH family.

Legend: H heads, m valid frames of an utterance.

Signs are (H, m, bits), 1 or -1; ``at`` (m,) are the frames' positions; the result is (H, m, m) bool, True where a query
has picked a key. A query always picks itself.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .bucketed import BLOCK, WINDOW
from .exact_keys import tie_order
from .hashing import codes, product
from .reference import attend_pattern

if TYPE_CHECKING:
    from .lsh import LshAttention


def attend(attention: "LshAttention", x: Tensor, keep: Tensor | None) -> Tensor:
    """Dense attention masked to the keys that each query picks: (B, n, D) -> (B, n, D)."""
    return attend_pattern(attention.shared, x, keep, attention.rule)


def select_exact(key_signs: Tensor, query_signs: Tensor, at: Tensor, num_keys: int) -> Tensor:
    """The ``num_keys - 1`` other keys with the most equal bits, out of all."""
    everyone = torch.arange(len(at), device=at.device)
    candidates = everyone.expand(len(key_signs), len(at), -1)
    return _best(key_signs, query_signs, at, num_keys, candidates)


def select_bucketed(key_signs: Tensor, query_signs: Tensor, at: Tensor, num_keys: int) -> Tensor:
    """The ``num_keys - 1`` other keys with the most equal bits, out of those whose code is near the query's block.

    Queries are sorted by code and cut into blocks of ``BLOCK``. The candidates of a block are the
    ``WINDOW * num_keys`` sorted keys around the place where the code of its middle query belongs.
    """
    num_heads, num_valid, _ = key_signs.shape
    width = min(WINDOW * num_keys, num_valid)
    candidates = torch.empty(num_heads, num_valid, width, dtype=torch.long, device=at.device)
    for head in range(num_heads):
        key_codes, query_codes = codes(key_signs[head]).tolist(), codes(query_signs[head]).tolist()
        sorted_keys = sorted(range(num_valid), key=lambda frame: (key_codes[frame], frame))
        sorted_queries = sorted(range(num_valid), key=lambda frame: (query_codes[frame], frame))
        for first in range(0, num_valid, BLOCK):
            block = sorted_queries[first : first + BLOCK]
            middle = query_codes[block[(len(block) - 1) // 2]]
            place = sum(code < middle for code in key_codes)
            start = min(max(0, place - width // 2), num_valid - width)
            candidates[head, block] = torch.tensor(sorted_keys[start : start + width], device=at.device)
    return _best(key_signs, query_signs, at, num_keys, candidates)


def _best(key_signs: Tensor, query_signs: Tensor, at: Tensor, num_keys: int, candidates: Tensor) -> Tensor:
    """Pick from candidates (H, m, c), frame numbers: itself, then by equal bits, then by the order of ties."""
    num_heads, num_valid, _ = key_signs.shape
    itself = torch.arange(num_valid, device=at.device)[:, None]
    picked = torch.zeros(num_heads, num_valid, num_valid, dtype=torch.bool, device=at.device)
    for head in range(num_heads):
        found = candidates[head]  # (m, c)
        agreement = product(query_signs[head], key_signs[head].T).gather(1, found)  # equal bits minus unequal ones
        order = agreement + tie_order(at[:, None], at[found])
        order = order.masked_fill(found == itself, float("-inf"))  # it is picked in any case
        best = found.gather(1, order.topk(min(num_keys - 1, found.shape[1])).indices)
        picked[head] = picked[head].scatter(1, best, True).scatter(1, itself, True)
    return picked
