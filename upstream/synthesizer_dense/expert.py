"""The s3prl upstream ``synthesizer_dense``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "synthesizer_dense")
