"""Control of the LSH family: each query attends to itself and to as many other keys, drawn at random.

Legend: B batch, n frames, D model dim, H heads, K head dim, m keys of a query, c valid frames of an utterance.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..contract import AttentionInfo
from ..kernels.chosen_keys import attend_chosen, chosen_macs
from ..kernels.patterns import pattern_maps
from ..kernels.shared_qk import SharedQueryKey, projection_macs

ROWS_AT_ONCE = 1024  # queries whose keys are gathered at once


@dataclass(frozen=True)
class Options:
    """Which keys.

    Args:
        num_keys: keys of a query, itself included.
        draw_seed: of the draw.
    """

    num_keys: int = 32
    draw_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.num_keys < 2:
            raise ValueError(f"random_keys needs num_keys of at least 2, got {self.num_keys}: the default is 32")


class Attention(nn.Module):
    """softmax(q k^T / sqrt K) v over itself and m - 1 random other valid keys, with k = q.

    The draw is a function of seed, head, number of valid frames and the query's place among them: an utterance meets
    the same keys in every batch and every layer.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        max_frames: int,
        dropout: float = 0.0,
        num_keys: int = Options.num_keys,
        draw_seed: int = Options.draw_seed,
    ) -> None:
        super().__init__()
        del max_frames  # any length will do
        Options(num_keys=num_keys, draw_seed=draw_seed)  # refuses what is out of range
        self.num_keys, self.draw_seed, self.dropout = num_keys, draw_seed, dropout
        self.shared = SharedQueryKey(hidden_dim=hidden_dim, num_heads=num_heads)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        query, value = self.shared(x)
        chosen, ok = self._choose(query, keep)
        dropout = self.dropout if self.training else 0.0
        mixed = [
            attend_chosen(query[:, :, rows], query, value, chosen[:, :, rows], ok[:, :, rows], dropout)
            for rows in map(_slice, torch.arange(x.shape[1]).split(ROWS_AT_ONCE))
        ]
        return self.shared.join(torch.cat(mixed, dim=2), keep)

    def _choose(self, query: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys (B, H, n, m) and which of them count; a frame of the padding has itself alone."""
        batch, num_heads, num_frames, _ = query.shape
        everyone = torch.arange(num_frames, device=query.device)
        chosen = everyone[:, None].repeat(batch, num_heads, 1, min(self.num_keys, num_frames))
        ok = torch.zeros_like(chosen, dtype=torch.bool)
        ok[..., 0] = True
        for utterance in range(batch):
            at = everyone if keep is None else everyone[keep[utterance]]
            drawn = others(num_heads, len(at), self.num_keys - 1, self.draw_seed).to(at.device)  # (H, c, m - 1)
            width = drawn.shape[-1]
            chosen[utterance, :, at, 1 : 1 + width] = at[drawn]
            ok[utterance, :, at, 1 : 1 + width] = True
        return chosen, ok

    @torch.no_grad()
    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n), made densely."""
        query, _ = self.shared(x)
        return pattern_maps(query, keep, self.rule)

    def rule(self, query: Tensor, at: Tensor, length: int) -> Tensor:
        """Which keys the valid queries of one utterance have, (H, c, c) bool."""
        del length
        num_heads, num_valid = query.shape[0], len(at)
        drawn = others(num_heads, num_valid, self.num_keys - 1, self.draw_seed).to(at.device)
        itself = torch.eye(num_valid, dtype=torch.bool, device=at.device).repeat(num_heads, 1, 1)
        return itself.scatter(-1, drawn, True)


@lru_cache(maxsize=24)  # the lengths of a batch, which each layer asks for; 3 KB a frame at 12 heads
def others(num_heads: int, num_valid: int, num_others: int, seed: int) -> Tensor:
    """For each head and frame a random set of other frames, each set as likely as any, (H, c, <= num_others) int64.

    Floyd's method (Bentley & Floyd, A Sample of Brilliance, 1987) for all frames at once: step ``last`` draws from
    0 ... last, and takes ``last`` itself when the number drawn is there already. On the CPU, whatever the default is.
    """
    draws = raw_draws(num_heads, num_valid, num_others, seed)
    taken = torch.empty(num_heads, num_valid, len(draws), dtype=torch.long, device="cpu")
    for count, (last, drawn) in enumerate(draws):
        there = (taken[..., :count] == drawn[..., None]).any(-1)
        taken[..., count] = torch.where(there, last, drawn)
    itself = torch.arange(num_valid, device="cpu")[:, None]
    return (itself + 1 + taken) % max(1, num_valid)  # counted from the frame after it


def raw_draws(num_heads: int, num_valid: int, num_others: int, seed: int) -> list[tuple[int, Tensor]]:
    """The steps of Floyd's method: (last, a number from 0 to last for each head and frame (H, c))."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + num_valid)
    lasts = range(max(0, num_valid - 1 - num_others), num_valid - 1)
    shape = (num_heads, num_valid)
    return [(last, torch.randint(last + 1, shape, generator=generator, device="cpu")) for last in lasts]


def _slice(rows: Tensor) -> slice:
    return slice(int(rows[0]), int(rows[-1]) + 1)


def macs(num_frames: int, hidden_dim: int, num_heads: int, num_keys: int, draw_seed: int) -> int:
    """Multiply-accumulates of one utterance: three projections, each query by its keys, weights by values."""
    del num_heads, draw_seed
    return projection_macs(num_frames, hidden_dim) + chosen_macs(num_frames, min(num_keys, num_frames), hidden_dim)


INFO = AttentionInfo(
    title="Random keys",
    paper="control of the LSH family, this project",
    family="control",
    input_dependent=True,
    order="n",
    macs=macs,
)
