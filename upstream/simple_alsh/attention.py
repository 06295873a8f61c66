"""Simple-ALSH: keys and queries scaled into the unit ball and lifted onto the sphere, each in its own coordinate.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

import torch
from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import height, pad

Options = LshOptions


def keys(key: Tensor, largest: Tensor) -> Tensor:
    """P(k) = [u; 0; sqrt(1 - |u|^2)], u = k / M: (..., n, K) -> (..., n, K + 2)."""
    return torch.cat([pad(key, (0, 1)), height(key, largest)], dim=-1) / largest


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [w; sqrt(1 - |w|^2); 0], w = q / max |q|, which is M, because k = q: (..., n, K) -> (..., n, K + 2)."""
    return pad(torch.cat([query, height(query, largest)], dim=-1), (0, 1)) / largest


Attention = partial(LshAttention, transforms=Transforms(keys, queries, num_extra=2))

INFO = lsh_info(
    title="Simple-ALSH",
    paper="Neyshabur & Srebro, On Symmetric and Asymmetric LSHs for Inner Product Search, ICML 2015",
    num_extra=2,
)
