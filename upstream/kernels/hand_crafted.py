"""The seven hand-crafted attention maps, after Raganato et al. 2020, "Fixed Encoder Self-Attention Patterns"."""

import torch
from torch import Tensor

NAMES = ("identity", "next", "previous", "left context", "right context", "towards the end", "towards the start")


def hand_crafted(num_frames: int) -> Tensor:
    """The maps P, (7, n, n), float32: rows are queries and sum to 1; a row that its rule leaves empty is identity."""
    query = torch.arange(num_frames)[:, None]
    key = torch.arange(num_frames)[None, :]
    rising = (key + 1.0) ** 3  # towards the last frame
    falling = (num_frames - key * 1.0) ** 3  # towards the first
    everywhere = torch.ones(num_frames, num_frames)
    maps = torch.stack(
        [
            everywhere * (key == query),
            everywhere * (key == query + 1),
            everywhere * (key == query - 1),
            rising * (key <= query - 2),
            falling * (key >= query + 2),
            rising * everywhere,
            falling * everywhere,
        ]
    )
    mass = maps.sum(-1, keepdim=True)
    return torch.where(mass > 0, maps / mass.clamp_min(1.0), torch.eye(num_frames))


def start_logits(maps: Tensor, init: str, eps: float) -> Tensor:
    """Logits (M, n, n) from maps: ``log`` reproduces the maps under softmax, ``raw`` is the published slip.

    With ``log`` they are log(P + eps), shifted so that the largest of a row is 0. With ``raw`` P itself is taken for
    logits, and the softmax of numbers between 0 and 1 is almost flat.
    """
    if init == "raw":
        return maps
    logits = (maps + eps).log()
    return logits - logits.amax(-1, keepdim=True)
