"""The s3prl upstream ``simple_lsh``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "simple_lsh")
