"""Measures of attention maps: how concentrated, how vertical, how near the diagonal, and where their mass lies.

Legend: T frames, maps (..., T, T) with queries in rows that sum to 1. Entropies in nats, distances in frames.

Source: globalness, verticality and diagonality are those of Yang, Liu, Lee 2020, "Understanding Self-Attention of
Self-Supervised Audio Transformers"; each is a mean over utterances of what the function here says of one map.
"""

import torch
from torch import Tensor


def entropy(shares: Tensor) -> Tensor:
    """Of distributions (..., n) -> (...): 0 when all mass is in one place, log n when it is even."""
    return torch.special.entr(shares).sum(-1)


def globalness(maps: Tensor) -> Tensor:
    """Mean entropy of the rows, (...): from 0 (each query takes one key) to log T (each takes all keys alike)."""
    return entropy(maps).mean(-1)


def verticality(maps: Tensor) -> Tensor:
    """Minus the entropy of the mean row, (...): from -log T (all keys get the same) to 0 (one key gets everything)."""
    return -entropy(maps.mean(-2))


def diagonality(maps: Tensor) -> Tensor:
    """Minus the mean distance as a share of T, (...): 0 on the diagonal, about -1/3 when even."""
    return -distance(maps) / maps.shape[-1]


def distance(maps: Tensor) -> Tensor:
    """Mean of |query - key| under the attention, in frames, (...)."""
    offset = offsets(maps.shape[-1], maps.device).abs().to(maps.dtype)
    return torch.einsum("...qk,qk->...", maps, offset) / maps.shape[-1]


def offsets(num_frames: int, device: torch.device | None = None) -> Tensor:
    """key - query, (T, T) int64: negative in the past."""
    place = torch.arange(num_frames, device=device)
    return place[None, :] - place[:, None]


def mass(maps: Tensor, inside: Tensor) -> Tensor:
    """Share of the attention that falls on chosen places: maps (..., T, T) and ``inside`` bool (..., T, T) -> (...)."""
    return torch.einsum("...qk,...qk->...", maps, inside.to(maps.dtype)) / maps.shape[-1]


def by_offset(maps: Tensor) -> Tensor:
    """Mean attention at each relative position, (..., 2 T - 1), from key - query = 1 - T to T - 1.

    The mean runs over the queries that have such a key, so that a map which depends on the offset alone is given back:
    ``spread(by_offset(maps)) == maps`` for it.
    """
    num_frames = maps.shape[-1]
    place = (offsets(num_frames, maps.device) + num_frames - 1).flatten()
    total = maps.new_zeros(*maps.shape[:-2], 2 * num_frames - 1).index_add_(-1, place, maps.flatten(-2))
    return total / torch.bincount(place).to(maps.dtype)


def spread(profile: Tensor) -> Tensor:
    """The (..., T, T) whose places at each offset have the value of a profile (..., 2 T - 1); see ``by_offset``."""
    num_frames = (profile.shape[-1] + 1) // 2
    return profile[..., offsets(num_frames, profile.device) + num_frames - 1]


def total_variation(one: Tensor, other: Tensor) -> Tensor:
    """Half the summed difference of two distributions (..., n) -> (...): 0 when equal, 1 when disjoint."""
    return 0.5 * (one - other).abs().sum(-1)
