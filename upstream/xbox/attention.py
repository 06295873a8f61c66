"""XBOX: one more coordinate gives all keys the same norm, so that angles order them as inner products do.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import lifted, pad

Options = LshOptions


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [q; 0]: (..., n, K) -> (..., n, K + 1)."""
    del largest
    return pad(query, (0, 1))


Attention = partial(LshAttention, transforms=Transforms(lifted, queries, num_extra=1))

INFO = lsh_info(
    title="XBOX",
    paper="Bachrach et al., Speeding Up the Xbox Recommender System, RecSys 2014",
    num_extra=1,
    twins="xbox_qnf and simple_lsh",
)
