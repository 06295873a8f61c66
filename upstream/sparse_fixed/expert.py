"""The s3prl upstream ``sparse_fixed``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "sparse_fixed")
