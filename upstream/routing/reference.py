"""Routing attention, one cluster of one head of one utterance at a time."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..kernels.hashing import product
from .attention import Attention


def attend(attention: Attention, x: Tensor, keep: Tensor | None) -> Tensor:
    """(B, n, D) -> (B, n, D)."""
    query, value = attention.shared(x)
    batch, num_heads, num_frames, head_dim = query.shape
    everyone = torch.arange(num_frames, device=x.device)
    utterances = []
    for utterance in range(batch):
        at = everyone if keep is None else everyone[keep[utterance]]
        heads = []
        for head in range(num_heads):
            unit, own = normalize(query[utterance, head, at], dim=-1), value[utterance, head, at]  # (m, K)
            centroids = attention.centroids[head]
            width = -(-len(at) // len(centroids))
            total = unit.new_zeros(len(at), len(at))
            count = unit.new_zeros(len(at), 1)
            for centroid in centroids:
                members = product(unit.detach().float(), centroid.float()).argsort(descending=True)[:width]
                weights = (unit[members] @ unit[members].T * head_dim**0.5).softmax(-1)
                total = total + torch.zeros_like(total).index_put((members[:, None], members), weights)
                count[members] += 1
            maps = torch.where(count > 0, total / count.clamp_min(1), torch.eye(len(at)).to(unit))
            heads.append(value.new_zeros(num_frames, head_dim).index_copy(0, at, maps @ own))
        utterances.append(torch.stack(heads))
    return attention.shared.join(torch.stack(utterances), keep)
