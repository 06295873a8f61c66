"""The dense form, masked to the keys that each query picks."""

from ..kernels.lsh_reference import attend

__all__ = ["attend"]
