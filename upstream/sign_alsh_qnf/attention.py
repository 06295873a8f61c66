"""Sign-ALSH with query normalisation first.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import NUM_POWERS, norm_powers, normalize, pad

Options = LshOptions


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [(M / |q|) q; 0; ...; 0]: (..., n, K) -> (..., n, K + m)."""
    return pad(largest * normalize(query, dim=-1), (0, NUM_POWERS))


Attention = partial(LshAttention, transforms=Transforms(norm_powers, queries, num_extra=NUM_POWERS))

INFO = lsh_info(
    title="Sign-ALSH + QNF",
    paper="Shrivastava & Li, Improved Asymmetric LSH for Maximum Inner Product Search, UAI 2015; "
    "query normalisation: Huang et al., H2-ALSH, KDD 2018",
    num_extra=NUM_POWERS,
    twins="sign_alsh",
)
