"""Routing attention: each centroid takes the frames nearest to it, and these attend to one another.

Legend: B batch, n frames, D model dim, H heads, K head dim, C clusters, w frames of a cluster.
"""

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from ..contract import AttentionInfo
from ..kernels.hashing import product, seeded_normal
from ..kernels.heads import flat_rows, take_frames
from ..kernels.shared_qk import SharedQueryKey, projection_macs


@dataclass(frozen=True)
class Options:
    """The clusters.

    Args:
        num_clusters: centroids of a head; 0 for floor(sqrt(max_frames)).
        decay: share of a centroid that a training step keeps.
        centroid_seed: of the centroids at the start.
    """

    num_clusters: int = 0
    decay: float = 0.999
    centroid_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.num_clusters < 0:
            raise ValueError(f"routing needs num_clusters of at least 1, or 0 for sqrt(n), got {self.num_clusters}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"routing needs a decay from 0 to 1, got {self.decay}: the default is 0.999")


class Attention(nn.Module):
    """softmax(sqrt K u u^T) v within clusters, u = q / |q| the unit-norm queries, which are the keys too.

    A cluster takes the w = ceil(valid frames / C) frames nearest to its centroid. A frame in several clusters gets the
    mean of what it gets in each, a frame in none its own value. The centroids are a buffer; each forward in training
    (with gradients) moves them towards the frames nearest to them, after they have been used.
    """

    centroids: Tensor

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        num_clusters: int = Options.num_clusters,
        decay: float = Options.decay,
        centroid_seed: int = Options.centroid_seed,
    ) -> None:
        super().__init__()
        Options(num_clusters=num_clusters, decay=decay, centroid_seed=centroid_seed)  # refuses what is out of range
        self.decay, self.dropout = decay, dropout
        self.shared = SharedQueryKey(hidden_dim=hidden_dim, num_heads=num_heads)
        drawn = seeded_normal(num_heads, num_clusters or isqrt(max_frames), hidden_dim // num_heads, seed=centroid_seed)
        self.register_buffer("centroids", normalize(drawn, dim=-1))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, value = self.shared(x)
        return self.shared.join(self._mix(query, value, keep), keep)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n): what comes out when the value of a frame is its number."""
        query, _ = self.shared(x)
        numbers = torch.eye(x.shape[1], dtype=query.dtype, device=x.device).expand(*query.shape[:2], -1, -1)
        maps = self._mix(query, numbers, keep)
        return maps if keep is None else maps.masked_fill(~keep[:, None, :, None], 0.0)

    def _mix(self, query: Tensor, value: Tensor, keep: Tensor | None) -> Tensor:
        """Values (B, H, n, V) mixed within clusters: (B, H, n, V)."""
        num_frames, head_dim = query.shape[2:]
        unit = normalize(query, dim=-1)
        members, ok = self._route(unit, keep)  # (B, H, C, w)
        queries, values = take_frames(unit, members), take_frames(value, members)  # (B, H, C, w, ...)
        mask = (ok | ~ok.any(-1, keepdim=True))[..., None, :].flatten(0, 1)  # (B H, C, 1, w)
        units, mixable = queries.flatten(0, 1), values.flatten(0, 1)  # (B H, C, w, ...)
        mixed = scaled_dot_product_attention(
            units,
            units,
            mixable,
            attn_mask=mask,
            scale=head_dim**0.5,
            dropout_p=self.dropout if self.training else 0.0,
        )
        rows, share = flat_rows(members, num_frames), ok.flatten().to(mixed.dtype)
        flat = value.reshape(-1, value.shape[-1])
        total = torch.zeros_like(flat).index_add(0, rows, mixed.reshape(len(rows), -1) * share[:, None])
        count = share.new_zeros(len(flat)).index_add(0, rows, share)[:, None]
        return torch.where(count > 0, total / count.clamp_min(1), flat).view_as(value)

    @torch.no_grad()
    def _route(self, unit: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """The frames of each cluster (B, H, C, w), best first, and which of them count."""
        batch, _, num_frames, _ = unit.shape
        nearness = product(self.centroids.float(), unit.float().transpose(-1, -2))  # (B, H, C, n)
        num_valid = unit.new_full((batch,), num_frames, dtype=torch.long) if keep is None else keep.sum(1)
        if keep is not None:
            nearness = nearness.masked_fill(~keep[:, None, None], float("-inf"))
        own_width = -(-num_valid // nearness.shape[2])  # (B,)
        width = max(1, int(own_width.max()))
        best = nearness.topk(width, dim=-1)
        counts = torch.arange(width, device=unit.device) < own_width[:, None]  # (B, w)
        ok = counts[:, None, None] & (best.values > float("-inf"))
        if self.training and unit.requires_grad:
            self._move(unit, nearness, keep)
        return best.indices, ok

    def _move(self, unit: Tensor, nearness: Tensor, keep: Tensor | None) -> None:
        """Each centroid a little towards the mean of the frames nearest to it: an exponential moving average."""
        nearest = nearness.argmax(2, keepdim=True)  # (B, H, 1, n)
        belongs = torch.zeros_like(nearness).scatter_(2, nearest, 1.0)  # (B, H, C, n)
        if keep is not None:
            belongs = belongs * keep[:, None, None]
        total = product(belongs, unit.float()).sum(0)  # (H, C, K)
        count = belongs.sum((0, 3))[..., None]  # (H, C, 1)
        moved = self.decay * self.centroids + (1 - self.decay) * total / count.clamp_min(1)
        self.centroids.copy_(torch.where(count > 0, normalize(moved, dim=-1), self.centroids))


def macs(num_frames: int, hidden_dim: int, num_heads: int, num_clusters: int, decay: float, centroid_seed: int) -> int:
    """Multiply-accumulates of one utterance: three projections, frames by centroids, attention within clusters.

    With ``num_clusters`` 0 it is told for a model whose max_frames is ``num_frames``.
    """
    del num_heads, decay, centroid_seed
    clusters = num_clusters or isqrt(num_frames)
    width = -(-num_frames // clusters)
    return projection_macs(num_frames, hidden_dim) + (num_frames + 2 * width**2) * clusters * hidden_dim


INFO = AttentionInfo(
    title="Routing",
    paper="Roy et al., Efficient Content-Based Sparse Attention with Routing Transformers, TACL 2021",
    family="routing",
    input_dependent=True,
    order="n^1.5",
    macs=macs,
    selects_keys=True,
)
