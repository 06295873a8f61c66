"""What is lost when heads of a trained upstream use their mean map in place of attention: the loss of pre-training.

    python -m s3prl_attention.benchmark.attention.transplant CHECKPOINT --preset demo --out result/transplant

Head by head, layer by layer and all at once, nothing is trained after. Two controls tell what a map as such is worth:
the same heads with uniform maps (every frame equally) and with identity (each frame itself).

Legend: L distinct layers, H heads, N max_frames, U held-out utterances.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...recipes.batches import Batch, Speech, hold_out, log_mel_store
from ...recipes.config import PretrainConfig
from ...recipes.corpora import Corpus
from ...recipes.objective import MaskedAcousticModel, ReconstructionHead
from ...recipes.pretrain import validate, validation
from ...upstream.checkpoint import load_checkpoint, part, restore
from ...upstream.expert import UpstreamExpert
from ...upstream.options import typed
from ..command_line import mistakes_told
from ..environment import describe
from ..statistics import draw_clusters, paired_interval
from .checkpoint_speech import add_arguments, lineage_of, pretraining_speech, read_options, recipe_of
from .given_maps import GivenMaps, check_rebuilt, constant
from .mean_maps import UTTERANCES, chosen, cpu_log_mel, load_with_maps, mean_maps_over, source
from .transplant_report import write_report

logger = logging.getLogger(__name__)

SCHEMA = 1


@dataclass(frozen=True)
class Trained:
    """A pre-trained upstream with the head that reconstructs frames, and the utterances of its pre-training.

    ``saved`` is the configuration in the checkpoint, ``config`` that of the pre-training, ``notes`` say where it had to
    be guessed or does not fit.
    """

    expert: UpstreamExpert
    head: ReconstructionHead
    saved: dict[str, Any]
    config: PretrainConfig
    train_ids: list[str]
    valid_ids: list[str]
    notes: tuple[str, ...]


def load_trained(checkpoint: Path, corpus: Corpus) -> Trained:
    """Read a checkpoint and find what it held out of ``corpus``.

    Raises:
        ValueError: when it is none, has no head, or has an attention without maps.
    """
    saved, tensors = load_checkpoint(checkpoint)
    expert = load_with_maps(checkpoint)
    if not part(tensors, "head."):
        raise ValueError(f"{checkpoint} has no head that reconstructs frames: name one that pre-training wrote")
    head = ReconstructionHead(hidden_dim=expert.options.hidden_dim, output_dim=expert.options.input_dim)
    restore(head, part(tensors, "head."), checkpoint)
    recipe, notes = recipe_of(saved), []
    if "pretrain" not in recipe:
        notes.append("The checkpoint does not say how it was pre-trained: masks and held-out utterances by default.")
    config = typed(PretrainConfig, recipe.get("pretrain", {}), f"{checkpoint}: pretrain")
    data = lineage_of(saved).get("data")
    if data != corpus.speech_fingerprint:
        notes.append(
            f"The checkpoint was not pre-trained on these utterances of {corpus.name}: those held out here may have "
            f"been heard in training, or come from elsewhere."
        )
    train_ids, valid_ids = hold_out([u.id for u in corpus.utterances], config.valid_share, config.valid_utterances)
    return Trained(expert, head, saved, config, train_ids, valid_ids, tuple(notes))


def held_out(trained: Trained, corpus: Corpus) -> list[Batch]:
    """The masked utterances of ``valid_loss``, always the same, each as a batch of its own, without padding."""
    options = trained.expert.options
    store = log_mel_store(corpus, options.num_mels)
    log_mel = cpu_log_mel(trained.expert)
    speech = Speech(store, trained.valid_ids, log_mel, options.stack, options.max_frames, trained.config, seed=0)
    return [_alone(batch, at) for batch in validation(speech) for at in range(len(batch.keep))]


def _alone(batch: Batch, at: int) -> Batch:
    length = int(batch.keep[at].sum())
    return batch.changed(lambda tensor: tensor[at : at + 1, :length])


def transplant(trained: Trained, utterances: Sequence[Batch], means: Tensor, device: str = "cpu") -> dict[str, Any]:
    """The losses (masked L1) with maps replaced; the upstream is as before afterwards.

    Args:
        trained: what to replace them in.
        utterances: of `held_out`.
        means: the mean maps (L, H, N, N).
        device: of the model.

    Returns:
        ``before``, a loss; ``heads`` and ``layers``, a line for each (counted from 1), and ``all``, such a line: its
        ``loss`` for each kind of map (mean, uniform, identity), how much it ``rises`` for each, and how much ``less``
        the mean map loses than each control. The last two are [value, low, high], a 95 % interval by bootstrap over
        utterances.

    Raises:
        ValueError: when the attention is more than its maps.
    """
    encoder, place = trained.expert.encoder, torch.device(device)
    model = MaskedAcousticModel(trained.expert, trained.head).to(place).eval()
    layers: Any = encoder.layers
    own = [layer.attention for layer in layers]
    given = [GivenMaps(attention, trained.expert.options.num_heads) for attention in own]
    uniform, identity = torch.full_like(means, 1 / means.shape[-1]), torch.eye(means.shape[-1]).expand_as(means)
    maps = {"mean": means.to(place), "uniform": uniform.to(place), "identity": identity.to(place)}
    places = [(layer, head) for layer in range(len(given)) for head in range(given[0].num_heads)]
    by_layer = [[at for at in places if at[0] == layer] for layer in range(len(given))]
    asked = [*([at] for at in places), *by_layer, places]
    counts = np.array([int(utterance.chosen.sum()) for utterance in utterances])

    def losses() -> np.ndarray:
        """Of each utterance, (U,)."""
        return np.array([validate(model, [utterance], place) for utterance in utterances])

    try:
        for layer, wrapped in zip(layers, given, strict=True):
            layer.attention = wrapped
        _check(trained.expert, given, utterances[0].to(place))
        before, lines = losses(), []
        with tqdm(total=len(asked) * len(maps), desc="transplant", disable=None) as bar:
            for heads in asked:
                after = {}
                for kind, tensor in maps.items():
                    _give(given, heads, tensor)
                    after[kind] = losses()
                    bar.update()
                lines.append(_line(before, after, counts))
    finally:
        for layer, attention in zip(layers, own, strict=True):
            layer.attention = attention
        model.eval()
    of_heads, of_layers = lines[: len(places)], lines[len(places) : -1]
    return {
        "before": float(before @ counts / counts.sum()),
        "heads": [{"layer": at[0] + 1, "head": at[1] + 1, **line} for at, line in zip(places, of_heads, strict=True)],
        "layers": [{"layer": layer, **line} for layer, line in enumerate(of_layers, 1)],
        "all": lines[-1],
    }


def _line(before: np.ndarray, after: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, Any]:
    """What `transplant` tells of one replacement, from the losses (U,) of utterances with so many masked frames."""
    mean = after["mean"]
    return {
        "loss": {kind: float(losses @ counts / counts.sum()) for kind, losses in after.items()},
        "rises": {kind: _difference(losses, before, counts) for kind, losses in after.items()},
        "less": {kind: _difference(losses, mean, counts) for kind, losses in after.items() if losses is not mean},
    }


def _difference(losses: np.ndarray, other: np.ndarray, counts: np.ndarray) -> list[float]:
    """By how much the loss over all masked frames is higher than the other, and the interval of that."""
    low, high = paired_interval(losses * counts, other * counts, counts, draw_clusters(len(counts)))
    return [float((losses - other) @ counts / counts.sum()), low, high]


def _give(given: Sequence[GivenMaps], places: Sequence[tuple[int, int]], maps: Tensor) -> None:
    """Let the heads at ``places``, (layer, head), use theirs of ``maps`` (L, H, N, N), and all others their own."""
    for layer, attention in enumerate(given):
        heads = [head for at, head in places if at == layer]
        attention.give(heads, constant(maps[layer, heads]) if heads else None)


@torch.no_grad()
def _check(expert: UpstreamExpert, given: Sequence[GivenMaps], utterance: Batch) -> None:
    """Raises ``ValueError`` when some layer's attention is more than maps times values."""
    states = expert.encoder(utterance.corrupted, None)
    for layer, attention in enumerate(given):
        check_rebuilt(attention, states[layer], None)


def measure(checkpoint: Path, corpus: Corpus, most: int, device: str, command: str) -> dict[str, Any]:
    """Everything that ``transplant.json`` holds; raises ``ValueError`` for a checkpoint that cannot be used."""
    trained = load_trained(checkpoint, corpus)
    expert, name = trained.expert, trained.expert.name
    training = set(trained.train_ids)
    kept = replace(corpus, utterances=tuple(u for u in corpus.utterances if u.id in training))
    ids = chosen(expert, kept, most)
    logger.info("mean maps of %s over %d utterances, losses over %d held out", name, len(ids), len(trained.valid_ids))
    means = mean_maps_over(expert, corpus, ids, device)
    utterances = held_out(trained, corpus)
    return {
        "schema": SCHEMA,
        "upstream": name,
        "title": expert.entry.info.title,
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "preset": recipe_of(trained.saved).get("preset"),
        "seed": lineage_of(trained.saved).get("seed"),
        "command": command,
        "checkpoint": source(checkpoint),
        "options": {**asdict(expert.options), **asdict(expert.own_options)},
        "num_layers": len(expert.encoder.layers),
        "num_heads": expert.options.num_heads,
        "map_utterances": len(ids),
        "valid_utterances": len(trained.valid_ids),
        "valid_frames": sum(int(utterance.chosen.sum()) for utterance in utterances),
        "loss": transplant(trained, utterances, means, device),
        "notes": [*trained.notes, *_notes(expert)],
        "environment": describe(torch.get_num_threads()),
    }


def _notes(expert: UpstreamExpert) -> list[str]:
    notes, places = [], expert.options.num_layers // len(expert.encoder.layers)
    if places > 1:
        notes.append(
            f"The one layer of this model stands at {places} places with the same weights: a head is replaced at all "
            f"of them, by its mean over all of them."
        )
    if not expert.entry.info.input_dependent:
        notes.append("The maps of this upstream do not depend on the input: each is its own mean, and nothing is lost.")
    return notes


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.attention.transplant", description=__doc__.split("\n")[0]
    )
    add_arguments(parser, UTTERANCES)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    options = read_options(parser, given)
    command = shlex.join(["python", "-m", "s3prl_attention.benchmark.attention.transplant", *given])
    with mistakes_told():
        corpus = pretraining_speech(options)
        written = write_report(
            options.out, measure(options.checkpoint, corpus, options.utterances, options.device, command)
        )
    for path in written:
        print(f"written: {path}")


if __name__ == "__main__":
    main()
