"""The proposal: a Random Synthesizer whose heads start from given maps, then train."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.hand_crafted import NAMES, hand_crafted, start_logits
from ..kernels.input_independent import InputIndependentAttention, macs
from ..registry import nearest

INITS = ("log", "raw", "random", "maps")


@dataclass(frozen=True)
class Options:
    """How the logits of the first seven heads, or with ``maps`` of all heads, start.

    Args:
        init: ``log`` (the hand-crafted maps themselves), ``raw`` (maps taken for logits, as once published),
            ``random``, or ``maps`` (all heads from the file ``maps``).
        eps: what log adds to the maps; the weight that a place outside the pattern starts with.
        maps: a file of a trained model's maps, for ``init=maps``; the benchmark makes it when it is empty.
    """

    init: str = "log"
    eps: float = 1e-4
    maps: str = ""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.init not in INITS:
            raise ValueError(f"fixed_init has no init {self.init!r}: {nearest(self.init, list(INITS))}")
        if not 0 < self.eps < 1:
            raise ValueError(f"fixed_init needs 0 < eps < 1, got {self.eps}: the default is 1e-4")
        if self.maps and self.init != "maps":
            raise ValueError(f"fixed_init reads maps={self.maps} with init=maps alone, got init={self.init}: set it so")


class Attention(nn.Module):
    """softmax(R[:, :n, :n]) V; heads 1 to 7 of R start from hand-crafted maps, the others from N(0, 1)."""

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        init: str = Options.init,
        eps: float = Options.eps,
        maps: str = Options.maps,
    ) -> None:
        super().__init__()
        Options(init=init, eps=eps, maps=maps)  # refuses what is out of range
        self.eps = eps
        logits = torch.randn(num_heads, max_frames, max_frames)
        if init in ("log", "raw"):
            logits[: len(NAMES)] = start_logits(hand_crafted(max_frames), init, eps)
        self.core = InputIndependentAttention(logits, hidden_dim=hidden_dim, dropout=dropout)

    @torch.no_grad()
    def start_from(self, maps: Tensor) -> None:
        """Start every head from its map, (H, N, N), as log(P + eps)."""
        self.core.logits.copy_(start_logits(maps, "log", self.eps))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        return self.core(x, keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n)."""
        return self.core.weights(x, keep)


INFO = AttentionInfo(
    title="Fixed initialisation",
    paper="Wu et al., Input-independent Attention Weights Are Expressive Enough, arXiv 2006.05174",
    family="proposal",
    input_dependent=False,
    order="n^2",
    macs=lambda num_frames, hidden_dim, num_heads, init, eps, maps: macs(num_frames, hidden_dim, num_heads),
    min_heads=len(NAMES),
    length_bound=True,
    starts_from="self_attention",
    starts_when={"init": "maps"},
)
