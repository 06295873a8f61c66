"""The post-LN transformer encoder, the same for every attention.

Legend: B batch, n stacked frames, D model dim, L layers.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .kernels.input_independent import InputIndependentAttention
from .kernels.onednn import fast_linear

WEIGHT_INITS = ("unit", "bert", "mixed")
POSITIONS = ("halves", "interleaved")
MOST = 10_000_000  # of any size: beyond it PyTorch's own numbers overflow


@dataclass(frozen=True)
class EncoderOptions:
    """The sizes that all upstreams share.

    Args:
        hidden_dim: D.
        num_heads: heads of every attention; must divide hidden_dim.
        num_layers: L.
        ffn_ratio: the inner size of the feed-forward block as a multiple of hidden_dim.
        max_frames: the longest input, in stacked frames, of attentions that have weights for positions.
        shared_layers: one layer used L times (Audio ALBERT) instead of L layers (Mockingjay).
        dropout: after every block in training.
        attention_dropout: of attention weights in training; PyTorch has no fused kernel for it on CPUs.
        stack: consecutive 10 ms frames joined to one input frame.
        num_mels: Mel bands of a 10 ms frame.
        weight_init: how linear weights start: ``unit`` N(0, 1 / inputs), outputs as large as inputs; ``bert``
            N(0, 0.02), as in Mockingjay; ``mixed`` the first for the input layer, the second elsewhere.
        positions: the order of the sinusoid's dimensions: ``halves``, sines before cosines; ``interleaved``, by turns,
            as in s3prl.
        norm_eps: what every LayerNorm of the encoder adds to the variance.
    """

    hidden_dim: int = 64
    num_heads: int = 8
    num_layers: int = 3
    ffn_ratio: int = 4
    max_frames: int = 512
    shared_layers: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    stack: int = 3
    num_mels: int = 80
    weight_init: str = "unit"
    positions: str = "halves"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse sizes that no encoder can have."""
        for name in ("hidden_dim", "num_heads", "num_layers", "ffn_ratio", "max_frames", "stack", "num_mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if getattr(self, name) > MOST:
                raise ValueError(f"{name} must be at most {MOST:,}, got {str(getattr(self, name))[:40]}")
        for name, known in (("weight_init", WEIGHT_INITS), ("positions", POSITIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if not 0 < self.norm_eps < math.inf:
            raise ValueError(f"norm_eps must be above 0 and finite, got {self.norm_eps}")
        if self.hidden_dim % self.num_heads or self.hidden_dim % 2:
            raise ValueError(
                f"hidden_dim must be even and a multiple of num_heads, got hidden_dim={self.hidden_dim} "
                f"and num_heads={self.num_heads}"
            )

    @property
    def input_dim(self) -> int:
        """The size of a stacked input frame."""
        return self.stack * self.num_mels


class EncoderLayer(nn.Module):
    """Attention, add, LayerNorm; feed-forward, add, LayerNorm."""

    def __init__(
        self,
        attention: nn.Module,
        *,
        hidden_dim: int,
        ffn_dim: int,
        dropout: float,
        norm_eps: float = EncoderOptions.norm_eps,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(hidden_dim, eps=norm_eps)
        self.ffn_in = nn.Linear(hidden_dim, ffn_dim)
        self.ffn_out = nn.Linear(ffn_dim, hidden_dim)
        self.ffn_norm = nn.LayerNorm(hidden_dim, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, keep)))
        inner = functional.gelu(self.ffn_in(x))
        return self.ffn_norm(x + self.dropout(self.ffn_out(inner)))


class Encoder(nn.Module):
    """Input layer (linear, sinusoid, LayerNorm) and L transformer layers.

    Args:
        options: the sizes.
        attention: called once for every distinct layer, returns its attention module.
    """

    positions: Tensor

    def __init__(self, options: EncoderOptions, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.num_layers = options.num_layers
        self.input = nn.Linear(options.input_dim, options.hidden_dim)
        self.input_norm = nn.LayerNorm(options.hidden_dim, eps=options.norm_eps)
        self.dropout = nn.Dropout(options.dropout)
        distinct = 1 if options.shared_layers else options.num_layers
        self.layers = nn.ModuleList(
            EncoderLayer(
                attention(),
                hidden_dim=options.hidden_dim,
                ffn_dim=options.ffn_ratio * options.hidden_dim,
                dropout=options.dropout,
                norm_eps=options.norm_eps,
            )
            for _ in range(distinct)
        )
        self.order = options.positions
        table = sinusoid(options.max_frames, options.hidden_dim, self.order)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, frames: Tensor, keep: Tensor | None) -> list[Tensor]:
        """Encode stacked frames.

        Args:
            frames: (B, n, input_dim), float.
            keep: (B, n), bool, True where a frame is valid; None when all are.

        Returns:
            The input layer's output and each layer's, L + 1 tensors (B, n, D). Rows of padding hold no information.
        """
        if keep is not None and bool(keep.all()):
            keep = None
        num_frames = frames.shape[1]
        positions = self.positions  # another thread may set it at any moment
        if num_frames > len(positions):
            positions = self.positions = sinusoid(num_frames, positions.shape[1], self.order).to(positions)
        x = self.dropout(self.input_norm(self.input(frames) + positions[:num_frames]))
        states = [x]
        with ExitStack() as contexts:
            contexts.enter_context(fast_linear())
            if len(self.layers) < self.num_layers:
                for module in self.layers.modules():
                    if isinstance(module, InputIndependentAttention):
                        contexts.enter_context(module.one_forward())
            for index in range(self.num_layers):
                states.append(self.layers[index % len(self.layers)](states[-1], keep))
        return states


def initialise(encoder: Encoder, weight_init: str) -> None:
    """Start every linear layer of an encoder as ``EncoderOptions.weight_init`` says; biases are zero."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            unit = weight_init == "unit" or (weight_init == "mixed" and module is encoder.input)
            nn.init.normal_(module.weight, std=module.in_features**-0.5 if unit else 0.02)
            nn.init.zeros_(module.bias)


def sinusoid(num_frames: int, hidden_dim: int, order: str = EncoderOptions.positions) -> Tensor:
    """Positions (n, D) in one of the orders of ``EncoderOptions.positions`` (Vaswani et al. 2017, section 3.5)."""
    exponents = torch.arange(0, hidden_dim, 2, dtype=torch.float64) / hidden_dim
    angles = torch.arange(num_frames)[:, None] / 10_000.0**exponents  # (n, D / 2); float32 would drift with n
    waves = [angles.sin(), angles.cos()]
    return (torch.cat(waves, dim=-1) if order == "halves" else torch.stack(waves, dim=-1).flatten(1)).float()
