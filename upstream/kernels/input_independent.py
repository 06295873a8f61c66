"""Attention whose weights are parameters: softmax(R) V without a tensor of B x H x n x n.

Legend: B batch, n frames, D model dim, H heads, K head dim, N max_frames.

The weights do not depend on the batch, so one softmax serves all of it, and H products (n x n) by (n x B*K) apply
them. In evaluation the softmax is kept until R changes, in training too when R is frozen; layers that share their
parameters share it within a forward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .heads import masked_softmax, zero_padding
from .lengths import refuse_beyond


class InputIndependentAttention(nn.Module):
    """softmax(R[:, :n, :n]) V with value and output projection.

    Args:
        logits: R at the start, (H, N, N).
        hidden_dim: D, a multiple of H.
        dropout: share of attention weights dropped in training.
        frozen: R is a buffer, which no training changes.
    """

    logits: Tensor

    def __init__(self, logits: Tensor, *, hidden_dim: int, dropout: float, frozen: bool = False) -> None:
        super().__init__()
        self.num_heads, self.max_frames = logits.shape[:2]
        if frozen:
            self.register_buffer("logits", logits)
        else:
            self.logits = nn.Parameter(logits)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self._kept: tuple[tuple[object, ...], Tensor] | None = None  # evaluation or frozen: key, softmax
        self._shared: dict[int, Tensor] | None = None  # one forward of layers that share parameters

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D); raises ``ValueError`` when n > max_frames."""
        weights = self.softmax(x.shape[1])  # (H, n, n)
        values = self.value(x).unflatten(-1, (self.num_heads, -1))  # (B, n, H, K)
        mixed, lost = mix(weights, values, keep, self.dropout)
        if lost is not None:
            mixed = self._mix_each(mixed, values, keep, lost)
        return zero_padding(self.output(mixed.flatten(2)), keep)

    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n): the same for every utterance but for its padding."""
        logits = self._logits(x.shape[1]).expand(x.shape[0], -1, -1, -1)
        return masked_softmax(logits, keep)

    def softmax(self, num_frames: int) -> Tensor:
        """softmax(R[:, :n, :n]), (H, n, n), computed as rarely as R allows.

        A write through ``.data`` goes unseen: call ``.train()`` or ``.eval()`` after it. In evaluation, threads may
        share the module.
        """
        kept, shared = self._kept, self._shared  # another thread may set them at any moment
        trained = self.logits.requires_grad and (self.training or torch.is_grad_enabled())
        if trained or self.logits.is_inference():  # the latter has no version to watch
            if shared is None:
                return self._logits(num_frames).softmax(-1)
            if num_frames not in shared:
                shared[num_frames] = self._logits(num_frames).softmax(-1)
            return shared[num_frames]
        key = (num_frames, self.logits._version, self.logits.data_ptr(), self.logits.dtype, self.logits.device)
        if kept is None or kept[0] != key:
            self._kept = kept = None  # the old one goes before the new one comes
            with torch.inference_mode(False), torch.no_grad():  # one made in inference mode could not serve a backward
                self._kept = kept = (key, self._logits(num_frames).softmax(-1))
        return kept[1]

    @contextmanager
    def one_forward(self) -> Iterator[None]:
        """Within this context the softmax of a length is computed once, however many layers ask for it."""
        self._shared = {}
        try:
            yield
        finally:
            self._shared = None

    def train(self, mode: bool = True) -> "InputIndependentAttention":
        """Switch mode and drop what evaluation had kept."""
        self._kept = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> "InputIndependentAttention":
        """Drop what was kept when weights are cast or moved: the new ones may lie where the old ones lay."""
        self._kept = None
        return super()._apply(*args, **kwargs)

    def _logits(self, num_frames: int) -> Tensor:
        refuse_beyond(self.max_frames, num_frames)
        return self.logits[:, :num_frames, :num_frames]

    def _mix_each(self, mixed: Tensor, values: Tensor, keep: Tensor | None, lost: Tensor) -> Tensor:
        """Mix the lost utterances (B,) again, each by a softmax over its own frames: their weight lies on padding."""
        assert keep is not None
        logits = self._logits(values.shape[1])
        for utterance in lost.nonzero().flatten().tolist():
            at = keep[utterance].nonzero().squeeze(1)
            weights = self.dropout(logits[:, at][:, :, at].softmax(-1))  # (H, m, m)
            own = torch.einsum("hqk,khd->qhd", weights, values[utterance, at])
            mixed[utterance] = mixed[utterance].index_copy(0, at, own.to(mixed.dtype))
        return mixed


def mix(weights: Tensor, values: Tensor, keep: Tensor | None, dropout: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Apply weights (H, n, n) to values (B, n, H, K) -> (B, n, H, K), over valid keys only.

    With padding this is (A (m v)) / (A m): exact, because a softmax over fewer keys is the same weights renormalised.
    Dropout thins out the numerator alone, as it does after an ordinary softmax.
    Also the utterances to mix again, (B,) bool, or None: those with a query whose valid keys hold so little weight that
    the quotient loses its digits. In float16 short utterances often are such; in other types one is so rare that it
    takes the batch with it.
    """
    batch, _, _, head_dim = values.shape
    if keep is not None:
        values = values.masked_fill(~keep[..., None, None], 0.0)
    columns = values.permute(2, 1, 0, 3).flatten(2)  # (H, n, B*K)
    mixed = products(dropout(weights), columns).unflatten(-1, (batch, head_dim)).permute(2, 1, 0, 3)  # (B, n, H, K)
    if keep is None:
        return mixed, None
    mass = (weights @ keep.T.to(weights.dtype)).permute(2, 1, 0)  # (B, n, H)
    smallest = torch.finfo(mass.dtype).tiny ** 0.5
    lost = (mass < smallest).logical_and(keep[..., None]).flatten(1).any(1)
    if mass.dtype != torch.float16:
        lost = lost.any().expand_as(lost)
    return mixed / mass.clamp_min(smallest)[..., None], lost if lost.any() else None


def products(weights: Tensor, columns: Tensor) -> Tensor:
    """H products: (H, n, n), (H, n, m) -> (H, n, m). On CPUs one by one, because ``linear`` has the faster detour."""
    if weights.device.type != "cpu":
        return weights @ columns
    return torch.stack([linear(weight, column.T) for weight, column in zip(weights, columns, strict=True)])


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: two projections and one product with the maps."""
    return 2 * num_frames * hidden_dim**2 + num_frames**2 * hidden_dim
