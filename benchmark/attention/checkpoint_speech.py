"""What the commands on a trained checkpoint share: their arguments, and the speech that the checkpoint was made of."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...recipes.config import as_overrides, load_recipe, presets
from ...recipes.corpora import Corpus
from ...recipes.lineage import named_corpus, pretrain_part
from ...recipes.pretrain import check_device
from ...upstream.allocator import keep_freed_memory
from ...upstream.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)

PRESET = "demo"


def add_arguments(parser: argparse.ArgumentParser, utterances: int) -> None:
    """A checkpoint, the data, and of how many utterances maps are averaged."""
    parser.add_argument("checkpoint", type=Path, help="the folder of a pre-trained upstream")
    parser.add_argument("overrides", nargs="*", metavar="data.option=value", help="for example data.size=tiny")
    parser.add_argument(
        "--preset", help=f"whose data: {', '.join(presets())} (default: the checkpoint's own, else {PRESET})"
    )
    parser.add_argument("--corpus", help="synthetic, librispeech or manifest (default: the preset's)")
    parser.add_argument("--root", help="the folder of the corpus, or the CSV of a manifest")
    parser.add_argument("--utterances", type=int, default=utterances, help="the most used (default: %(default)s)")
    parser.add_argument("--device", default="cpu")


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for, with the process made ready to work; ends with the usage when an override is not one of the
    data."""
    options = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_freed_memory()
    wrong = [text for text in options.overrides if not text.startswith("data.")]
    if wrong:
        parser.error(f"{wrong[0]!r}: only data.option=value has a meaning here, the checkpoint has all else")
    return options


def pretraining_speech(options: argparse.Namespace) -> Corpus:
    """The part of the corpus on which the preset pre-trains; the log says so when the checkpoint was pre-trained on
    other speech. Raises ``ValueError`` for what cannot be used."""
    check_device(options.device)
    config = load_checkpoint(options.checkpoint)[0]
    known = recipe_of(config).get("preset")
    preset = options.preset or (known if known in presets() else PRESET)
    overrides = as_overrides("data", {"corpus": options.corpus, "root": options.root}) + options.overrides
    data = load_recipe(str(config.get("upstream")), preset, overrides).data
    corpus = pretrain_part(named_corpus(data), data.pretrain_subsets)
    lineage = lineage_of(config)
    if lineage.get("data") not in (None, corpus.speech_fingerprint):
        logger.warning(
            "%s was pre-trained on other speech, of corpus %s, than that of %s which is used here: for its own, give "
            "--corpus and --root as it was made with",
            options.checkpoint,
            lineage.get("corpus"),
            corpus.name,
        )
    return corpus


def recipe_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe in a checkpoint's lineage; empty where it has none."""
    return _mapping(lineage_of(config).get("recipe"))


def lineage_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The lineage in a checkpoint; empty where it has none."""
    return _mapping(config.get("lineage"))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
