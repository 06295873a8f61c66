"""A control: the mean attention maps of a trained self-attention in place of attention.

Legend: B batch, n frames, D model dim, H heads, N max_frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo, Variant
from ..kernels.hand_crafted import start_logits
from ..kernels.input_independent import InputIndependentAttention, macs


@dataclass(frozen=True)
class Options:
    """Where the maps come from, and whether they stay.

    Args:
        maps: a file of maps (``upstream/maps_file.py``); the benchmark makes it when it is empty, and an upstream that
            is built without one has random maps.
        frozen: the maps are constant; otherwise they are trained further.
        eps: what is added to the maps before their logarithm is taken.
    """

    maps: str = ""
    frozen: bool = True
    eps: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if not 0 < self.eps < 1:
            raise ValueError(f"mean_map needs 0 < eps < 1, got {self.eps}: the default is 1e-4")


class Attention(nn.Module):
    """softmax(R[:, :n, :n]) V; R (H, N, N) is constant, or trained further from its start."""

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        maps: str = Options.maps,
        frozen: bool = Options.frozen,
        eps: float = Options.eps,
    ) -> None:
        super().__init__()
        Options(maps=maps, frozen=frozen, eps=eps)  # refuses what is out of range
        self.eps = eps
        logits = torch.randn(num_heads, max_frames, max_frames)
        self.core = InputIndependentAttention(logits, hidden_dim=hidden_dim, dropout=dropout, frozen=frozen)

    @torch.no_grad()
    def start_from(self, maps: Tensor) -> None:
        """Set R to log(P + eps) from the maps P, (H, N, N)."""
        self.core.logits.copy_(start_logits(maps, "log", self.eps))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        return self.core(x, keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        return self.core.weights(x, keep)


INFO = AttentionInfo(
    title="Mean map",
    paper="Hassid et al., How Much Does Attention Actually Attend?, Findings of EMNLP 2022",
    family="control",
    input_dependent=False,
    order="n^2",
    macs=lambda num_frames, hidden_dim, num_heads, maps, frozen, eps: macs(num_frames, hidden_dim, num_heads),
    length_bound=True,
    variants={"trained": Variant({"frozen": False}, "n^2")},
    starts_from="self_attention",
    note="starts from the maps of a trained self_attention, whose pre-training is not counted",
)
