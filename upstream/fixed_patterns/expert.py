"""The s3prl upstream ``fixed_patterns``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "fixed_patterns")
