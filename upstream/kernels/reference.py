"""The plain form of input-independent attention, in which the references of its family are written."""

from torch import Tensor

from .heads import masked_softmax, merge_heads, split_heads, zero_padding
from .input_independent import InputIndependentAttention


def attend_input_independent(core: InputIndependentAttention, x: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(R) V, one map for each utterance and head: (B, n, D) -> (B, n, D)."""
    batch, num_frames, _ = x.shape
    logits = core.logits[:, :num_frames, :num_frames].expand(batch, -1, -1, -1)  # (B, H, n, n)
    values = split_heads(core.value(x), core.num_heads)
    return zero_padding(core.output(merge_heads(masked_softmax(logits, keep) @ values)), keep)
