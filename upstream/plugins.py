"""The registry of upstreams, apart from all that needs PyTorch: listing names must be quick."""

from .registry import Registry

UPSTREAMS = Registry(kind="upstream", package=__package__, marker="attention", group="s3prl_attention.upstreams")
