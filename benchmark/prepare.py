"""From a study to the hidden states that its probes read: pre-train what is missing, extract once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import downstream
from ..downstream.feature_cache import Key, cached_states, weights_digest
from ..downstream.hidden_states import MAX_BATCH_S, length_batches
from ..recipes.batches import log_mel_store
from ..recipes.config import DataConfig, load_recipe
from ..recipes.corpora import Corpus, FrameStore, Utterance
from ..recipes.lineage import by_content, deciding, named_corpus, pretrain_part
from ..recipes.pretrain import Pretrained, pretrain
from ..upstream import load
from ..upstream.contract import entry
from ..upstream.mel import MelExpert
from ..upstream.s3prl_upstreams import load_foreign, parse, s3prl_version
from .attention import mean_maps
from .claims import claims_of
from .lengths import padding
from .names import MEL, is_foreign, is_pretrained
from .result_files import safe_name
from .settings import Study
from .sources import source_hash
from .variants import row_label

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """The corpus of a run: the part to pre-train on, and the part whose labels the tasks read."""

    pretraining: Corpus
    probing: Corpus


@dataclass(frozen=True)
class Prepared:
    """A frozen upstream's hidden states, and how they came about; ``pretrained`` is None for ``mel`` and for s3prl's
    upstreams. ``lengths`` tells for each bucket of utterance lengths how much was padded, ``num_extracted`` how many
    utterances the cache lacked."""

    pretrained: Pretrained | None
    num_parameters: int
    states: FrameStore
    extraction_s: float
    num_extracted: int
    lengths: list[dict[str, Any]]


def load_speech(data: DataConfig) -> Speech:
    """The two parts of the corpus that a configuration names."""
    corpus = named_corpus(data)
    probing = corpus.select(*data.probe_subsets) if data.probe_subsets else corpus
    return Speech(pretrain_part(corpus, data.pretrain_subsets), probing)


def lineage(study: Study, speech: Speech, seed: int) -> str:
    """12 digits that change with everything that decides the pre-trained weights.

    A file of maps counts by its content, and so does a checkpoint of s3prl's; maps that are still to be made count by
    the lineage of the upstream they are made of. What is not pre-trained changes with model and pre-training as well:
    it stands in the table of those that are, and is timed against one of them.
    """
    resolved = study.resolved()
    parts = [study.label, resolved["model"], by_content(resolved["attention"]), deciding(resolved["pretrain"])]
    parts += [study.checkpoint] if study.checkpoint is not None else []
    source = source_of_maps(study)
    if source is not None:
        parts += [lineage(source, speech, seed), mean_maps.VERSION]
    return digest([parts, seed, speech.pretraining.speech_fingerprint, source_hash(study.upstream)])


def source_of_maps(study: Study) -> Study | None:
    """The study of the upstream whose trained maps this one asks for: the same settings, its own attention."""
    if not is_pretrained(study.upstream):
        return None
    name = entry(study.recipe.upstream).info.needs_maps_of(study.recipe.attention)
    if not name:
        return None
    attention = load_recipe(name, study.recipe.preset).attention
    return replace(study, upstream=name, recipe=replace(study.recipe, upstream=name, attention=attention))


def prepare(study: Study, speech: Speech, tasks: Sequence[str], seed: int, out: Path, device: str) -> Prepared:
    """Pre-train unless ``out`` has it, then extract the hidden states that ``tasks`` need unless the cache has them."""
    expert, done = frozen_upstream(study, speech, seed, out, device)
    utterances = needed(tasks, speech.probing, study)
    key = states_key(study.upstream, expert, speech.probing, study.probe.states_dtype)
    most_s = batch_s(study.upstream)
    cached = cached_states(expert, utterances, key, device, max_batch_s=most_s)
    parameters = sum(parameter.numel() for parameter in expert.parameters())
    lengths = padding(length_batches(utterances, most_s))
    return Prepared(done, parameters, cached.store, cached.extraction_s, cached.num_extracted, lengths)


def batch_s(upstream: str) -> float:
    """Seconds of audio, padding included, that an upstream encodes at once.

    s3prl's encode one utterance at a time: beside a longer one ``s3prl:mel`` gives other values for most frames,
    Mockingjay for the last ones, and the frames of ``s3prl:fbank`` go on into the padding. Which utterances share a
    batch hangs on what the cache holds already, so that scores would not be reproducible.
    """
    return 0.0 if is_foreign(upstream) else MAX_BATCH_S


def frozen_upstream(
    study: Study, speech: Speech, seed: int, out: Path, device: str
) -> tuple[UpstreamBase, Pretrained | None]:
    """The upstream that a study probes, pre-trained unless ``out`` has it; ``mel`` is fitted only, s3prl's come as they
    are."""
    if study.upstream == MEL:
        return _mel(speech.pretraining, study.recipe.model.num_mels), None
    if is_foreign(study.upstream):
        return load_foreign(parse(study.upstream)), None
    done = _pretrained(study, speech, seed, out, device)
    return load(study.recipe.upstream, done.checkpoint, long_input="windows"), done


def states_key(upstream: str, expert: UpstreamBase, corpus: Corpus, dtype: str) -> Key:
    """What decides the hidden states of an upstream on a corpus."""
    if upstream == MEL:
        options = {"num_mels": expert.log_mel.num_mels}
    elif is_foreign(upstream):  # not all that decides their states need be among their weights
        options = {"checkpoint": parse(upstream).checkpoint, "s3prl": s3prl_version()}
    else:
        options = {**asdict(expert.options), **asdict(expert.own_options)}
        options.pop("maps", None)  # a path; the maps that came from it are among the weights
    return Key(
        upstream=parse(upstream).label if is_foreign(upstream) else row_label(upstream),
        weights=weights_digest(expert),
        options=options,
        source=source_hash(upstream),
        long_input=getattr(expert, "long_input", ""),
        dtype=dtype,
        corpus=corpus.name,
        data=corpus.speech_fingerprint,
    )


def _pretrained(study: Study, speech: Speech, seed: int, out: Path, device: str) -> Pretrained:
    """Pre-train unless ``out`` has it, and before that the upstream whose maps it starts from, if there is one."""
    corpus, recipe, run = speech.pretraining, study.recipe, run_name(study, speech, seed)
    source = source_of_maps(study)
    if source is not None:
        maps = out / "maps" / corpus.name / f"{run_name(source, speech, seed)}--v{mean_maps.VERSION}.safetensors"
        if not maps.is_file():
            trained = _pretrained(source, speech, seed, out, device)
            with claims_of(out).wait_for(maps.name, lambda: logger.info("waiting for another process: %s", maps)):
                if not maps.is_file():  # it may have been made meanwhile, and its content decides what comes of it
                    mean_maps.write_mean_maps(trained.checkpoint, corpus, maps, device=device)
        recipe = replace(recipe, attention={**recipe.attention, "maps": str(maps)})
    with claims_of(out).wait_for(run, lambda: logger.info("waiting for another process that pre-trains %s", run)):
        return pretrain(recipe, corpus, out / "pretrain" / corpus.name / run, seed, device)


def run_name(study: Study, speech: Speech, seed: int) -> str:
    """What the pre-training of a row is called: the name of its folder, and of the claim on it."""
    name = study.upstream if is_foreign(study.upstream) else safe_name(study.label)
    return f"{name}--seed{seed}--{lineage(study, speech, seed)}"


def digest(parts: Any) -> str:
    """12 hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()[:12]


def _mel(corpus: Corpus, num_mels: int) -> MelExpert:
    expert, meta = MelExpert(num_mels=num_mels), log_mel_store(corpus, num_mels).meta
    expert.log_mel.fit(torch.tensor(meta["mean"]), torch.tensor(meta["std"]))
    return expert


def needed(tasks: Sequence[str], corpus: Corpus, study: Study) -> list[Utterance]:
    """Every utterance of every fold of the tasks that can use this corpus, sorted by id."""
    found: dict[str, Utterance] = {}
    problems: list[Exception] = []
    for task in tasks:
        try:
            folds = downstream.load(task).folds(corpus, study.probe.subsets)
        except (
            Exception
        ) as error:  # a plug-in may raise anything; the cell of this task will fail with it; the others need not
            problems.append(error)
            continue
        found |= {u.id: u for fold in folds for split in ("train", "dev", "test") for u in fold.utterances(split)}
    if not found and problems:
        raise problems[0]
    return [found[id] for id in sorted(found)]
