"""Projections of attention whose keys are its queries: one product for both, one for values, one for the output.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

from torch import Tensor, nn

from .heads import merge_heads, split_heads, zero_padding


class SharedQueryKey(nn.Module):
    """What every attention with k = q shares: ``forward`` makes queries and values, ``join`` what leaves the layer.

    Args:
        hidden_dim: D, a multiple of H.
        num_heads: H.
    """

    def __init__(self, *, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, D) -> queries (which are the keys) and values, each (B, H, n, K)."""
        query, value = (split_heads(part, self.num_heads) for part in self.query_value(x).chunk(2, dim=-1))
        return query, value

    def join(self, mixed: Tensor, keep: Tensor | None) -> Tensor:
        """Mixed values (B, H, n, K) -> (B, n, D), padding zero."""
        return zero_padding(self.output(merge_heads(mixed)), keep)


def projection_macs(num_frames: int, hidden_dim: int) -> int:
    """Multiply-accumulates of the three projections for one utterance."""
    return 3 * num_frames * hidden_dim**2
