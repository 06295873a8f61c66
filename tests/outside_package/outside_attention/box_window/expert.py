"""The s3prl upstream ``box_window``."""

from functools import partial

from s3prl_attention.upstream.expert import UpstreamExpert as _UpstreamExpert

UpstreamExpert = partial(_UpstreamExpert, "box_window")
