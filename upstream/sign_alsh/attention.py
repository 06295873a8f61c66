"""Sign-ALSH: keys get powers of their norm appended, so that sign random projections see inner products.

Legend: n frames, K head dim, M (..., 1, 1) the largest norm among an utterance's valid keys of a head.
"""

from functools import partial

from torch import Tensor

from ..kernels.lsh import LshAttention, LshOptions, Transforms, lsh_info
from ..kernels.transforms import NUM_POWERS, norm_powers, normalize, pad

Options = LshOptions


def queries(query: Tensor, largest: Tensor) -> Tensor:
    """Q(q) = [q / |q|; 0; ...; 0]: (..., n, K) -> (..., n, K + m)."""
    del largest
    return pad(normalize(query, dim=-1), (0, NUM_POWERS))


Attention = partial(LshAttention, transforms=Transforms(norm_powers, queries, num_extra=NUM_POWERS))

INFO = lsh_info(
    title="Sign-ALSH",
    paper="Shrivastava & Li, Improved Asymmetric LSH for Maximum Inner Product Search, UAI 2015",
    num_extra=NUM_POWERS,
    twins="sign_alsh_qnf",
)
