"""The s3prl upstream ``xbox_qnf``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "xbox_qnf")
