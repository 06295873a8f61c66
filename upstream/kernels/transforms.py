"""Pieces of the LSH family's transforms that two members share.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

__all__ = ["height", "lifted", "norm_powers", "normalize", "pad"]

NUM_POWERS = 2  # m of Sign-ALSH
U = 0.75  # what Sign-ALSH scales the largest norm to


def height(x: Tensor, largest: Tensor) -> Tensor:
    """sqrt(M^2 - |x|^2), the coordinate that lifts x (..., n, K) onto the sphere of radius M: (..., n, 1).

    As (M - |x|) (M + |x|), which is exactly 0 where |x| is M: a root would make much of the rounding of a difference.
    """
    norm = x.norm(dim=-1, keepdim=True)
    return ((largest - norm) * (largest + norm)).clamp_min(0).sqrt()


def lifted(key: Tensor, largest: Tensor) -> Tensor:
    """P(k) = [k; sqrt(M^2 - |k|^2)] of XBOX: (..., n, K) -> (..., n, K + 1)."""
    return torch.cat([key, height(key, largest)], dim=-1)


def norm_powers(key: Tensor, largest: Tensor) -> Tensor:
    """P(k) = [x; 1/2 - |x|^2; 1/2 - |x|^4; ...; 1/2 - |x|^(2^m)] of Sign-ALSH, x = (U / M) k: (..., n, K + m)."""
    scaled = U / largest * key
    square = scaled.square().sum(-1, keepdim=True)
    return torch.cat([scaled, *(0.5 - square ** (2**power) for power in range(NUM_POWERS))], dim=-1)
