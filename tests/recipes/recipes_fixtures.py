"""A corpus of generated recordings, the same for everyone who asks, and a recipe small enough for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from s3prl_attention.recipes.config import Recipe, load_recipe
from s3prl_attention.recipes.corpora import Corpus, load_corpus
from s3prl_attention.upstream.contract import entry
from safetensors.torch import save_file

SMALL = (
    "data.corpus=librispeech",
    "model.hidden_dim=16",
    "model.num_heads=8",
    "model.num_layers=1",
    "model.max_frames=40",
    "pretrain.batch_frames=120",
    "pretrain.steps=12",
    "pretrain.learning_rate=3e-3",
    "pretrain.log_every=1",
    "pretrain.save_every=4",
    "pretrain.valid_every=6",
)


def small_recipe(upstream: str = "fixed_init", *overrides: str) -> Recipe:
    """A recipe whose 12 steps take a fraction of a second; states are saved after steps 4 and 8."""
    return load_recipe(upstream, "smoke", [*SMALL, *overrides])


def with_maps(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with a file of flat maps at ``path``, if its upstream must start from maps and has no file."""
    if not entry(recipe.upstream).info.needs_maps_of(recipe.attention):
        return recipe
    model = recipe.model
    num_layers = 1 if model.shared_layers else model.num_layers
    maps = torch.full((num_layers, model.num_heads, model.max_frames, model.max_frames), 1 / model.max_frames)
    save_file({"maps": maps}, path)
    return replace(recipe, attention={**recipe.attention, "maps": str(path)})


def write_corpus(root: Path, num_utterances: int = 14) -> Path:
    """Recordings of 0.1 to 1.8 s in LibriSpeech layout: tones that swell and fade over noise, 2 speakers."""
    generator = np.random.default_rng(0)
    for number in range(num_utterances):
        speaker, seconds = 100 + number % 2, 0.1 + 1.7 * number / (num_utterances - 1)
        folder = root / "train-clean-100" / str(speaker) / "1"
        folder.mkdir(parents=True, exist_ok=True)
        times_s = np.arange(int(16_000 * seconds)) / 16_000
        pitch_hz = 200 * (1 + number % 5) + 300 * np.sin(2 * np.pi * 2 * times_s)
        wave = np.sin(2 * np.pi * np.cumsum(pitch_hz) / 16_000) * (0.1 + np.sin(2 * np.pi * 3 * times_s) ** 2)
        wave = 0.2 * wave + 0.01 * generator.normal(size=len(times_s))
        soundfile.write(folder / f"{speaker}-1-{number:04}.wav", wave, 16_000, subtype="PCM_16")
    return root


def small_corpus(root: Path) -> Corpus:
    """``write_corpus``, loaded."""
    return load_corpus("librispeech", write_corpus(root))
