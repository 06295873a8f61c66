"""s3prl's names in the yaml of a task, and its way to divide lists of utterances into train, dev and test.

s3prl reads ``train_split.txt`` and ``test_split.txt``, those of CPC for LibriSpeech; of train, shuffled with
``train_dev_seed``, the first nine tenths are for training and the rest is dev.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..recipes.corpora.alignments import utf8_told
from ..recipes.corpora.corpus import SAMPLE_RATE_HZ
from ..recipes.corpora.split_lists import find_lists
from ..upstream.registry import nearest
from .heads import HIDDEN, WIDTH

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus

log = logging.getLogger(__name__)

MEANING = {  # s3prl's name: the options that stand for it, each made of its value
    "libri_root": {"corpus": "librispeech", "root": "{}"},
    "phone_path": {"split_lists": "{}", "alignments": "{}/converted_aligned_phones.txt"},
    "split_file": {"split_lists": "{}"},
}
IDLE = {
    "sample_rate": "audio of any rate is resampled to 16000 Hz",
    "max_timestep": "s3prl's task does not use it either",
}
NAMES = (*MEANING, *IDLE)  # other names are the same here and there
SECTION = "downstream_expert.datarc"
TRAIN_DEV_SEED = 1337  # s3prl's default
HEADS: dict[str, dict[str, Any]] = {  # of our tasks, what a yaml of s3prl may say of the head
    "phone_1hidden": {"hidden_size": HIDDEN, "dropout": 0.0},
    "phone_concat": {"concat_n_frames": WIDTH},
}


def translated(datarc: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The section with s3prl's names replaced by options of ours; a log line says what became of them.

    Args:
        datarc: the section of the yaml; null is as good as nothing.
        defaults: of our options; our yaml repeats them, so they contradict nothing.

    Raises:
        ValueError: when two names give an option two values, lists come without LibriSpeech, or audio is to have
            another rate than upstreams hear.
    """
    theirs = {name: datarc[name] for name in NAMES if datarc.get(name) is not None}
    ours = {name: value for name, value in datarc.items() if name not in NAMES}
    made: dict[str, Any] = {}
    meant = [name for name in MEANING if name in theirs]
    for name in meant:
        for option, form in MEANING[name].items():
            value, current = form.format(theirs[name]), ours.get(option, defaults[option])
            if current not in (defaults[option], value):
                raise ValueError(f"{SECTION}: {name} means {option}={value!r}, but {option} is {current!r}: drop one")
            ours[option] = made[option] = value
    if made and ours.get("corpus") != "librispeech":
        raise ValueError(f"{SECTION}: {' and '.join(meant)} needs LibriSpeech: name its folder with libri_root")
    if theirs.get("sample_rate", SAMPLE_RATE_HZ) != SAMPLE_RATE_HZ:
        raise ValueError(
            f"{SECTION}: sample_rate is {theirs['sample_rate']}, but upstreams hear {SAMPLE_RATE_HZ} Hz, to which "
            f"audio is resampled: write that, or drop it"
        )
    if "split_lists" in made:
        if ours.get("train_dev_seed") is None:
            ours["train_dev_seed"] = TRAIN_DEV_SEED
        made["train_dev_seed"] = ours["train_dev_seed"]
    if made:
        log.info("%s: s3prl's names mean %s", SECTION, ", ".join(f"{name}={value}" for name, value in made.items()))
    idle = {name: why for name, why in IDLE.items() if name in theirs}
    if ours.get("bucket_file") is not None and not ours.get("s3prl_compatible"):
        idle["bucket_file"] = "only s3prl_compatible batches by it"
    if idle:
        log.info("%s: not used: %s", SECTION, ", ".join(f"{name} ({why})" for name, why in idle.items()))
    return ours


def check_modelrc(modelrc: Mapping[str, Any] | None, task: str) -> None:
    """Nothing, where the section ``modelrc`` of s3prl's yaml says what the head of our task is.

    Raises:
        ValueError: for a head of another size, for one of another task, and for what none of them has.
    """
    own = HEADS.get(task, {})
    whose = {name: other for other, head in HEADS.items() for name in head}
    wrong = []
    for name, value in (modelrc or {}).items():
        if name == "none" or (name in own and value == own[name]):
            continue
        if name in own:
            wrong.append(f"{name} is {value}, but the head of {task} has {own[name]}, for every upstream alike")
        elif name in whose:
            wrong.append(f"{name} is not for {task} ({whose[name]} has {HEADS[whose[name]][name]})")
        else:
            wrong.append(f"no option {name!r} ({nearest(name, list(whose))})")
    if wrong:
        raise ValueError(
            f"downstream_expert.modelrc: {'; '.join(wrong)}: correct the yaml, take the task with that head, or run "
            f"s3prl's own (-d s3prl:TASK)"
        )


def divided_lists(where: str, seed: int) -> dict[str, list[str]]:
    """The ids of train, dev and test as s3prl divides them. Python's own random state is left alone.

    Args:
        where: as ``split_lists``.
        seed: of the shuffle of train.

    Raises:
        ValueError: for missing lists, and for one of dev, which s3prl would not read.
    """
    files = find_lists(where)
    if "dev" in files:
        raise ValueError(
            f"{files['dev']}: train_dev_seed makes dev of a tenth of train, and would not use this list: drop one"
        )
    lines = {}
    for split, path in files.items():
        with utf8_told(path, "lists are"), path.open(encoding="utf-8-sig") as file:
            lines[split] = [line.strip() for line in file]  # blank lines count in the shuffle
    random.Random(seed).shuffle(lines["train"])
    num_train = int(len(lines["train"]) * 0.9)
    parts = {"train": lines["train"][:num_train], "dev": lines["train"][num_train:], "test": lines["test"]}
    return {split: list(filter(None, ids)) for split, ids in parts.items()}


def divided(corpus: Corpus, where: str, seed: int) -> Corpus:
    """The corpus with a tenth of train as dev, chosen as s3prl does; raises as ``divided_lists``."""
    split_of = {id: split for split, ids in divided_lists(where, seed).items() for id in ids}
    assigned = tuple(replace(utterance, split=split_of.get(utterance.id, "")) for utterance in corpus.utterances)
    by = f"{corpus.assigned_by}, a tenth of train as dev (s3prl's shuffle, seed {seed})"
    return replace(corpus, utterances=assigned, assigned_by=by)
