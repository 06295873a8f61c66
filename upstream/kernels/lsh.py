"""Attention to the keys that a hash picks: what the LSH family shares. A member is little more than its transforms.

Legend: B batch, n frames, D model dim, H heads, K head dim, S size of a transformed query or key, m keys of a query.

Queries and keys are transformed (Q and P below) so that a large inner product becomes a small angle; sign random
projections then hash angles. Each query attends to itself and to the m - 1 other keys whose hash agrees best with its
own. No gradient flows through the choice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo, Variant
from ..registry import nearest
from .bucketed import bucketed, bucketed_macs
from .exact_keys import exact, exact_macs
from .hashing import directions, signs
from .lsh_reference import select_bucketed, select_exact
from .patterns import pattern_maps
from .shared_qk import SharedQueryKey, projection_macs

MODES = ("exact", "bucketed")

Transform = Callable[[Tensor, Tensor], Tensor]
"""(x (..., n, K), M (..., 1, 1): the largest norm among the valid frames) -> (..., n, S)."""


@dataclass(frozen=True)
class Transforms:
    """P for keys and Q for queries; both append ``num_extra`` coordinates to the K of a head."""

    keys: Transform
    queries: Transform
    num_extra: int


@dataclass(frozen=True)
class LshOptions:
    """How keys are picked.

    Args:
        mode: ``exact`` ranks all keys by the agreement of their hash, the definition; ``bucketed`` sorts queries and
            keys by hash and ranks only the keys near the query's place, in O(n log n).
        num_bits: random directions of a hash.
        num_keys: keys of a query, itself included.
        hash_seed: of the directions.
    """

    mode: str = "exact"
    num_bits: int = 64
    num_keys: int = 32
    hash_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.mode not in MODES:
            raise ValueError(f"LSH attention has no mode {self.mode!r}: {nearest(self.mode, list(MODES))}")
        if not 1 <= self.num_bits <= 256:
            raise ValueError(f"LSH attention needs num_bits from 1 to 256, got {self.num_bits}: the default is 64")
        if self.num_keys < 2:
            raise ValueError(f"LSH attention needs num_keys of at least 2, got {self.num_keys}: the default is 32")


class LshAttention(nn.Module):
    """softmax(q k^T / sqrt K) v over m keys picked by hash, with k = q.

    Args:
        transforms: the family member.
        hidden_dim: D, a multiple of H.
        num_heads: H.
        max_frames: not used: any length will do in mode ``bucketed``, 32,768 frames in mode ``exact``.
        dropout: share of attention weights dropped in training.
        mode, num_bits, num_keys, hash_seed: see `LshOptions`.
    """

    directions: Tensor

    def __init__(
        self,
        *,
        transforms: Transforms,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        mode: str = LshOptions.mode,
        num_bits: int = LshOptions.num_bits,
        num_keys: int = LshOptions.num_keys,
        hash_seed: int = LshOptions.hash_seed,
    ) -> None:
        super().__init__()
        del max_frames
        LshOptions(mode=mode, num_bits=num_bits, num_keys=num_keys, hash_seed=hash_seed)  # refuses what is out of range
        self.transforms = transforms
        self.mode, self.num_keys, self.dropout = mode, num_keys, dropout
        self.shared = SharedQueryKey(hidden_dim=hidden_dim, num_heads=num_heads)
        size = hidden_dim // num_heads + transforms.num_extra
        self.register_buffer("directions", directions(num_heads, size, num_bits, hash_seed))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, value = self.shared(x)
        kernel = exact if self.mode == "exact" else bucketed
        dropout = self.dropout if self.training else 0.0
        mixed = kernel(query, value, keep, *self.hashes(query, keep), self.num_keys, dropout)
        return self.shared.join(mixed, keep)

    @torch.no_grad()
    def hashes(self, query: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Signs of the keys and of the queries, each (B, H, n, bits), 1 or -1."""
        x = query.float()
        norms = x.norm(dim=-1, keepdim=True)
        if keep is not None:
            norms = norms * keep[:, None, :, None]
        largest = norms.amax(-2, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        keys, queries = self.transforms.keys(x, largest), self.transforms.queries(x, largest)
        return signs(keys, self.directions), signs(queries, self.directions)

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n), made densely; keys that are not picked have none."""
        query, _ = self.shared(x)
        return pattern_maps(query, keep, self.rule)

    def rule(self, query: Tensor, at: Tensor, length: int) -> Tensor:
        """Which keys the valid queries (H, m, K) of one utterance pick, (H, m, m) bool, plainly."""
        del length
        key_signs, query_signs = (part[0] for part in self.hashes(query[None], None))
        select = select_exact if self.mode == "exact" else select_bucketed
        return select(key_signs, query_signs, at, self.num_keys)


def lsh_info(title: str, paper: str, num_extra: int, twins: str = "") -> AttentionInfo:
    """The facts of a family member; ``twins`` are the members that select the same keys."""

    def macs(
        num_frames: int, hidden_dim: int, num_heads: int, mode: str, num_bits: int, num_keys: int, hash_seed: int
    ) -> int:
        del hash_seed
        hashing = 2 * num_frames * (hidden_dim + num_heads * num_extra) * num_bits
        count = exact_macs if mode == "exact" else bucketed_macs
        attended = count(num_frames, hidden_dim, num_heads, num_bits, num_keys)
        return projection_macs(num_frames, hidden_dim) + hashing + attended

    return AttentionInfo(
        title=title,
        paper=paper,
        family="lsh",
        input_dependent=True,
        order="n^2",
        macs=macs,
        selects_keys=True,
        variants={"bucketed": Variant({"mode": "bucketed"}, order="n log n")},
        note=f"selects the same keys as {twins}: a positive scale cannot change a sign hash, and what differs between "
        "their rows is noise"
        if twins
        else "",
    )
