"""What the timing lane times: one encoder's inference, one training step, the features."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..recipes.config import Recipe
from ..recipes.objective import ReconstructionHead, mask_spans, masked_l1
from ..upstream.encoder import Encoder
from ..upstream.expert import UpstreamExpert
from ..upstream.features import SAMPLE_RATE_HZ, LogMel, num_frames
from .settings import TimingSettings

FEATURES_S = 10.0  # audio in one timed call of the features


def encoder_for(recipe: Recipe, longest_frames: int, device: torch.device) -> Encoder:
    """A fresh encoder of the recipe's sizes with weights for at least ``longest_frames`` positions.

    No algorithm here costs more or less for the values of its weights, so that untrained ones will do.
    """
    torch.manual_seed(0)
    model = replace(recipe.model, max_frames=max(recipe.model.max_frames, longest_frames))
    return UpstreamExpert(recipe.upstream, **asdict(model), **recipe.attention).encoder.to(device)


def stacked_frames(seconds: float, stack: int) -> int:
    """Stacked frames of an utterance."""
    return math.ceil(num_frames(round(seconds * SAMPLE_RATE_HZ)) / stack)


def inference(encoder: nn.Module, num_frames: int, input_dim: int, device: torch.device) -> Callable[[], None]:
    """Encode one utterance of ``num_frames`` stacked frames; puts the encoder into evaluation."""
    encoder.eval()
    frames = torch.randn(1, num_frames, input_dim, device=device)

    def run() -> None:
        with torch.inference_mode():
            encoder(frames, None)
        wait(device)

    return run


def train_step(recipe: Recipe, timing: TimingSettings, device: torch.device) -> Callable[[], None]:
    """One step of pre-training on full-length crops: forward, backward, clip and optimiser step."""
    encoder = encoder_for(recipe, 0, device).train()
    head = ReconstructionHead(hidden_dim=recipe.model.hidden_dim, output_dim=recipe.model.input_dim).to(device)
    return partial(step_once, encoder, head, *_batch(recipe, timing, device), _optimizer(encoder, head))


def step_once(
    encoder: nn.Module, head: nn.Module, frames: Tensor, chosen: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """Forward, backward, clip, step on frames (B, n, C) with ``chosen`` (B, n) to reconstruct."""
    loss = masked_l1(encoder, head, frames.masked_fill(chosen[..., None], 0.0), frames, chosen, torch.ones_like(chosen))
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 5.0)
    optimizer.step()
    wait(frames.device)


def features(device: torch.device) -> Callable[[], None]:
    """Log-Mel frames of ``FEATURES_S`` of audio: the same for every upstream."""
    log_mel, wave = LogMel().to(device), 0.1 * torch.randn(round(FEATURES_S * SAMPLE_RATE_HZ), device=device)

    def run() -> None:
        with torch.inference_mode():
            log_mel(wave)
        wait(device)

    return run


def wait(device: torch.device) -> None:
    """Let a GPU finish, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _batch(recipe: Recipe, timing: TimingSettings, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    length, config = recipe.model.max_frames, recipe.pretrain
    rows = [mask_spans(length, config.mask_share, config.span_frames, generator) for _ in range(timing.train_utterances)]
    frames = torch.randn(timing.train_utterances, length, recipe.model.input_dim, generator=generator)
    return frames.to(device), torch.stack(rows).to(device)


def _optimizer(encoder: nn.Module, head: nn.Module) -> torch.optim.Optimizer:
    parameters = [*encoder.parameters(), *head.parameters()]
    return torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.98), fused=True)
