"""The s3prl upstream ``shared_qk``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "shared_qk")
