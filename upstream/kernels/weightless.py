"""What attentions without n x n weights share: a weighted mean over frames, and no dropout of weights.

Legend: B batch, n frames, C channels.
"""

import torch
from torch import Tensor


def weighted_mean(x: Tensor, weights: Tensor) -> Tensor:
    """sum_j w_j x_j / sum_j w_j of each utterance as one matrix product, in float32 or wider.

    Args:
        x: (B, n, C).
        weights: (B, n), or (1, n) for all utterances, not negative.

    Returns:
        (B, 1, C); zero where all weights are.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        weights = weights.to(wide)[:, None]  # (B, 1, n)
        mass = weights.sum(-1, keepdim=True)
        return ((weights @ x.to(wide)) / mass.masked_fill(mass == 0, 1.0)).to(x.dtype)


def refuse_dropout(dropout: float) -> None:
    """Raise ``ValueError`` for a dropout of attention weights where no n x n weights exist."""
    if dropout > 0:
        raise ValueError(
            f"this attention has no n x n weights that dropout could thin out, got dropout={dropout}: "
            f"leave model.attention_dropout at 0"
        )
