"""The pieces of work behind cells, of which cells share most: what is still to be done for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..recipes.corpora import Corpus, FrameStore, cache_dir
from .attention import mean_maps
from .cell import Cell
from .names import BASELINE, MEL, is_pretrained
from .plan import Plan
from .prepare import lineage, source_of_maps
from .settings import Study
from .stopwatch import is_timed

KINDS = ("timing", "log-Mel", "pre-training", "mean maps", "extraction", "probe")  # in the order of doing


class Step(NamedTuple):
    """One piece of work; fields that do not matter to its kind are empty."""

    kind: str
    upstream: str = ""
    seed: int | None = None
    task: str = ""
    probe_seed: int | None = None


def steps_of(plan: Plan, cells: Iterable[Cell]) -> dict[Path, tuple[Step, ...]]:
    """For each of these cells, by path, the steps that it still needs, in the order of doing.

    Hidden states count as not yet extracted: which of them the cache will still have is known when they are asked for.
    """
    out, speech = plan.request.out, plan.speech

    @cache
    def timed(name: str) -> bool:
        return is_timed(plan.records[name])

    @cache
    def log_mel() -> tuple[Step, ...]:
        known = has_log_mel(speech.pretraining, plan.studies[MEL].recipe.model.num_mels)
        return () if known else (Step("log-Mel"),)

    @cache
    def trained(name: str, seed: int) -> tuple[Step, ...]:
        study = study_of(plan, name)
        own = Step("pre-training", name, seed)
        if has_run(out, speech.pretraining, lineage(study, speech, seed)):
            return ()
        source = source_of_maps(study)
        if source is None:
            return (own,)
        key = f"*--{lineage(source, speech, seed)}--v{mean_maps.VERSION}.safetensors"
        if any((out / "maps" / speech.pretraining.name).glob(key)):
            return (own,)
        return (*trained(source.upstream, seed), Step("mean maps", source.upstream, seed), own)

    def steps(cell: Cell) -> tuple[Step, ...]:
        name, seed = cell.study.upstream, cell.seed
        clocked = () if timed(name) else tuple(Step("timing", other) for other in dict.fromkeys((MEL, BASELINE, name)))
        weights = trained(name, seed) if is_pretrained(name) else ()
        last = (Step("extraction", name, seed), Step("probe", name, seed, cell.task, cell.probe_seed))
        return (*clocked, *(log_mel() if weights or name == MEL else ()), *weights, *last)

    return {plan.path(cell): steps(cell) for cell in cells}


def study_of(plan: Plan, upstream: str) -> Study:
    """The study of an upstream that is asked for, or whose maps one that is asked for starts from."""
    if upstream in plan.studies:
        return plan.studies[upstream]
    sources = (source_of_maps(study) for study in plan.studies.values())
    return next(study for study in sources if study is not None and study.upstream == upstream)


def has_run(out: Path, corpus: Corpus, lineage: str) -> bool:
    """Whether ``out`` has the finished pre-training of this lineage."""
    return any((out / "pretrain" / corpus.name).glob(f"*--{lineage}/checkpoint"))


def has_log_mel(corpus: Corpus, num_mels: int) -> bool:
    """Whether the cache has the log-Mel frames of these utterances."""
    for folder in (cache_dir() / "log-mel").glob(f"{corpus.name}-*"):
        try:
            store = FrameStore.open(folder)
        except ValueError:  # told when it is used
            continue
        if store.frame_shape == (num_mels,) and store.ids == [u.id for u in corpus.utterances]:
            return True
    return False
