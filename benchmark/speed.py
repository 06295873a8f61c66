"""Compare whole encoders, ours and s3prl's own, at one size in one interleaved run.

    python -m s3prl_attention.benchmark.speed --hidden-dim 768 --num-heads 12 --num-layers 3 --batch 4 --frames 1000

Every encoder lives in a process of its own and works only when it is its turn, so that each has the memory allocator
that it has in real use: ours as our commands set it up, s3prl's Mockingjay as Python starts. A second Mockingjay gets
what ours get (freed memory kept, linear layers through oneDNN), to tell the encoder's part from the set-up's.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from ..recipes.config import PretrainConfig
from ..upstream import load, names
from ..upstream.allocator import keep_freed_memory
from ..upstream.encoder import sinusoid
from ..upstream.kernels.onednn import fast_linear, worthwhile
from .command_line import check_counts, mistakes_told
from .environment import describe
from .lane import OtherLoad, exclusive_lane
from .names import BASELINE
from .statistics import ratio_spread
from .timing import Samples, measure_interleaved
from .workers import Worker, cpu_s
from .workloads import train_batch, trained

MOCKINGJAY, TUNED_MOCKINGJAY = "s3prl mockingjay", "s3prl mockingjay, our set-up"
INPUT_DIM = 240
PHASES = ("inference", "training step")


class Mockingjay(nn.Module):
    """s3prl's Mockingjay encoder, called like ours: (frames, keep) -> hidden states. ``tuned``: linear as in ours."""

    positions: Tensor

    def __init__(self, *, hidden_dim: int, num_heads: int, num_layers: int, num_frames: int, tuned: bool) -> None:
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
        self.context = fast_linear if tuned else nullcontext
        self.register_buffer("positions", sinusoid(num_frames, hidden_dim))

    def forward(self, frames: Tensor, keep: Tensor | None) -> list[Tensor]:
        """(B, n, C) -> hidden states (B, n, D); every frame counts as valid."""
        del keep
        positions = self.positions[: frames.shape[1]].expand(len(frames), -1, -1)
        everything = frames.new_ones(frames.shape[:2])  # left out, s3prl makes a mask of the wrong shape
        with self.context():
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
    with mistakes_told():
        check_counts(options, "num_layers", "batch", "frames", "rounds", "threads")
    machine = describe(options.threads)
    print(f"{machine['cpu']}, {options.threads} threads, torch {machine['packages']['torch']}")
    print(f"{vars(options)}; linear layers through oneDNN: {worthwhile()}")
    wanted = [*dict.fromkeys([BASELINE, *(options.upstream or names())]), MOCKINGJAY, TUNED_MOCKINGJAY]
    with mistakes_told(), exclusive_lane(), _workers(wanted, options) as workers:
        own_s = partial(cpu_s, [worker.pid for worker in workers.values()])
        for phase in PHASES:
            cases = {name: partial(worker.ask, phase) for name, worker in workers.items()}
            load = partial(OtherLoad, own_s=own_s)
            _print(phase, measure_interleaved(cases, options.rounds, warmup=2, other_load=load, title=phase))


@contextmanager
def _workers(wanted: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Worker]]:
    workers: dict[str, Worker] = {}
    try:
        for name in wanted:
            workers[name] = Worker(partial(_worker, name, options), name)
        yield workers
    finally:
        for worker in workers.values():
            worker.stop()


def _worker(name: str, options: argparse.Namespace) -> Callable[[str], None]:
    """In the worker's process: one inference or one training step for each phase asked for."""
    torch.set_num_threads(options.threads)
    if name != MOCKINGJAY:
        keep_freed_memory()
    cases: dict[str, Callable[[], None]] = {}
    encoder = _encoder(name, options)
    shape = (options.batch, options.frames, INPUT_DIM)
    frames, chosen = train_batch(shape, PretrainConfig(), torch.device("cpu"))

    def run(phase: str) -> None:
        if phase not in cases:
            train = phase == "training step"
            cases[phase] = (
                trained(encoder, options.hidden_dim, frames, chosen) if train else _inference(encoder, frames)
            )
        cases[phase]()

    return run


def _encoder(name: str, options: argparse.Namespace) -> nn.Module:
    sizes = {key: getattr(options, key) for key in ("hidden_dim", "num_heads", "num_layers")}
    if name in (MOCKINGJAY, TUNED_MOCKINGJAY):
        return Mockingjay(**sizes, num_frames=options.frames, tuned=name == TUNED_MOCKINGJAY)
    return load(name, **sizes, max_frames=options.frames, dropout=0.0).get_submodule("encoder")


def _inference(encoder: nn.Module, frames: Tensor) -> Callable[[], None]:
    encoder.eval()

    def run() -> None:
        with torch.inference_mode():
            encoder(frames, None)

    return run


def _print(phase: str, measured: dict[str, Samples]) -> None:
    base = measured[BASELINE]
    print(f"\n{phase:28} {'median ms':>10}  ratio to {BASELINE}: median (quartiles)  disturbed samples")
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
