"""XBOX with query normalisation first.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import lifted, normalize, pad

Options = LshOptions


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [(M / |q|) q; 0]: (..., n, K) -> (..., n, K + 1)."""
    return pad(largest * normalize(query, dim=-1), (0, 1))


Attention = partial(LshAttention, transforms=Transforms(lifted, queries, num_extra=1))

INFO = lsh_info(
    title="XBOX + QNF",
    paper="Huang et al., Accurate and Fast Asymmetric LSH Scheme for Maximum Inner Product Search, KDD 2018",
    num_extra=1,
    twins="xbox and simple_lsh",
)
