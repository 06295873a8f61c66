"""Look at what trained attention does: maps, measures, four cases, how much hangs on the input.

python -m s3prl_attention.benchmark attention --upstream self_attention fixed_init --out result
"""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from ...recipes.config import as_overrides, presets
from ...recipes.corpora import Corpus, Utterance
from ...recipes.corpora.cache import replace_file
from ...recipes.pretrain import check_device, check_seed
from ...upstream import load
from ...upstream.allocator import keep_freed_memory
from ...upstream.expert import UpstreamExpert
from ..command_line import mistakes_told
from ..environment import describe
from ..names import BASELINE, is_override, is_pretrained
from ..prepare import frozen_upstream, load_speech
from ..report.attention import FILE, FOLDER, SCHEMA
from ..result_files import safe_name
from ..settings import Study, check_overrides, load_study, telling
from . import page, pictures
from .analysis import add_turns, by_layer, heads, how_many_cases, projected
from .cases import CASES, FEWEST_FRAMES
from .collect import FEWEST, Collected, Crop, collect, crops, turns, utterances_for

FRAMES, CROPS, SAMPLES = 128, 256, 16
logger = logging.getLogger(__name__)


def analyse(
    study: Study,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    expert: UpstreamExpert,
    seed: int,
    folder: Path,
    frames: int,
    samples: int,
    command: str,
    valid_loss: float,
    subsets: Sequence[str],
) -> dict[str, Any]:
    """Analyse one trained upstream and write ``analysis.json``, ``maps.safetensors``, ``attention.md`` and pictures to
    ``folder``; what is in the json is returned.

    Args:
        study: of the upstream.
        corpus: whose speech is looked at.
        utterances: of which a crop each is looked at, from ``utterances_for``.
        expert: the trained upstream.
        seed: of its pre-training.
        folder: where to write.
        frames: stacked frames of a crop.
        samples: crops whose maps are kept one by one, to be projected.
        command: for the page.
        valid_loss: with which pre-training ended.
        subsets: that were asked for; none is what the upstream was pre-trained on.

    Raises:
        ValueError: when the upstream has no maps.
    """
    bar = tqdm(crops(expert, corpus, utterances, frames), f"maps of {study.label}", len(utterances), disable=None)
    collected = collect(expert, bar, samples)
    table = heads(collected)
    spliced = _turns(expert, corpus, utterances, frames)
    if spliced is not None:
        add_turns(table, spliced)
    logger.info("%s: projecting %d heads", study.label, len(table))
    projections = projected(collected, table, seed)
    chance = {**collected.chance, **(spliced.chance if spliced is not None else {})}
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "upstream": study.label,
        "title": expert.entry.info.title,
        "input_dependent": expert.entry.info.input_dependent,
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "preset": study.recipe.preset,
        "seed": seed,
        "steps": study.recipe.pretrain.steps,
        "pretraining": {"valid_loss": valid_loss, "precision": study.recipe.pretrain.precision},
        "model": asdict(expert.options),
        "command": command,
        "environment": describe(torch.get_num_threads()),
        "subsets": list(subsets),
        "frames": frames,
        "frame_s": expert.options.stack / 100,
        "utterances": len(collected.ids),
        "layers": collected.layers,
        "heads": collected.mean.shape[1],
        "cases": {"names": list(CASES), "by_layer": by_layer(table)},
        "chance": {mark: round(share, 4) for mark, share in chance.items()},
        "table": table,
        "projections": projections,
        "notes": [how_many_cases(name, each) for name, each in projections.items()],
    }
    found["pictures"] = _draw(found, collected, expert, seed, folder)
    with replace_file(folder / "maps.safetensors") as temporary:
        about = {"upstream": study.label, "corpus": corpus.name, "frames": str(frames)}
        save_file({"mean": collected.mean.float()}, temporary, metadata=about)
    for name, text in (("attention.md", page.markdown(found)), (FILE, json.dumps(found, indent=1))):
        with replace_file(folder / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return found


def _turns(expert: UpstreamExpert, corpus: Corpus, utterances: Sequence[Utterance], frames: int) -> Collected | None:
    """Maps of crops that two speakers share; None where too few pairs of speakers can be found."""
    speakers = {utterance.id: utterance.speaker for utterance in utterances}
    pairs = list(turns(crops(expert, corpus, utterances, frames), speakers))
    return collect(expert, pairs) if len(pairs) >= FEWEST else None


def _draw(
    found: dict[str, Any], collected: Collected, expert: UpstreamExpert, seed: int, folder: Path
) -> list[dict[str, str]]:
    table, label = found["table"], found["upstream"]
    totals = [sum(column) for column in zip(*found["cases"]["by_layer"], strict=True)]
    counts = ", ".join(f"{total} {name}" for name, total in zip(CASES, totals, strict=True))
    drawn = [
        ("gallery", "Mean maps of all heads", f"Mean attention maps of {label}, layer by layer: {counts}.",
         pictures.gallery(collected.mean, table)),
    ]  # fmt: skip
    if expert.entry.info.input_dependent:
        drawn.append((
            "dependence", "How much hangs on the input",
            f"Share of each head's attention in {label} that is the same in every crop, by layer.",
            pictures.dependence(table),
        ))  # fmt: skip
    else:
        try:
            start = _at_the_start(expert, seed, found["frames"])
        except ValueError as error:  # the file of maps that it started from is not there any more
            found["notes"].append(f"Maps before pre-training are not shown: {error}.")
        else:
            found["start"] = heads(start)
            drawn.append((
                "training", "Maps before and after pre-training",
                f"Attention maps of {label} at the start and after pre-training, layer by layer.",
                pictures.before_and_after(start.mean, collected.mean, found["start"], table),
            ))  # fmt: skip
    projections = pictures.projections(found["projections"], table)
    if projections is not None:
        drawn.append((
            "projections", "Maps as points", f"PCA and t-SNE of the attention maps of {label}, and silhouettes.",
            projections,
        ))  # fmt: skip
    for name, _, _, figure in drawn:
        pictures.save(figure, folder, name)
    return [{"file": f"{name}.png", "title": title, "alt": alt} for name, title, alt, _ in drawn]


def _at_the_start(expert: UpstreamExpert, seed: int, num_frames: int) -> Collected:
    """Maps that do not depend on the input, as pre-training with this seed found them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fresh = load(expert.name, **asdict(expert.options), **asdict(expert.own_options))
    assert isinstance(fresh, UpstreamExpert)
    same = torch.zeros(num_frames, fresh.options.input_dim)
    return collect(fresh, [Crop(str(number), same, {}) for number in range(FEWEST)])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark attention",
        description=__doc__.split("\n")[0],
        epilog="Settings are section.option=value words, as for run_benchmark.py.",
    )
    parser.add_argument("--upstream", nargs="+", default=[BASELINE], metavar="NAME", help=f"rows (default: {BASELINE})")
    parser.add_argument("--preset", default="demo", help=f"one of {', '.join(presets())} (default: %(default)s)")
    parser.add_argument("--corpus", help="synthetic, librispeech or manifest (default: the preset's)")
    parser.add_argument("--root", help="the folder of the corpus, or the csv of a manifest")
    parser.add_argument("--seed", type=int, default=0, help="of pre-training (default: 0)")
    parser.add_argument(
        "--subsets", nargs="+", default=[], metavar="NAME",
        help="of the corpus, whose speech is looked at (default: what was pre-trained on)",
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=FRAMES, help="stacked frames of a crop (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=CROPS, help="the most crops, one an utterance (default: 256)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="crops whose own maps are projected (default: 16)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, default=Path("result"), help="a result folder; what it lacks is pre-trained"
    )
    given = list(sys.argv[1:] if arguments is None else arguments)
    settings = [word for word in given if is_override(word)]
    options = parser.parse_args([word for word in given if word not in settings])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_freed_memory()
    command = shlex.join(["python", "-m", "s3prl_attention.benchmark", "attention", *given])
    with mistakes_told():
        _check(options)
        overrides = as_overrides("data", {"corpus": options.corpus, "root": options.root}) + settings
        check_overrides(options.upstream, overrides)
        studies = [load_study(name, options.preset, overrides) for name in options.upstream]
        speech = load_speech(studies[0].recipe.data)
        corpus = speech.probing.select(*options.subsets) if options.subsets else speech.pretraining
        frames = options.frames
        for study in studies:
            _check_frames(frames, study)
        chosen = [utterances_for(corpus, frames, study.recipe.model.stack, options.crops) for study in studies]
        for study, utterances in zip(studies, chosen, strict=True):
            expert, done = frozen_upstream(study, speech, options.seed, options.out, options.device)
            assert isinstance(expert, UpstreamExpert)
            assert done is not None, "it was pre-trained"
            where = options.out / FOLDER / corpus.name / options.preset
            told = telling([study.upstream], settings)
            name = [study.label, f"seed{options.seed}", *options.subsets, *told]
            folder = where / safe_name("--".join(name))
            folder.mkdir(parents=True, exist_ok=True)
            found = analyse(
                study, corpus, utterances, expert.to(options.device), options.seed, folder, frames, options.samples,
                command, done.valid_loss, options.subsets,
            )  # fmt: skip
            print(page.terminal(found))
            print(f"written: {folder / 'attention.md'}\n")


def _check(options: argparse.Namespace) -> None:
    check_device(options.device)
    check_seed(options.seed)
    for name in options.upstream:
        if not is_pretrained(name):
            raise ValueError(f"{name} has no attention: name upstreams with an encoder of ours")
    if options.frames < FEWEST_FRAMES:
        raise ValueError(
            f"--frames must be at least {FEWEST_FRAMES}, got {options.frames}: below, the cases cannot be told apart"
        )
    if options.crops < FEWEST or options.samples < 0:
        raise ValueError(f"--crops must be at least {FEWEST} and --samples at least 0")


def _check_frames(frames: int, study: Study) -> None:
    longest = study.recipe.model.max_frames
    if frames > longest:
        raise ValueError(
            f"{study.label} with preset {study.recipe.preset} is trained on at most {longest} stacked frames, and "
            f"--frames asks for {frames}: choose {longest} or fewer"
        )


if __name__ == "__main__":
    main()
