"""The mean attention maps of a trained upstream, as the file that ``mean_map`` and ``fixed_init`` can start from.

    python -m s3prl_attention.benchmark.attention.mean_maps CHECKPOINT --preset demo --out result/maps.safetensors

Legend: n stacked frames, C input dim, L distinct layers, H heads, N max_frames.
"""

import argparse
import copy
import hashlib
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ...recipes.batches import Speech, log_mel_store, step_seed
from ...recipes.config import PretrainConfig
from ...recipes.corpora import Corpus
from ...recipes.corpora.cache import replace_file
from ...upstream import load
from ...upstream.checkpoint import WEIGHTS, load_checkpoint
from ...upstream.expert import UpstreamExpert
from ...upstream.features import LogMel
from ...upstream.maps_file import TENSOR
from ..command_line import mistakes_told
from ..scattered import scattered
from .checkpoint_speech import add_arguments, pretraining_speech, read_options

logger = logging.getLogger(__name__)

UTTERANCES = 256
VERSION = 1  # raise it when the same checkpoint and corpus come to give other maps, as with another UTTERANCES


def write_mean_maps(checkpoint: Path, corpus: Corpus, path: Path, most: int = UTTERANCES, device: str = "cpu") -> Path:
    """Derive the maps of a checkpoint over at most ``most`` utterances of ``corpus`` and write them to ``path``, whole.

    Raises:
        ValueError: when the checkpoint cannot be used or ``most`` is below 1.
    """
    expert = load_with_maps(checkpoint)
    ids = chosen(expert, corpus, most)
    logger.info("mean maps of %s over %d utterances -> %s", expert.name, len(ids), path)
    maps = mean_maps_over(expert, corpus, ids, device)
    return write_maps(path, maps, about(expert, corpus, ids, source(checkpoint)))


def about(expert: UpstreamExpert, corpus: Corpus, ids: Sequence[str], weights: str) -> dict[str, str]:
    """What a file of maps says of its making; ``weights`` is from ``source``."""
    return {"upstream": expert.name, "corpus": corpus.name, "utterances": str(len(ids)), "source": weights}


def load_with_maps(checkpoint: Path) -> UpstreamExpert:
    """The upstream of a checkpoint, in evaluation; raises ``ValueError`` when there is none, or one without maps."""
    name = str(load_checkpoint(checkpoint)[0].get("upstream"))
    expert = load(name, ckpt=checkpoint).eval()
    assert isinstance(expert, UpstreamExpert)
    check_has_maps(expert)
    return expert


def check_has_maps(expert: UpstreamExpert) -> None:
    """Raises ``ValueError`` for an attention without ``weights``, as that of another package may be."""
    if not all(hasattr(layer.attention, "weights") for layer in expert.encoder.layers):
        raise ValueError(
            f"the attention of {expert.name} has no maps: choose an upstream with `weights`, as self_attention has"
        )


def mean_maps_over(expert: UpstreamExpert, corpus: Corpus, ids: Sequence[str], device: str = "cpu") -> Tensor:
    """The mean maps (L, H, N, N) over one crop of each of these utterances, with a bar; the upstream goes to
    ``device``."""
    return mean_maps(expert.to(device), tqdm(crops(expert, corpus, ids), total=len(ids), desc="maps", disable=None))


def source(checkpoint: Path) -> str:
    """The content of a checkpoint's weights, wherever they lie."""
    return f"sha256:{hashlib.sha256((checkpoint / WEIGHTS).read_bytes()).hexdigest()}"


def write_maps(path: Path, maps: Tensor, about: dict[str, str]) -> Path:
    """Write a file of maps (L, H, N, N), whole, with metadata."""
    with replace_file(path) as temporary:
        save_file({TENSOR: maps.contiguous()}, temporary, metadata=about)
    return path


@torch.inference_mode()
def mean_maps(expert: UpstreamExpert, frames: Iterable[Tensor]) -> Tensor:
    """The mean maps (L, H, N, N) float32 over utterances of stacked frames (n, C), n <= N.

    A row is averaged over the utterances that reach it; one that none reaches is identity. Layers that share their
    weights have one map, averaged over all the places where the layer stands.
    """
    encoder, options = expert.encoder.eval(), expert.options
    device = encoder.input.weight.device
    longest = options.max_frames
    attentions: list[Any] = [layer.attention for layer in encoder.layers]
    total = torch.zeros(len(attentions), options.num_heads, longest, longest, dtype=torch.float64, device=device)
    count = torch.zeros(longest, dtype=torch.float64, device=device)  # of maps that reach a row, in each distinct layer
    for utterance in frames:
        num_frames = len(utterance)
        assert num_frames <= longest, "a crop has at most max_frames frames"
        states = encoder(utterance[None].to(device), None)
        for index in range(options.num_layers):
            layer = index % len(attentions)
            maps = attentions[layer].weights(states[index], None)[0]  # (H, n, n)
            total[layer, :, :num_frames, :num_frames] += maps
        count[:num_frames] += options.num_layers // len(attentions)
    mean = total / count.clamp_min(1)[:, None]
    mean[:, :, count == 0] = torch.eye(longest, dtype=mean.dtype, device=device)[count == 0]
    return mean.float().cpu()


def chosen(expert: UpstreamExpert, corpus: Corpus, most: int) -> list[str]:
    """At most ``most`` ids of utterances that fill ``max_frames``, else of any, always the same; raises ``ValueError``
    when ``most`` is below 1."""
    if most < 1:
        raise ValueError(f"maps need at least 1 utterance, got {most}: the default is {UTTERANCES}")
    stack, longest = expert.options.stack, expert.options.max_frames
    full = [u for u in corpus.utterances if -(-u.num_frames // stack) >= longest]
    if not full:
        logger.warning("no utterance has %d stacked frames: shorter ones count as far as they go", longest)
    return [u.id for u in scattered(full or corpus.utterances)[:most]]


def crops(expert: UpstreamExpert, corpus: Corpus, ids: Sequence[str]) -> Iterator[Tensor]:
    """A crop (n, C) of each utterance, at most ``max_frames`` long, cut and normalised as in pre-training."""
    options = expert.options
    store = log_mel_store(corpus, options.num_mels)
    speech = Speech(store, ids, cpu_log_mel(expert), options.stack, options.max_frames, PretrainConfig(), seed=0)
    for number, id in enumerate(ids):
        yield speech.batch([id], step_seed(0, number)).target[0]


def cpu_log_mel(expert: UpstreamExpert) -> LogMel:
    """The features of an upstream on the CPU, where crops are made, while it stays on its device."""
    return copy.deepcopy(expert.log_mel).cpu()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.attention.mean_maps", description=__doc__.split("\n")[0]
    )
    add_arguments(parser, UTTERANCES)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    options = read_options(parser, sys.argv[1:] if arguments is None else arguments)
    with mistakes_told():
        part = pretraining_speech(options)
        path = write_mean_maps(options.checkpoint, part, options.out, options.utterances, options.device)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
