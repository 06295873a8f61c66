"""The hand-crafted maps applied to values in O(n): shifts by copying, one-sided contexts by running sums, no map made.

Legend: B batch, n frames, H heads, K head dim, m an utterance's own length.

The weights of ``hand_crafted(m)``, divided by m^3: they neither overflow nor lose digits however long the input, and
a mean does not notice. Keys that are not valid are left out of it; a query left without any key gets its own value.
"""

import torch
from torch import Tensor

from .hand_crafted import NAMES
from .lengths import last_valid
from .weightless import weighted_mean

NUM_MAPS = len(NAMES)


def shift_of(head: int) -> int:
    """How far after itself (negative: before) the 8th, 9th, ... head looks, index 7 on: 2, -2, 3, -3, ..."""
    distance = 2 + (head - NUM_MAPS) // 2
    return distance if (head - NUM_MAPS) % 2 == 0 else -distance


def mix_patterns(values: Tensor, keep: Tensor | None) -> Tensor:
    """Apply the map of each head.

    Args:
        values: (B, n, H, K), H at least 7.
        keep: (B, n) bool, True = valid; None says that every frame is.

    Returns:
        (B, n, H, K); rows of padding mean nothing.
    """
    itself, following, preceding, left, right, end, start, *others = values.unbind(2)  # (B, n, K) each
    rising, falling = edge_weights(values, keep)
    return torch.stack(
        [
            itself,
            shifted(following, 1, keep),
            shifted(preceding, -1, keep),
            earlier_mean(left, rising),
            earlier_mean(right.flip(1), falling.flip(1)).flip(1),
            weighted_mean(end, rising).expand_as(end),
            weighted_mean(start, falling).expand_as(start),
            *(shifted(other, shift_of(NUM_MAPS + index), keep) for index, other in enumerate(others)),
        ],
        dim=2,
    )


def edge_weights(values: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """((j + 1) / m)^3 and ((m - j) / m)^3, zero for keys that are not valid: (B, n) each, (1, n) without ``keep``."""
    num_frames = values.shape[1]
    wide = torch.promote_types(values.dtype, torch.float32)
    place = torch.arange(1, num_frames + 1, device=values.device, dtype=wide)[None]  # (1, n)
    if keep is None:
        return (place / num_frames) ** 3, ((num_frames + 1 - place) / num_frames) ** 3
    length = last_valid(keep)[:, None].clamp_min(1)  # (B, 1)
    rising, falling = (place / length) ** 3, ((length + 1 - place) / length) ** 3
    return rising.masked_fill(~keep, 0.0), falling.masked_fill(~keep, 0.0)


def shifted(x: Tensor, by: int, keep: Tensor | None) -> Tensor:
    """x[i + by] in row i of (B, n, K), x[i] itself where that is outside or not valid."""
    reach = min(abs(by), x.shape[1])
    inside = x.shape[1] - reach
    moved = torch.cat([x[:, reach:], x[:, inside:]] if by > 0 else [x[:, :reach], x[:, :inside]], dim=1)
    if keep is None:
        return moved
    edge = keep.new_zeros(len(keep), reach)
    reached = torch.cat([keep[:, reach:], edge] if by > 0 else [edge, keep[:, :inside]], dim=1)
    return torch.where(reached[..., None], moved, x)


def earlier_mean(x: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of x (B, n, K) over the frames j <= i - 2 in row i, x[i] itself where their weight is zero.

    Running sums are taken in the type of ``weights`` (B or 1, n), not negative.
    """
    lead = min(2, x.shape[1])
    within = x.shape[1] - lead
    sums = (weights[..., None] * x).cumsum(1)[:, :within]
    mass = weights.cumsum(1)[:, :within, None]
    means = (sums / mass.masked_fill(mass == 0, 1.0)).to(x.dtype)
    return torch.cat([x[:, :lead], torch.where(mass > 0, means, x[:, lead:])], dim=1)


def pattern_macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: two running sums of values and of weights, two weighted means."""
    head_dim = hidden_dim // num_heads
    return 2 * num_frames * (head_dim + 1) + 2 * num_frames * head_dim
