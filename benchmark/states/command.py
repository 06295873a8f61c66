"""Hidden states by phone and speaker, as pictures (PCA, t-SNE) with numbers, for the upstreams of a finished run.

python -m s3prl_attention.benchmark states --upstream self_attention fixed_init mel --out result
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ...downstream.feature_cache import cached_states
from ...recipes.config import as_overrides
from ...recipes.pretrain import check_device, check_seed
from ...upstream.allocator import keep_freed_memory
from ...upstream.plugins import UPSTREAMS
from ...upstream.s3prl_upstreams import check, parse
from ..command_line import mistakes_told
from ..names import BASELINE, MEL, is_foreign, is_override, is_pretrained
from ..plot import STYLES
from ..prepare import Speech, batch_s, load_speech, states_key
from ..result_files import safe_name
from ..settings import Study, check_overrides, load_study, telling
from .page import write
from .sample import Sample, phone_sample, speaker_sample
from .trained import checkpoint, frozen, how_to_train
from .view import View, view

logger = logging.getLogger(__name__)

SPEAKERS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = _parse(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    keep_freed_memory()
    command = shlex.join(["python", "-m", "s3prl_attention.benchmark", "states", *given])
    with mistakes_told():
        written = run(options, overrides, command)
    print("written: " + ", ".join(map(str, written)))


def run(options: argparse.Namespace, settings: Sequence[str], command: str) -> list[Path]:
    """Look at the upstreams one after the other and write the page; the files written, the page first.

    Raises:
        ValueError: for a wrong request, a checkpoint that is missing, or a corpus without phones and speakers to show.
    """
    check_device(options.device)
    check_seed(options.seed)
    if not 2 <= options.speakers <= len(STYLES):
        raise ValueError(
            f"--speakers must be 2 to {len(STYLES)}, which is how many marks there are: {options.speakers}"
        )
    overrides = as_overrides("data", {"corpus": options.corpus, "root": options.root}) + list(settings)
    speech = load_speech(load_study(MEL, options.preset, overrides).recipe.data)
    studies = _studies(options, overrides, speech)
    samples = {
        "phones": phone_sample(speech.probing),
        "speakers": speaker_sample(speech.probing, options.speakers),
    }
    shown = {name: sample for name, sample in samples.items() if sample is not None}
    if not shown:
        raise ValueError(
            f"{speech.probing.name} has neither two speakers with alignments of two phones or more nor two with three "
            f"utterances: there is nothing to show"
        )
    views = [
        _view(study, speech, shown, options)
        for study in tqdm(studies, desc="upstreams", disable=None if len(studies) > 1 else True)
    ]
    told = telling([study.upstream for study in studies], settings)
    name = [f"seed{options.seed}", *([] if options.layer is None else [f"layer{options.layer}"]), *told]
    folder = options.out / "states" / safe_name(speech.probing.name) / options.preset / safe_name("--".join(name))
    return write(folder, views, shown, speech.probing, options.preset, options.seed, command)


def _studies(options: argparse.Namespace, overrides: Sequence[str], speech: Speech) -> list[Study]:
    """Those asked for, or all that ``out`` has; each has what it needs."""
    known = dict.fromkeys([MEL, BASELINE, *UPSTREAMS.names()])
    asked = [parse(name).text if is_foreign(name) else name for name in options.upstream]
    check_overrides(asked or list(known), overrides)
    found = [load_study(name, options.preset, overrides) for name in asked or known]
    studies = list({study.upstream: study for study in found}.values())  # equal rows, however written, are one
    pretrained = [study for study in studies if is_pretrained(study.upstream)]
    missing = [study for study in pretrained if checkpoint(study, speech, options.seed, options.out) is None]
    if missing and (asked or len(missing) == len(pretrained)):
        wanted = missing if asked else [study for study in missing if study.upstream == BASELINE]
        raise ValueError(how_to_train(wanted, speech, options.seed, options.out, overrides, options.device))
    for study in pretrained:
        if options.layer is not None and not 0 <= options.layer <= study.recipe.model.num_layers:
            last = study.recipe.model.num_layers
            raise ValueError(f"--layer must be 0 (the input) to {last} for {study.upstream}, got {options.layer}")
    if foreign := [parse(name) for name in asked if is_foreign(name)]:
        check(foreign)
    return [study for study in studies if study not in missing]


def _view(study: Study, speech: Speech, samples: dict[str, Sample], options: argparse.Namespace) -> View:
    logger.info("%s", study.label)
    expert = frozen(study, speech, options.seed, options.out, options.device)
    utterances = {u.id: u for sample in samples.values() for u in sample.utterances}
    wanted = [utterances[id] for id in sorted(utterances)]
    key = states_key(study.upstream, expert, speech.probing, study.probe.states_dtype)
    store = cached_states(expert, wanted, key, options.device, max_batch_s=batch_s(study.upstream)).store
    return view(study.label, store, samples, options.layer)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark states",
        description=__doc__.split("\n")[0],
        epilog="Settings, section.option=value words among them, are those that the run was made with.",
    )
    add = parser.add_argument
    add(
        "--upstream",
        nargs="+",
        default=[],
        metavar="NAME",
        help="rows (default: mel, and all without brackets that --out has)",
    )
    add("--preset", default="demo", help="smoke, demo, study or paper (default: demo)")
    add("--corpus", help="synthetic, librispeech or manifest (default: the preset's)")
    add("--root", help="the folder of the corpus, or the csv of a manifest")
    add("--seed", type=int, default=0, metavar="N", help="of pre-training (default: 0)")
    add("--layer", type=int, metavar="N", help="whose states are drawn; 0 is the input of the first (default: last)")
    add("--speakers", type=int, default=SPEAKERS, metavar="N", help=f"how many are shown (default: {SPEAKERS})")
    add("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    overrides = [word for word in arguments if is_override(word)]
    return parser.parse_args([word for word in arguments if word not in overrides]), overrides


if __name__ == "__main__":
    main()
