"""The s3prl upstream ``synthesizer_random``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "synthesizer_random")
