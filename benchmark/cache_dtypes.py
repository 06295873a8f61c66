"""What storing hidden states in half the bytes does to a score: the same probe from float16 and from float32."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import downstream
from ..downstream.feature_cache import DTYPES
from ..downstream.probe import probe
from ..recipes.config import as_overrides
from ..recipes.corpora.cache_room import told
from ..recipes.pretrain import check_device, check_seed
from .prepare import Speech, load_speech, prepare
from .scored import points
from .settings import Study, load_study
from .statistics import clustered_interval


def run(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Print scores, the paired difference with its interval, and bytes."""
    study, speech = requested(options, overrides)
    print(f"{options.upstream}, preset {options.preset}, {speech.probing.name}, seed {options.seed}")
    outcomes: dict[str, dict[str, list[dict[str, Any]]]] = {task: {} for task in options.downstream}
    for dtype in DTYPES:
        stored = replace(study, probe=replace(study.probe, states_dtype=dtype))
        prepared = prepare(stored, speech, options.downstream, options.seed, options.out, options.device)
        print(f"{dtype}: {told(prepared.states.nbytes)} for {len(prepared.states)} utterances")
        for task in options.downstream:
            scored = probe(task, speech.probing, prepared.states, options.seed, options.device, stored.probe)
            metric = downstream.load(task).INFO.metric
            print(f"  {task}: {metric} {percent(scored.test)} of {scored.items} test items")
            outcomes[task][dtype] = scored.outcomes
    for task, found in outcomes.items():
        print(f"{task}: {DTYPES[0]} - {DTYPES[1]} = {difference(task, *(found[dtype] for dtype in DTYPES))}")


def requested(options: argparse.Namespace, overrides: Sequence[str]) -> tuple[Study, Speech]:
    """The study and the speech that a command line names."""
    check_device(options.device)
    check_seed(options.seed)
    words = as_overrides("data", {"corpus": options.corpus, "root": options.root})
    words += as_overrides("pretrain", {"steps": options.pretrain_steps})
    study = load_study(options.upstream, options.preset, [*words, *overrides])
    return study, load_speech(study.recipe.data)


def difference(task: str, first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> str:
    """The first score minus the second in points, over the same test utterances, with an interval from speakers."""
    rows = {(row["fold"], row["utterance"]): row for row in second}
    pairs = [(row, rows[row["fold"], row["utterance"]]) for row in first]
    assert len(pairs) == len(rows), "both sides score the same utterances"
    higher_is_better = downstream.load(task).INFO.higher_is_better
    gaps = [points(a, higher_is_better) - points(b, higher_is_better) for a, b in pairs]
    totals = [a["total"] for a, _ in pairs]
    speakers = [a["speaker"] for a, _ in pairs]
    interval = clustered_interval(gaps, totals, speakers)
    spread = "no interval: one speaker" if interval is None else f"{interval[0]:+.2%} to {interval[1]:+.2%}"
    return f"{np.sum(gaps) / np.sum(totals):+.2%} ({spread}; {np.count_nonzero(gaps)} of {len(gaps)} utterances differ)"


def percent(score: float) -> str:
    """``12.3 %``."""
    return f"{100 * score:.1f} %"
