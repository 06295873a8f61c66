"""Simple-LSH: keys scaled into the unit ball and lifted onto the sphere, queries normalised.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import lifted, normalize, pad

Options = LshOptions


def keys(key: Tensor, largest: Tensor) -> Tensor:
    """P(k) = [k / M; sqrt(1 - |k|^2 / M^2)]: (..., n, K) -> (..., n, K + 1)."""
    return lifted(key, largest) / largest


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [q / |q|; 0]: (..., n, K) -> (..., n, K + 1)."""
    del largest
    return pad(normalize(query, dim=-1), (0, 1))


Attention = partial(LshAttention, transforms=Transforms(keys, queries, num_extra=1))

INFO = lsh_info(
    title="Simple-LSH",
    paper="Neyshabur & Srebro, On Symmetric and Asymmetric LSHs for Inner Product Search, ICML 2015",
    num_extra=1,
    twins="xbox and xbox_qnf",
)
