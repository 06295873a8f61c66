"""Hand-crafted maps, frozen, in every head: shifts, one-sided contexts and whole-sequence means in linear time.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.fixed_patterns import NUM_MAPS, mix_patterns, pattern_macs
from ..kernels.heads import zero_padding
from ..kernels.weightless import refuse_dropout


@dataclass(frozen=True)
class Options:
    """Fixed patterns have no options of their own."""


class Attention(nn.Module):
    """Heads 1 to 7: the hand-crafted maps; heads 8, 9, ...: the frame 2 after, 2 before, 3 after, 3 before, ..."""

    def __init__(self, *, hidden_dim: int, num_heads: int, max_frames: int, dropout: float = 0.0) -> None:
        super().__init__()
        del max_frames  # any length will do
        refuse_dropout(dropout)
        self.num_heads = num_heads
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        values = self.value(x).unflatten(-1, (self.num_heads, -1))  # (B, n, H, K)
        return zero_padding(self.output(mix_patterns(values, keep).flatten(2)), keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n): what the kernel makes of frame j's value being the j-th unit vector."""
        batch, num_frames, _ = x.shape
        units = torch.eye(num_frames, dtype=x.dtype, device=x.device)[None, :, None]
        maps = mix_patterns(units.expand(batch, -1, self.num_heads, -1), keep)  # (B, n, H, n)
        return maps.transpose(1, 2) if keep is None else maps.transpose(1, 2) * keep[:, None, :, None]


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: two projections, and what the patterns add up."""
    return 2 * num_frames * hidden_dim**2 + pattern_macs(num_frames, hidden_dim, num_heads)


INFO = AttentionInfo(
    title="Fixed patterns",
    paper="Raganato et al., Fixed Encoder Self-Attention Patterns in Transformer-Based Machine Translation, 2020",
    family="fixed",
    input_dependent=False,
    order="n",
    macs=macs,
    min_heads=NUM_MAPS,
    note="attention is not trained, only its value and output projections are",
)
