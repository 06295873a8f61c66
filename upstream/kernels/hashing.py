"""Sign random projections: the hash by which the LSH family tells which keys are likely to matter to a query.

Legend: B batch, H heads, n frames, S size of a transformed query or key.
"""

import torch
from torch import Tensor


def directions(num_heads: int, size: int, num_bits: int, seed: int) -> Tensor:
    """Gaussian directions (H, S, bits), one set for each head, a function of the seed alone."""
    return seeded_normal(num_heads, size, num_bits, seed=seed)


def seeded_normal(*shape: int, seed: int) -> Tensor:
    """N(0, 1) numbers, a function of the seed alone: drawn on the CPU even when another device is the default."""
    default = torch.empty(0).device
    drawn_on = default if default.type == "meta" else torch.device("cpu")  # on meta there are shapes without numbers
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), device=drawn_on).to(default)


@torch.no_grad()
def signs(x: Tensor, directions: Tensor) -> Tensor:
    """On which side of each direction x (B, H, n, S) lies: (B, H, n, bits), float32, 1 or -1.

    A positive scale of a row cannot change its signs. Always computed in float32, under autocast too.
    """
    projected = product(x.float(), directions.float())
    return torch.ones_like(projected).copysign_(projected)


def codes(signs: Tensor) -> Tensor:
    """The first bits (at most 24) of hashes (B, H, n, bits) as one number each, (B, H, n) int64."""
    bits = (signs[..., :24] > 0).float()
    powers = 2.0 ** torch.arange(bits.shape[-1], device=bits.device)[:, None]
    return product(bits, powers).squeeze(-1).long()  # exact: float32 holds 24 bits


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in their own precision, under autocast too: half precision would round a rank, and end at 65,504."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
