"""How long each utterance of a batch is, and how long it may be, for attentions that depend on it.

Legend: B batch, n frames of the batch, m frames of an utterance: up to its last valid one.
"""

import torch
from torch import Tensor


def own_lengths(keep: Tensor | None, batch: int, num_frames: int) -> list[int]:
    """m of each of the B utterances; 0 where no frame is valid."""
    return [num_frames] * batch if keep is None else last_valid(keep).tolist()


def last_valid(keep: Tensor) -> Tensor:
    """m of each utterance, (B,) int64, from keep (B, n) bool; 0 where no frame is valid."""
    return (keep * torch.arange(1, keep.shape[1] + 1, device=keep.device)).amax(1)


def refuse_beyond(max_frames: int, num_frames: int) -> None:
    """Raise ``ValueError`` when num_frames > max_frames: for attentions with parameters for so many positions."""
    if num_frames > max_frames:
        raise ValueError(
            f"{num_frames} stacked frames are more than max_frames={max_frames}, for which this attention has "
            f"weights: pre-train with a larger max_frames, or load the upstream with long_input=windows"
        )
