"""Dense Synthesizer: a small network for each head tells from a frame alone which positions it attends to.

Legend: B batch, n frames, D model dim, H heads, K head dim, R bottleneck.
"""

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import merge_heads, split_heads, zero_padding
from ..kernels.synthesizer import DenseOptions, PositionLogits, attend_factors, factor_macs, factor_maps, position_macs

Options = DenseOptions


class Attention(nn.Module):
    """softmax(W2 relu(W1 x_i + b1) + b2) V, the logits cut to the n positions of the batch."""

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        bottleneck: int = Options.bottleneck,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.positions = PositionLogits(
            hidden_dim=hidden_dim, num_heads=num_heads, max_frames=max_frames, bottleneck=bottleneck
        )
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        query, key = self.positions(x)
        value = split_heads(self.value(x), self.num_heads)
        mixed = attend_factors(query, key, value, keep, self.dropout if self.training else 0.0)
        return zero_padding(self.output(merge_heads(mixed)), keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        query, key = self.positions(x)
        return factor_maps(query, key, keep)


def macs(num_frames: int, hidden_dim: int, num_heads: int, bottleneck: int) -> int:
    """Multiply-accumulates of one utterance: two projections, the networks, factors and values in the fused kernel."""
    networks = position_macs(num_frames, hidden_dim, bottleneck)
    attended = factor_macs(num_frames, hidden_dim, num_heads, bottleneck + 1)
    return 2 * num_frames * hidden_dim**2 + networks + attended


INFO = AttentionInfo(
    title="Synthesizer (dense)",
    paper="Tay et al., Synthesizer: Rethinking Self-Attention in Transformer Models, 2020",
    family="synthesizer",
    input_dependent=True,
    order="n^2",
    macs=macs,
    length_bound=True,
)
