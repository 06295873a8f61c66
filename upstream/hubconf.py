"""PyTorch Hub's entries: ``torch.hub.load("<clone>/upstream", "fixed_init", source="local")``."""

from s3prl_attention.upstream.plugins import UPSTREAMS as _UPSTREAMS
from s3prl_attention.upstream.s3prl_hub import entries as _entries

dependencies = ["torch", "torchaudio", "s3prl", "s3prl_attention"]

for _name in _UPSTREAMS.names():
    globals().update(_entries(_name))
