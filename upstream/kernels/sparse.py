"""Sparse attention in O(n sqrt n): neighbourhoods, strides, blocks and summary columns, without an n x n tensor.

Legend: B batch, n frames, h heads, K head dim, l stride, floor(sqrt n) of each utterance's own length, c = ceil(n / l).

Child et al., Generating Long Sequences with Sparse Transformers, 2019, in its bidirectional form. Every function takes
queries (which are the keys) and values (B, h, n, K), the mask ``keep`` (B, n), True = valid, or None, l, and the share
of the weights to drop; it returns mixed values (B, h, n, K). Rows of padding mean nothing, but are finite.
"""

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.functional import scaled_dot_product_attention as attend

from .lengths import own_lengths

Kernel = Callable[[Tensor, Tensor, Tensor | None, int, float], Tensor]


def stride_of(length: int) -> int:
    """l for an utterance of ``length`` frames; 1 for the shortest."""
    return max(1, isqrt(length))


def with_own_stride(query: Tensor, value: Tensor, keep: Tensor | None, dropout: float, kernel: Kernel) -> Tensor:
    """Run a kernel on all utterances of one stride at a time, so that none depends on its batch mates."""
    batch, _, num_frames, _ = query.shape
    lengths = own_lengths(keep, batch, num_frames)
    strides = [stride_of(length) for length in lengths]
    if min(strides) == max(strides):
        return kernel(query, value, keep, strides[0], dropout)
    assert keep is not None, "without padding all lengths are the same"
    pieces, rows = [], []
    for stride in sorted(set(strides)):
        at = [row for row in range(batch) if strides[row] == stride]
        longest = max(1, *(lengths[row] for row in at))
        mixed = kernel(query[at, :, :longest], value[at, :, :longest], keep[at, :longest], stride, dropout)
        pieces.append(pad(mixed, (0, 0, 0, num_frames - longest)))
        rows += at
    return torch.cat(pieces)[torch.tensor(rows).argsort().to(query.device)]


def neighbourhood(query: Tensor, value: Tensor, keep: Tensor | None, stride: int, dropout: float) -> Tensor:
    """Keys with |i - j| <= l: each block of l queries looks at its own block and the two beside it."""
    num_frames, num_blocks = query.shape[2], -(-query.shape[2] // stride)
    beyond = num_blocks * stride - num_frames
    inside = query.new_ones(1, num_frames, dtype=torch.bool) if keep is None else keep
    valid = _around(inside[:, None, :, None], stride, beyond)[:, :, 0, :, 0]  # (B, c, 3l)
    own = torch.arange(stride, device=query.device)[:, None] + stride
    key = torch.arange(3 * stride, device=query.device)[None]
    near = (own - key).abs() <= stride  # (l, 3l)
    allowed = near & (valid[:, :, None, None] | (own == key))  # (B, c, 1, l, 3l): a query in the padding sees itself
    queries = _in_rows(query, stride).transpose(1, 2)  # (B, c, h, l, K)
    keys, values = (_around(part, stride, beyond) for part in (query, value))  # (B, c, h, 3l, K)
    allowed = allowed.expand(queries.shape[0], -1, -1, -1, -1)
    q, k, v = (part.flatten(0, 1) for part in (queries, keys, values))
    mixed = attend(q, k, v, attn_mask=allowed.flatten(0, 1), dropout_p=dropout)
    return mixed.unflatten(0, (-1, num_blocks)).transpose(1, 2).flatten(2, 3)[:, :, :num_frames]


def strided(query: Tensor, value: Tensor, keep: Tensor | None, stride: int, dropout: float) -> Tensor:
    """Keys with (i - j) mod l = 0: attention within each of the l residue classes."""
    mixed = _within_groups(
        query, value, keep, dropout, lambda x: _in_rows(x, stride).transpose(2, 3)
    )  # (B, h, l, c, K)
    return mixed.transpose(2, 3).flatten(2, 3)[:, :, : query.shape[2]]


def blocks(query: Tensor, value: Tensor, keep: Tensor | None, stride: int, dropout: float) -> Tensor:
    """Keys with floor(i / l) = floor(j / l): attention within each block."""
    mixed = _within_groups(query, value, keep, dropout, lambda x: _in_rows(x, stride))  # (B, h, c, l, K)
    return mixed.flatten(2, 3)[:, :, : query.shape[2]]


def summaries(query: Tensor, value: Tensor, keep: Tensor | None, stride: int, dropout: float) -> Tensor:
    """Keys with j mod l = l - 1; where none of these is valid, a query looks at itself."""
    keys, values = query[:, :, stride - 1 :: stride], value[:, :, stride - 1 :: stride]
    if keep is None:
        return attend(query, keys, values, dropout_p=dropout)
    valid = keep[:, None, None, stride - 1 :: stride]  # (B, 1, 1, n // l)
    any_valid = valid.any(-1, keepdim=True)
    mixed = attend(query, keys, values, attn_mask=valid | ~any_valid, dropout_p=dropout)
    return torch.where(any_valid, mixed, value)


def _in_rows(x: Tensor, stride: int) -> Tensor:
    """(B, h, n, ...) -> (B, h, c, l, ...): frame c l + r stands in row c, column r; zeros fill the last row."""
    beyond = -x.shape[2] % stride
    return pad(x, (0, 0) * (x.dim() - 3) + (0, beyond)).unflatten(2, (-1, stride))


def _within_groups(
    query: Tensor, value: Tensor, keep: Tensor | None, dropout: float, grouped: Callable[[Tensor], Tensor]
) -> Tensor:
    """Attention of each group to itself; ``grouped`` lays frames (B, h, n, K) out as (B, h, groups, members, K)."""
    inside = query.new_ones(1, query.shape[2], dtype=torch.bool) if keep is None else keep
    valid = grouped(inside[:, None, :, None])[:, 0, :, :, 0]  # (B, groups, members)
    mask = None
    if not bool(valid.all()):
        mask = (valid | ~valid.any(-1, keepdim=True)).expand(len(query), -1, -1).flatten(0, 1)[:, None, None]
    queries, values = (grouped(part).transpose(1, 2).flatten(0, 1) for part in (query, value))  # (B groups, h, ., K)
    mixed = attend(queries, queries, values, attn_mask=mask, dropout_p=dropout)
    return mixed.unflatten(0, (len(query), -1)).transpose(1, 2)


def _around(x: Tensor, stride: int, beyond: int) -> Tensor:
    """(B, h, n, K) -> (B, c, h, 3l, K): for each block of l frames, itself and the blocks before and after it."""
    padded = pad(x, (0, 0, stride, stride + beyond))
    return padded.unfold(2, 3 * stride, stride).transpose(-1, -2).transpose(1, 2)


def local_macs(num_frames: int, num_heads: int, head_dim: int) -> int:
    """Multiply-accumulates of ``neighbourhood``."""
    stride = stride_of(num_frames)
    return 6 * -(-num_frames // stride) * stride**2 * num_heads * head_dim


def strided_macs(num_frames: int, num_heads: int, head_dim: int) -> int:
    """Multiply-accumulates of ``strided``."""
    stride = stride_of(num_frames)
    return 2 * stride * (-(-num_frames // stride)) ** 2 * num_heads * head_dim


def blocks_macs(num_frames: int, num_heads: int, head_dim: int) -> int:
    """Multiply-accumulates of ``blocks``."""
    stride = stride_of(num_frames)
    return 2 * -(-num_frames // stride) * stride**2 * num_heads * head_dim


def summaries_macs(num_frames: int, num_heads: int, head_dim: int) -> int:
    """Multiply-accumulates of ``summaries``."""
    return 2 * num_frames * (num_frames // stride_of(num_frames)) * num_heads * head_dim
