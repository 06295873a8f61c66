"""How long each utterance of a batch is, for attentions whose pattern depends on it.

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
