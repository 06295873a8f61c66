"""The plain forms in which the references of families are written: trained maps, and dense attention under a rule."""

import torch
from torch import Tensor

from .heads import masked_softmax, merge_heads, split_heads, zero_padding
from .input_independent import InputIndependentAttention
from .patterns import Rule, pattern_maps
from .shared_qk import SharedQueryKey
from .synthesizer import PositionLogits


def attend_input_independent(core: InputIndependentAttention, x: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(R) V, one map for each utterance and head: (B, n, D) -> (B, n, D)."""
    batch, num_frames, _ = x.shape
    logits = core.logits[:, :num_frames, :num_frames].expand(batch, -1, -1, -1)  # (B, H, n, n)
    values = split_heads(core.value(x), core.num_heads)
    return zero_padding(core.output(merge_heads(masked_softmax(logits, keep) @ values)), keep)


def attend_pattern(shared: SharedQueryKey, x: Tensor, keep: Tensor | None, rule: Rule) -> Tensor:
    """Dense attention with k = q, masked to what the rule allows: (B, n, D) -> (B, n, D)."""
    query, value = shared(x)
    return shared.join(pattern_maps(query, keep, rule) @ value, keep)


def position_logits(positions: PositionLogits, x: Tensor) -> Tensor:
    """W2 relu(W1 x + b1) + b2, cut to n positions, head by head: (B, n, D) -> (B, H, n, n)."""
    num_frames, logits = x.shape[1], []
    for head, own in enumerate(x.chunk(positions.num_heads, dim=-1)):  # (B, n, K)
        inner = torch.relu(own @ positions.inner_weight[head].T + positions.inner_bias[head])
        logits.append((inner @ positions.weight[head].T + positions.bias[head])[..., :num_frames])
    return torch.stack(logits, dim=1)
