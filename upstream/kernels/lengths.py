"""How long each utterance of a batch is, and how long it may be, for attentions that depend on it.

Legend: B batch, n frames of the batch, m frames of an utterance: up to its last valid one.
"""

import torch
from torch import Tensor


def own_lengths(keep: Tensor | None, batch: int, num_frames: int) -> list[int]:
    """m of each of the B utterances; 0 where no frame is valid."""
    if keep is None:
        return [num_frames] * batch
    position = torch.arange(1, num_frames + 1, device=keep.device)
    return (keep * position).amax(1).tolist()


def refuse_beyond(max_frames: int, num_frames: int) -> None:
    """Raise ``ValueError`` when num_frames > max_frames: for attentions with parameters for so many positions."""
    if num_frames > max_frames:
        raise ValueError(
            f"{num_frames} stacked frames are more than max_frames={max_frames}, for which this attention has "
            f"weights: pre-train with a larger max_frames, or load the upstream with long_input=windows"
        )
