"""Splitting into heads and the masked softmax: the pieces that every dense attention is written with.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, n, D) -> (B, H, n, K), a view."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, n, K) -> (B, n, D)."""
    return x.transpose(1, 2).flatten(2)


def zero_padding(x: Tensor, keep: Tensor | None) -> Tensor:
    """Set the padding rows of x (B, n, D) to zero."""
    return x if keep is None else x.masked_fill(~keep[..., None], 0.0)


def masked_softmax(logits: Tensor, keep: Tensor | None) -> Tensor:
    """Softmax of logits, broadcastable to (B, H, n, n), over valid keys; rows of padding queries are zero."""
    if keep is None:
        return logits.softmax(-1)
    keys, queries = keep[:, None, None, :], keep[:, None, :, None]  # (B, 1, 1, n), (B, 1, n, 1)
    weights = logits.masked_fill(~keys, torch.finfo(logits.dtype).min).softmax(-1)
    return weights.masked_fill(~(keys & queries), 0.0)


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, dropout: float, scale: float | None = None
) -> Tensor:
    """softmax(scale Q K^T) V over valid keys in PyTorch's fused kernel, which never holds the maps.

    Args:
        query: (B, H, n, K), as ``key`` and ``value`` are.
        keep: (B, n) bool, True = valid; an utterance without a valid frame gives numbers that mean nothing, but no NaN.
        dropout: share of the weights dropped; 0 in evaluation.
        scale: 1 / sqrt K unless told.
    """
    mask = None
    if keep is not None:
        mask = (keep | ~keep.any(1, keepdim=True))[:, None, None, :]  # (B, 1, 1, n)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def take_frames(x: Tensor, frames: Tensor) -> Tensor:
    """Rows of x (B, H, n, K) by frame number (B, H, ...), int64: (B, H, ..., K)."""
    return x.reshape(-1, x.shape[-1]).index_select(0, flat_rows(frames, x.shape[2])).view(*frames.shape, x.shape[-1])


def flat_rows(frames: Tensor, num_frames: int) -> Tensor:
    """Frame numbers (B, H, ...) as row numbers of an array (B * H * n, K), one-dimensional."""
    batch, num_heads = frames.shape[:2]
    first = num_frames * torch.arange(batch * num_heads, device=frames.device)
    return (first.view(batch, num_heads, *[1] * (frames.dim() - 2)) + frames).flatten()
