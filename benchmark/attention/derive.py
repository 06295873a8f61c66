"""An initial set of attention maps from a trained upstream, for ``fixed_init`` with ``init=maps`` and ``mean_map``.

    python -m s3prl_attention.benchmark.attention.derive CHECKPOINT --what prototypes --out result/set.safetensors

``means`` are the mean maps themselves, layer by layer and head by head. ``prototypes`` are one map for each case and
shift found among them (``prototypes.py``), the same in every layer. Beside the maps a yaml of the same name tells what
each of them is and what it was made of, and a picture shows them.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from ...recipes.corpora import Corpus
from ...upstream.expert import UpstreamExpert
from ...upstream.maps_file import fingerprint
from ..command_line import mistakes_told
from ..result_files import write_atomically
from .checkpoint_speech import add_arguments, pretraining_speech, read_options
from .mean_maps import UTTERANCES, about, chosen, load_with_maps, mean_maps_over, source, write_maps
from .pictures import NORMAL, gallery, save
from .prototypes import MADE, RANDOM, Prototype, dealt, describe_all, prototypes

logger = logging.getLogger(__name__)

SCHEMA = 1
MEANS, PROTOTYPES = WHAT = ("means", "prototypes")
DEALING = (
    "the same in every layer: a prototype for each head, the most frequent first; the heads after them have maps of "
    "random logits N(0, 1), as the further heads of fixed_init have"
)


def derive(
    checkpoint: Path,
    corpus: Corpus,
    path: Path,
    what: str = PROTOTYPES,
    sizes: tuple[int | None, int | None, int | None] = (None, None, None),
    most: int = UTTERANCES,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
) -> list[Path]:
    """Write the set of a checkpoint to ``path``, its yaml and a picture beside it; returns their paths.

    Args:
        checkpoint: a folder of a pre-trained upstream whose attention has maps.
        corpus: the speech over which maps are averaged.
        path: ends in ``.safetensors``.
        what: ``means`` or ``prototypes``.
        sizes: layers, heads and frames of a set of prototypes; None is the checkpoint's.
        most: the most utterances used.
        seed: of the random maps.
        device: of the upstream.
        command: for the yaml.

    Raises:
        ValueError: for a checkpoint that cannot be used, or more prototypes than heads.
    """
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} must end in .safetensors, the kind of file that it is: name it {path.name}.safetensors"
        )
    if what not in WHAT:
        raise ValueError(f"a set is made of {' or '.join(WHAT)}, not of {what!r}")
    expert = load_with_maps(checkpoint)
    ids = chosen(expert, corpus, most)
    logger.info("mean maps of %s over %d utterances", expert.name, len(ids))
    means = mean_maps_over(expert, corpus, ids, device)
    longest, weights = _longest(expert, corpus, ids), source(checkpoint)
    reached = means[..., :longest, :longest]
    told: dict[str, Any]
    if what == MEANS:
        maps, told = means, {"heads": _heads(reached)}
    else:
        num_layers, num_heads, num_frames = (size or own for size, own in zip(sizes, means.shape, strict=False))
        found = prototypes(reached)
        maps = dealt(found, num_layers, num_heads, num_frames, seed)
        told = {"dealing": DEALING, "heads": _dealt_heads(found, num_heads, seed)}
    write_maps(path, maps, {**about(expert, corpus, ids, weights), "what": what})
    told_of: dict[str, Any] = {
        "schema": SCHEMA,
        "what": what,
        "command": command,
        "maps": {"file": path.name, "sha256": fingerprint(path), "shape": list(maps.shape)},
        "made_of": {
            "upstream": expert.name,
            "weights": weights,
            "corpus": corpus.name,
            "data": corpus.speech_fingerprint,
            "utterances": len(ids),
            "frames": longest,
        },
        **told,
    }
    text = "# A set of attention maps; layers and heads are counted from 1.\n"
    text += yaml.safe_dump(told_of, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(path.with_suffix(".yaml"), text.encode())
    shown = maps if what == MEANS else maps[:1, : len(found)]
    drawn = gallery(shown, [_caption(line) for line in told["heads"] if line["case"] != RANDOM])
    if what == PROTOTYPES:
        drawn.axes[0].set_ylabel("every layer", fontsize=NORMAL)
    return [path, path.with_suffix(".yaml"), *save(drawn, path.parent, path.stem)]


def _longest(expert: UpstreamExpert, corpus: Corpus, ids: Sequence[str]) -> int:
    """Stacked frames of the longest crop: rows of mean maps beyond it are made up."""
    wanted, options = set(ids), expert.options
    return min(options.max_frames, max(-(-u.num_frames // options.stack) for u in corpus.utterances if u.id in wanted))


def _heads(means: Tensor) -> list[dict[str, Any]]:
    """The case of each head of a set of means."""
    return [
        {"layer": layer, "head": head, "case": case.name, "detail": case.detail, "shift": case.shift}
        for layer, row in enumerate(describe_all(means), 1)
        for head, case in enumerate(row, 1)
    ]


def _dealt_heads(found: Sequence[Prototype], num_heads: int, seed: int) -> list[dict[str, Any]]:
    """What each head of a set of prototypes is, in any layer."""
    own = [
        {
            "head": head,
            "case": prototype.case,
            "detail": prototype.detail,
            "shift": prototype.shift,
            "made": MADE[prototype.case],
            "from": [f"layer {layer + 1} head {at + 1}" for layer, at in prototype.heads],
        }
        for head, prototype in enumerate(found, 1)
    ]
    return own + [{"head": head, "case": RANDOM, "seed": seed} for head in range(len(found) + 1, num_heads + 1)]


def _caption(line: dict[str, Any]) -> dict[str, Any]:
    """A head as the gallery takes it; of a prototype it tells of how many heads it was made."""
    return {
        "layer": 1,
        **line,
        "detail": f"{line['detail']}, of {len(line['from'])}" if "from" in line else line["detail"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.attention.derive", description=__doc__.split("\n")[0]
    )
    add_arguments(parser, UTTERANCES)
    parser.add_argument("--what", choices=WHAT, default=PROTOTYPES, help="default: %(default)s")
    for name, what in (("layers", "distinct layers"), ("heads", "heads"), ("max-frames", "stacked frames")):
        parser.add_argument(f"--{name}", type=int, help=f"{what} of a set of prototypes (default: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=0, help="of the random maps (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, NAME.safetensors")
    options = read_options(parser, given)
    command = shlex.join(["python", "-m", "s3prl_attention.benchmark.attention.derive", *given])
    asked = (options.layers, options.heads, options.max_frames)
    with mistakes_told():
        if options.what == MEANS and any(size is not None for size in asked):
            raise ValueError("mean maps have the sizes of their model: leave out --layers, --heads and --max-frames")
        if any(size is not None and size < 1 for size in asked):
            raise ValueError(f"--layers, --heads and --max-frames must be at least 1, got {asked}")
        corpus = pretraining_speech(options)
        written = derive(
            options.checkpoint,
            corpus,
            options.out,
            options.what,
            asked,
            options.utterances,
            options.seed,
            options.device,
            command,
        )
    for path in written:
        print(f"written: {path}")


if __name__ == "__main__":
    main()
