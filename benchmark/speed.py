"""Compare whole encoders, ours and s3prl's own, at one size in one interleaved run.

python -m s3prl_attention.benchmark.speed --hidden-dim 768 --num-heads 12 --num-layers 3 --batch 4 --frames 1000
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..recipes.config import PretrainConfig
from ..upstream import load, names
from ..upstream.allocator import keep_freed_memory
from ..upstream.encoder import sinusoid
from ..upstream.kernels.onednn import fast_linear, worthwhile
from .environment import describe
from .lane import exclusive_lane
from .settings import BASELINE
from .statistics import ratio_spread
from .timing import Samples, measure_interleaved
from .workloads import train_batch, trained

MOCKINGJAY = "s3prl mockingjay"
INPUT_DIM = 240


class Mockingjay(nn.Module):
    """s3prl's Mockingjay encoder, called like ours: (frames, keep) -> hidden states. ``detour``: linear as in ours."""

    positions: Tensor

    def __init__(self, *, hidden_dim: int, num_heads: int, num_layers: int, num_frames: int, detour: bool) -> None:
        super().__init__()
        from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel

        config = TransformerConfig(
            {
                "hidden_size": hidden_dim,
                "num_hidden_layers": num_layers,
                "num_attention_heads": num_heads,
                "hidden_act": "gelu",
                "intermediate_size": 4 * hidden_dim,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.02,
                "layer_norm_eps": 1e-12,
                "share_layer": False,
                "pre_layer_norm": False,
            }
        )
        self.model = TransformerModel(config, INPUT_DIM)
        self.context = fast_linear if detour else nullcontext
        self.register_buffer("positions", sinusoid(num_frames, hidden_dim))

    def forward(self, frames: Tensor, keep: Tensor | None) -> list[Tensor]:
        """(B, n, C) -> hidden states (B, n, D); every frame counts as valid."""
        del keep
        positions = self.positions[: frames.shape[1]].expand(len(frames), -1, -1)
        with self.context():
            everything = frames.new_ones(frames.shape[:2])  # left out, s3prl makes a mask of the wrong shape
            return list(self.model(frames, positions, everything, output_all_encoded_layers=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: prints a table for inference and one for a training step."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.speed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--upstream", nargs="+", default=[], metavar="NAME", help="attentions (default: all)")
    parser.add_argument("--hidden-dim", type=int, default=768)
    parser.add_argument("--num-heads", type=int, default=12)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="utterances")
    parser.add_argument("--frames", type=int, default=1000, help="stacked frames of each utterance")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    try:
        built = _encoders(options)
    except ValueError as error:
        sys.exit(f"error: {error}")
    frames, chosen = train_batch((options.batch, options.frames, INPUT_DIM), PretrainConfig(), torch.device("cpu"))
    machine = describe(options.threads)
    print(f"{machine['cpu']}, {options.threads} threads, torch {machine['packages']['torch']}")
    print(f"{vars(options)}; linear layers through oneDNN: {worthwhile()}")
    with exclusive_lane():
        for encoder in built.values():
            encoder.eval()
        _table("inference", {name: _inference(encoder, frames) for name, encoder in built.items()}, options.rounds)
        steps = {name: trained(encoder, options.hidden_dim, frames, chosen) for name, encoder in built.items()}
        _table("training step", steps, options.rounds)


def _encoders(options: argparse.Namespace) -> dict[str, Any]:
    sizes = {key: getattr(options, key) for key in ("hidden_dim", "num_heads", "num_layers")}
    wanted = dict.fromkeys([BASELINE, *(options.upstream or names())])
    built: dict[str, Any] = {
        name: load(name, **sizes, max_frames=options.frames, dropout=0.0).encoder for name in wanted
    }
    built[MOCKINGJAY] = Mockingjay(**sizes, num_frames=options.frames, detour=False)
    if worthwhile():
        built[f"{MOCKINGJAY} + oneDNN"] = Mockingjay(**sizes, num_frames=options.frames, detour=True)
    return built


def _inference(encoder: nn.Module, frames: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            encoder(frames, None)

    return run


def _table(title: str, cases: dict[str, Callable[[], None]], rounds: int) -> None:
    measured = measure_interleaved(cases, rounds, warmup=2, title=title)
    base = measured[BASELINE]
    print(f"\n{title:28} {'median ms':>10}  ratio to {BASELINE}: median (quartiles)  disturbed samples")
    for name, samples in measured.items():
        print(f"{name:28} {_line(samples, base)}")


def _line(samples: Samples, base: Samples) -> str:
    if samples.error or base.error:
        return f"failed: {samples.error or base.error}"
    median, low, high = ratio_spread(samples.samples_s, base.samples_s)
    middle_ms = 1000 * sorted(samples.samples_s)[len(samples.samples_s) // 2]
    return (
        f"{middle_ms:10.1f}  {median:.3f} ({low:.3f}-{high:.3f})  {sum(samples.disturbed)} of {len(samples.samples_s)}"
    )


if __name__ == "__main__":
    main()
