"""Dense attention under a rule that says who may look at whom: the plain form of every sparse attention.

Legend: B batch, n frames, H heads, K head dim, m valid frames of an utterance.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""(queries (H, m, K), positions (m,), own length) -> (H or 1, m, m) bool, True where a query may look at a key."""


def pattern_maps(query: Tensor, keep: Tensor | None, rule: Rule) -> Tensor:
    """softmax(Q Q^T / sqrt K) over the keys that the rule allows, utterance by utterance.

    Args:
        query: (B, H, n, K), the keys as well.
        keep: (B, n) bool, True = valid; None says that every frame is.
        rule: asked about the valid frames of each utterance; a query that it leaves without a key looks at itself.

    Returns:
        Maps (B, H, n, n); rows of padding are zero.
    """
    batch, num_heads, num_frames, head_dim = query.shape
    maps = query.new_zeros(batch, num_heads, num_frames, num_frames)
    for utterance in range(batch):
        valid = query.new_ones(num_frames, dtype=torch.bool) if keep is None else keep[utterance]
        at = valid.nonzero().squeeze(1)
        if len(at) == 0:
            continue
        own = query[utterance, :, at]  # (H, m, K)
        allowed = rule(own, at, int(at[-1]) + 1).expand(num_heads, -1, -1)
        allowed = allowed | (torch.eye(len(at), dtype=torch.bool, device=at.device) & ~allowed.any(-1, keepdim=True))
        logits = own @ own.transpose(-1, -2) / head_dim**0.5
        weights = logits.masked_fill(~allowed, float("-inf")).softmax(-1)
        rows = weights.new_zeros(num_heads, len(at), num_frames).index_copy(2, at, weights)
        maps[utterance] = maps[utterance].index_copy(1, at, rows)
    return maps


def halves(first: Tensor, second: Tensor, num_heads: int) -> Tensor:
    """A rule in which the first H // 2 heads follow one (m, m) bool and the others a second: (H, m, m)."""
    half = num_heads // 2
    return torch.cat([first.expand(half, -1, -1), second.expand(num_heads - half, -1, -1)])
