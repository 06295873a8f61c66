"""Masked acoustic modelling: what is hidden from the encoder, and the loss of guessing it.

Legend: B batch, n stacked frames, C input_dim, D model dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..upstream.kernels.onednn import fast_linear


def mask_spans(num_frames: int, share: float, span: int, generator: torch.Generator) -> Tensor:
    """(n,) bool, True where the frame is to be reconstructed: about ``share`` of the frames, in runs of ``span``.

    At least one frame is chosen, however short the utterance.
    """
    span = min(span, num_frames)
    num_spans = max(1, round(share * num_frames / span))
    starts = torch.randperm(num_frames - span + 1, generator=generator)[:num_spans]
    chosen = torch.zeros(num_frames, dtype=torch.bool)
    chosen[(starts[:, None] + torch.arange(span)).flatten()] = True
    return chosen


def corrupt(frames: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Hide the chosen frames of one utterance (n, C): 80 % zeros, 10 % other frames of it, 10 % left as they are."""
    draw = torch.rand((), generator=generator)
    if draw < 0.8:
        return frames.masked_fill(chosen[:, None], 0.0)
    if draw < 0.9:
        others = torch.randint(len(frames), (int(chosen.sum()),), generator=generator)
        corrupted = frames.clone()
        corrupted[chosen] = frames[others]
        return corrupted
    return frames


class ReconstructionHead(nn.Module):
    """From the last hidden state back to stacked log-Mel frames: dense, gelu, LayerNorm, linear (Mockingjay)."""

    def __init__(self, *, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., C)."""
        return self.output(self.norm(functional.gelu(self.dense(hidden))))


class MaskedAcousticModel(nn.Module):
    """An upstream with its reconstruction head: from what one step sees to the loss.

    Args:
        expert: the upstream, of which the encoder is called.
        head: from hidden states to frames.
        precision: ``bf16`` or ``fp16`` compute under automatic mixed precision; others as the weights are.
    """

    def __init__(self, expert: nn.Module, head: nn.Module, precision: str = "float32") -> None:
        super().__init__()
        self.expert, self.head = expert, head
        self.mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def forward(self, corrupted: Tensor, target: Tensor, chosen: Tensor, keep: Tensor) -> Tensor:
        """The loss of `masked_l1`."""
        dtype = next(self.head.parameters()).dtype
        with torch.autocast(corrupted.device.type, self.mixed, enabled=self.mixed is not None):
            encoder = self.expert.get_submodule("encoder")
            return masked_l1(encoder, self.head, corrupted.to(dtype), target.to(dtype), chosen, keep)


def masked_l1(
    encoder: nn.Module, head: nn.Module, corrupted: Tensor, target: Tensor, chosen: Tensor, keep: Tensor
) -> Tensor:
    """Mean absolute error on the chosen frames.

    Args:
        encoder: maps (frames, keep) to hidden states.
        head: maps hidden states to frames.
        corrupted: what the encoder sees, (B, n, C).
        target: the true frames, (B, n, C).
        chosen: (B, n) bool, the frames to reconstruct.
        keep: (B, n) bool, True where a frame is valid.
    """
    hidden = encoder(corrupted, keep)[-1]
    with fast_linear():
        return functional.l1_loss(head(hidden[chosen]), target[chosen])
