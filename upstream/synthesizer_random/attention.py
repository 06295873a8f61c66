"""Random Synthesizer: softmax(R) V with R a parameter that starts as noise."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.input_independent import InputIndependentAttention, macs


@dataclass(frozen=True)
class Options:
    """The Random Synthesizer has no options of its own."""


class Attention(nn.Module):
    """softmax(R[:, :n, :n]) V; R (H, max_frames, max_frames) starts from N(0, 1)."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        logits = torch.randn(num_heads, max_frames, max_frames)
        self.core = InputIndependentAttention(logits, hidden_dim=hidden_dim, dropout=dropout)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        return self.core(x, keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        return self.core.weights(x, keep)


INFO = AttentionInfo(
    title="Synthesizer (random)",
    paper="Tay et al., Synthesizer: Rethinking Self-Attention in Transformer Models, 2020",
    family="synthesizer",
    input_dependent=False,
    order="n^2",
    macs=macs,
    length_bound=True,
)
