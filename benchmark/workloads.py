"""What the timing lane times: one encoder's inference, one training step, the features; or an upstream as a whole."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..recipes.config import PretrainConfig, Recipe
from ..recipes.objective import ReconstructionHead, mask_spans, masked_l1
from ..upstream import load
from ..upstream.contract import entry
from ..upstream.encoder import Encoder
from ..upstream.expert import build_encoder
from ..upstream.features import SAMPLE_RATE_HZ, LogMel, num_frames
from .settings import TimingSettings

FEATURES_S = 10.0  # audio in one timed call of the features


def encoder_for(recipe: Recipe, longest_frames: int, device: torch.device) -> Encoder:
    """A fresh encoder of the recipe's sizes with weights for at least ``longest_frames`` positions.

    No algorithm here costs more or less for the values of its weights, so that untrained ones will do,
    and random maps where the recipe starts from a file of them.
    """
    torch.manual_seed(0)
    model = replace(recipe.model, max_frames=max(recipe.model.max_frames, longest_frames))
    return build_encoder(entry(recipe.upstream), model, recipe.attention).to(device)


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


def whole(upstream: Callable[[list[Tensor]], object], seconds: float, device: torch.device) -> Callable[[], None]:
    """Encode one utterance from the waveform on: features and encoder, as s3prl calls an upstream."""
    wave = 0.1 * torch.randn(round(seconds * SAMPLE_RATE_HZ), device=device)

    def run() -> None:
        with torch.inference_mode():
            upstream([wave])
        wait(device)

    return run


def whole_baseline(recipe: Recipe, longest_s: float, device: torch.device) -> nn.Module:
    """The recipe's upstream with random weights, in evaluation, for utterances of up to ``longest_s``."""
    torch.manual_seed(0)
    longest = stacked_frames(longest_s, recipe.model.stack)
    model = replace(recipe.model, max_frames=max(recipe.model.max_frames, longest))
    return load(recipe.upstream, **asdict(model), **recipe.attention).eval().to(device)


def train_step(recipe: Recipe, timing: TimingSettings, device: torch.device) -> Callable[[], None]:
    """One step of pre-training on full-length crops: forward, backward, clip and optimiser step."""
    shape = (timing.train_utterances, recipe.model.max_frames, recipe.model.input_dim)
    frames, chosen = train_batch(shape, recipe.pretrain, device)
    return trained(encoder_for(recipe, 0, device), recipe.model.hidden_dim, frames, chosen)


def trained(encoder: nn.Module, hidden_dim: int, frames: Tensor, chosen: Tensor) -> Callable[[], None]:
    """One step of pre-training ``encoder`` on frames (B, n, C) with ``chosen`` (B, n) to reconstruct."""
    encoder.train()
    head = ReconstructionHead(hidden_dim=hidden_dim, output_dim=frames.shape[-1]).to(frames.device)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.98), fused=True)
    return partial(step_once, encoder, head, frames, chosen, optimizer)


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


def train_batch(shape: tuple[int, int, int], config: PretrainConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise of ``shape`` (B, n, C) and the frames to reconstruct (B, n), always the same."""
    generator = torch.Generator().manual_seed(0)
    rows = [mask_spans(shape[1], config.mask_share, config.span_frames, generator) for _ in range(shape[0])]
    return torch.randn(shape, generator=generator).to(device), torch.stack(rows).to(device)
