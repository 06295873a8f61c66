"""Mixes the hidden states of an upstream into one feature: a weighted sum whose weights are learned.

Legend: S hidden states, N frames or utterances, D model dim.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FLOOR = 1e-2  # of its state's typical deviation: dimensions that vary less are not blown up any further


class WeightedSum(nn.Module):
    """``sum_s softmax(w)_s h_s``, all weights equal at the start; s3prl's and SUPERB's featurizer.

    Args:
        num_states: S.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, states: Tensor | Sequence[Tensor]) -> Tensor:
        """S tensors (..., D), or one (S, ..., D) with the states first -> (..., D)."""
        stacked = states if isinstance(states, Tensor) else torch.stack(list(states))
        if len(stacked) != len(self.weights):
            raise ValueError(
                f"the weighted sum was made for {len(self.weights)} hidden states and got {len(stacked)}: "
                f"build it with num_states={len(stacked)}"
            )
        return torch.einsum("s,s...->...", self.weights.softmax(0), stacked)


def normalize_states(states: Tensor) -> Tensor:
    """Layer-norm over the last dimension, without an affine part: (..., D) -> (..., D)."""
    return functional.layer_norm(states, states.shape[-1:])


class Standardizer:
    """A fixed affine map that gives every state and dimension mean 0 and variance 1 over the rows it was fitted to.

    A dimension that varies less than a hundredth as much as its state does on average (root mean square) is divided by
    that hundredth: it holds little but rounding.

    Args:
        batches: tensors (S, N, D) of the rows to fit, for a probe those of the train set.
    """

    def __init__(self, batches: Iterable[Tensor]) -> None:
        count = 0
        mean: Tensor | None = None
        for batch in batches:  # the moments of two parts are merged as Chan, Golub and LeVeque do
            part_var, part_mean = torch.var_mean(batch, dim=1, correction=0)
            part_var, part_mean, part = part_var.double(), part_mean.double(), batch.shape[1]
            if mean is None:
                count, mean, var = part, part_mean, part_var
                continue
            total = count + part
            shift = part_mean - mean
            var = (count * var + part * part_var) / total + shift.square() * (count * part / total**2)
            mean = mean + shift * (part / total)
            count = total
        assert mean is not None, "nothing to fit"
        floor = FLOOR * var.mean(dim=1, keepdim=True).sqrt()
        std = torch.maximum(var.sqrt(), floor)
        std = torch.where(std > 0, std, torch.ones_like(std))
        self.mean = mean.float().unsqueeze(1)  # (S, 1, D)
        self.scale = std.reciprocal().float().unsqueeze(1)  # (S, 1, D)

    def __call__(self, states: Tensor) -> Tensor:
        """(S, N, D) -> (S, N, D), in place."""
        return states.sub_(self.mean).mul_(self.scale)
