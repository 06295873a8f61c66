"""Sparse attention, strided: half of the heads see l = floor(sqrt n) frames around, the others every l-th frame."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ..contract import AttentionInfo
from ..kernels.patterns import halves
from ..kernels.shared_qk import projection_macs
from ..kernels.sparse import local_macs, neighbourhood, stride_of, strided, strided_macs
from ..kernels.sparse_attention import SparseAttention


@dataclass(frozen=True)
class Options:
    """Strided sparse attention has no options of its own."""


def rule(query: Tensor, at: Tensor, length: int) -> Tensor:
    """Who may look at whom, (H, m, m) bool, for m valid frames at positions ``at`` of an utterance of ``length``."""
    stride = stride_of(length)
    i, j = at[:, None], at[None, :]
    first = (i - j).abs() <= stride
    second = (i - j) % stride == 0
    return halves(first, second, query.shape[0])


def macs(num_frames: int, hidden_dim: int, num_heads: int) -> int:
    """Multiply-accumulates of one utterance: three projections, neighbourhoods, residue classes."""
    head_dim, half = hidden_dim // num_heads, num_heads // 2
    patterns = local_macs(num_frames, half, head_dim) + strided_macs(num_frames, num_heads - half, head_dim)
    return projection_macs(num_frames, hidden_dim) + patterns


Attention = partial(SparseAttention, kernels=(neighbourhood, strided), rule=rule)

INFO = AttentionInfo(
    title="Sparse (strided)",
    paper="Child et al., Generating Long Sequences with Sparse Transformers, 2019",
    family="sparse",
    input_dependent=True,
    order="n^1.5",
    macs=macs,
    min_heads=2,
)
