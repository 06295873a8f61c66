"""Attention with constant maps, plainly: where they come from makes no difference to what is computed."""

from torch import Tensor

from ..kernels.reference import attend_input_independent
from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(R) V over the valid keys of each utterance: (B, n, D) -> (B, n, D)."""
    return attend_input_independent(attention.core, x, keep)
