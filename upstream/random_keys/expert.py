"""The s3prl upstream ``random_keys``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "random_keys")
