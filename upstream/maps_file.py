"""A file of attention maps from which attentions with an option ``maps`` start, layer by layer.

safetensors, one tensor ``maps`` (L, H, N, N) float32: rows are queries and sum to 1. L is the number of distinct
layers, 1 where layers share their weights. Written by ``python -m s3prl_attention.benchmark.attention.mean_maps``.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import read_tensors

TENSOR = "maps"
COMMAND = "python -m s3prl_attention.benchmark.attention.mean_maps"
ROW_SUM_TOLERANCE = 1e-3


def how_to_make_maps(name: str, source: str) -> str:
    """The message for an upstream that must start from maps and was given no file."""
    return (
        f"{name} starts from the maps of a trained {source} and got no file of them: pre-train {source}, derive them "
        f"with {COMMAND} CHECKPOINT --out FILE, and set the option maps (in pre-training: attention.maps=FILE)"
    )


def read_maps(path: str | Path, num_layers: int, num_heads: int, max_frames: int) -> Tensor:
    """The maps for ``num_layers`` distinct layers, (L, H, max_frames, max_frames) float32.

    Maps made for more frames are cut to the first ``max_frames`` and their rows normalised anew; a row that has no
    weight left becomes identity.

    Raises:
        ValueError: naming the file, the rule and the cure, when it does not hold maps for these sizes.
    """
    maps = _load(path)
    layers, heads, frames = maps.shape[:3]
    cure = f"derive maps from a model of the same sizes with {COMMAND}"
    if layers != num_layers or heads != num_heads:
        raise ValueError(
            f"{path} has maps of {layers} layers with {heads} heads, but the model has {num_layers} distinct layers "
            f"with {num_heads} heads: {cure}"
        )
    if frames < max_frames:
        raise ValueError(f"{path} has maps of {frames} frames, fewer than max_frames={max_frames}: {cure}")
    if frames == max_frames:
        return maps
    cut = maps[:, :, :max_frames, :max_frames]
    mass = cut.sum(-1, keepdim=True)
    return torch.where(mass > 0, cut / mass.clamp_min(torch.finfo(mass.dtype).tiny), torch.eye(max_frames))


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the maps in a file: the same wherever it lies, and whatever its metadata say.

    Raises:
        ValueError: when the file holds no maps.
    """
    maps = _load(path)
    digest = hashlib.sha256(str(tuple(maps.shape)).encode())
    digest.update(maps.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load(path: str | Path) -> Tensor:
    """The maps of a file, valid in themselves: (L, H, N, N) float32, finite, not negative, rows sum to 1."""
    cure = f"derive them again with {COMMAND}"
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file of maps: name one that exists, or make it with {COMMAND}")
    tensors = read_tensors(path, cure)
    if TENSOR not in tensors:
        raise ValueError(f"{path} has no tensor {TENSOR!r}, only {', '.join(sorted(tensors)) or 'none'}: {cure}")
    maps = tensors[TENSOR]
    if maps.dim() != 4 or maps.shape[2] != maps.shape[3] or maps.numel() == 0:
        raise ValueError(f"{path} must hold maps of shape (L, H, N, N), got {tuple(maps.shape)}: {cure}")
    if maps.dtype != torch.float32:
        raise ValueError(f"{path} must hold maps in float32, got {maps.dtype}: {cure}")
    if not torch.isfinite(maps).all() or (maps < 0).any():
        raise ValueError(f"{path} must hold maps that are finite and not negative: {cure}")
    worst = float((maps.sum(-1) - 1).abs().max())
    if worst > ROW_SUM_TOLERANCE:
        raise ValueError(f"{path} must hold maps whose rows sum to 1, one is off by {worst:.2g}: {cure}")
    return maps
