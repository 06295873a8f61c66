"""The s3prl upstream ``sign_alsh_qnf``."""

from functools import partial

from ..expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "sign_alsh_qnf")
