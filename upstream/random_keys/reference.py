"""Random keys, plainly: each frame's set drawn on its own, then dense attention masked to it."""

import torch
from torch import Tensor

from ..kernels.reference import attend_pattern
from .attention import Attention, raw_draws


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""

    def rule(query: Tensor, at: Tensor, length: int) -> Tensor:
        del length
        num_heads, num_valid = query.shape[0], len(at)
        draws = raw_draws(num_heads, num_valid, attention.num_keys - 1, attention.draw_seed)
        steps = [(last, drawn.tolist()) for last, drawn in draws]
        allowed = torch.zeros(num_heads, num_valid, num_valid, dtype=torch.bool)
        for head in range(num_heads):
            for frame in range(num_valid):
                taken: set[int] = set()
                for last, drawn in steps:
                    taken.add(last if drawn[head][frame] in taken else drawn[head][frame])
                allowed[head, frame, [frame, *((frame + 1 + rank) % num_valid for rank in taken)]] = True
        return allowed.to(at.device)

    return attend_pattern(attention.shared, x, keep, rule)
