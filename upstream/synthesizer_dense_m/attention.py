"""Dense Synthesizer, mixed: logits from the frame alone and from queries and keys, in a proportion learned per head.

Legend: B batch, n frames, D model dim, H heads, K head dim, R bottleneck.
"""

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.heads import merge_heads, split_heads, zero_padding
from ..kernels.synthesizer import DenseOptions, PositionLogits, attend_factors, factor_macs, factor_maps, position_macs

Options = DenseOptions


class Attention(nn.Module):
    """softmax(a (W2 relu(W1 x_i + b1) + b2) + (1 - a) Q K^T / sqrt K) V with a = sigmoid(balance) per head."""

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
        self.balance = nn.Parameter(torch.zeros(num_heads))
        self.query_key_value = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        query, key, value = self.project(x)
        mixed = attend_factors(query, key, value, keep, self.dropout if self.training else 0.0)
        return zero_padding(self.output(merge_heads(mixed)), keep)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (B, H, n, R + 1 + K) whose dot products are the mixed logits, and values (B, H, n, K)."""
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        position_query, position_key = self.positions(x)
        share = self.balance.sigmoid()[:, None, None]  # (H, 1, 1)
        queries = [share * position_query, (1 - share) / query.shape[-1] ** 0.5 * query]
        return torch.cat(queries, dim=-1), torch.cat([position_key, key], dim=-1), value

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        query, key, _ = self.project(x)
        return factor_maps(query, key, keep)


def macs(num_frames: int, hidden_dim: int, num_heads: int, bottleneck: int) -> int:
    """Multiply-accumulates of one utterance: four projections, the networks, factors and values in the fused kernel."""
    networks = position_macs(num_frames, hidden_dim, bottleneck)
    attended = factor_macs(num_frames, hidden_dim, num_heads, bottleneck + 1 + hidden_dim // num_heads)
    return 4 * num_frames * hidden_dim**2 + networks + attended


INFO = AttentionInfo(
    title="Synthesizer (dense, mixed)",
    paper="Tay et al., Synthesizer: Rethinking Self-Attention in Transformer Models, 2020",
    family="synthesizer",
    input_dependent=True,
    order="n^2",
    macs=macs,
    length_bound=True,
    note='the study\'s "Dense+M", read as the mixture of Tay et al.: what M means is not recorded',
)
