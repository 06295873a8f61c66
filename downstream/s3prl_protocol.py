"""A task exactly as s3prl 0.4.18 runs it, traps included: what ``s3prl_compatible: true`` switches to.

For matching old numbers; the default form, with the same sets of utterances, has none of these:

- Halved batches. The table counts samples, the rule to halve batches above 2000 was meant for 10 ms frames: every full
  batch of two utterances or more is halved, and ``train_batch_size: 32`` trains on 16.
- Dropped last bucket. What is left behind the last full batch is read only where it is two utterances or more, and the
  shortest one of the whole table is of the same set: two or three of train, dev and test lose up to a batch less one.
- Padded frame loss. In ``speaker_frame``, the zeros behind shorter utterances have their speaker as label and count in
  the loss, though not in the accuracy.
- Matched by the longest. In the phone tasks, the longest features and labels of the batch decide how all features are
  tiled, cut or repeated at the end; shorter ones may read zeros, and no mismatch is too large.
- Batches sorted. A batch holds utterances of like length, the same ones in every epoch; only their order changes.
- Classes of others. 41 phones, whatever the labels are; all speakers of the table, but none with one utterance.
- Neighbours in padding. ``phone_concat`` reads the zeros behind shorter utterances as neighbours.

The order of training batches comes from torch's global random state, so that under one seed s3prl's task and ours make
the same steps. Not reproduced: checkpoints chosen by test, Python's ``random`` seeded anew, audio read at its own rate.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..recipes.corpora.alignments import label_lines
from ..recipes.corpora.audio import SAMPLE_RATE_HZ
from .dataset import DataConfig, TaskData
from .folds import SPLITS, Fold, check_fold, quoted
from .heads import HIDDEN, layers
from .s3prl_buckets import TABLE, BucketOrder, Row, buckets, read_table
from .s3prl_datarc import SECTION, TRAIN_DEV_SEED, divided_lists
from .s3prl_padded import PaddedConcat, PaddedFrames, phones, speaker
from .targets import Targets
from .utterance_classifier import UtteranceClassifier

if TYPE_CHECKING:
    from ..recipes.corpora import Utterance

log = logging.getLogger(__name__)

NUM_PHONES = 41
NEEDED = {"root": "libri_root", "split_lists": "phone_path or split_file", "bucket_file": "bucket_file"}
TAKEN = {*NEEDED, "corpus", "alignments", "train_dev_seed", "s3prl_compatible", "num_workers"}
TAKEN |= {"train_batch_size", "eval_batch_size"}


@dataclass(frozen=True)
class Form:
    """What a task is in s3prl.

    Args:
        targets: the classes and labels, from the data and the table.
        model: as ``TaskExpert`` takes it.
    """

    targets: Callable[[TaskData, Sequence[Row]], Targets]
    model: Callable[[int, int, int], nn.Module]


def compatible(
    form: Form | None, task: str, config: DataConfig
) -> tuple[TaskData, Targets, Callable[[int, int, int], nn.Module]]:
    """The data, the targets and the maker of the model of a task in s3prl's form.

    Raises:
        ValueError: for a task that has none, for missing or contradicting options, and for files that are missing,
            malformed, or do not fit together.
    """
    if form is None:
        raise ValueError(
            f"{SECTION}: s3prl_compatible is not for {task}, which s3prl does not have in this form: drop it, or run a "
            f"task of s3prl (-d s3prl:TASK)"
        )
    from ..recipes.corpora import load_corpus

    files = _checked(config)
    corpus = load_corpus("librispeech", Path(files["root"]))
    seed = TRAIN_DEV_SEED if config.train_dev_seed is None else config.train_dev_seed
    lists = {split: set(ids) for split, ids in divided_lists(files["split_lists"], seed).items()}
    table = read_table(Path(files["bucket_file"]).expanduser() / TABLE)
    sizes = {split: config.train_batch_size if split == "train" else config.eval_batch_size for split in SPLITS}
    made = {split: buckets(table, lists[split], sizes[split]) for split in SPLITS}
    if empty := [split for split in SPLITS if not made[split]]:
        raise ValueError(
            f"{config.bucket_file}: s3prl's batches have nothing of {' and '.join(empty)}: the lists name too few "
            f"utterances of {TABLE} for a batch; lower train_batch_size or eval_batch_size, or drop s3prl_compatible"
        )
    spoken = _found(made, {utterance.id: utterance for utterance in corpus.utterances}, config)
    fold = Fold(spoken["train"], spoken["dev"], spoken["test"], _sentence(table, lists, made, seed))
    log.warning("%s: %s", task, fold.split)
    orders = {split: BucketOrder(list(map(len, made[split])), shuffle=split == "train") for split in SPLITS}
    data = TaskData(config, lambda *_: [fold], corpus, check_fold(fold, speakers=False), orders)
    return data, form.targets(data, table), form.model


def phone_ids(data: TaskData, table: Sequence[Row]) -> Targets:
    """The ids of the file of labels, as they stand there."""
    del table
    path = data.config.alignments
    if path is None:
        raise ValueError(f"{SECTION}: s3prl_compatible needs alignments (s3prl: phone_path): name the labels")
    wanted = dict.fromkeys(u.id for split in SPLITS for u in data.fold.utterances(split))
    found: dict[str, np.ndarray] = {}
    for number, line in label_lines(Path(path).expanduser()):
        id, _, text = line.partition(" ")
        if id in wanted:
            found[id] = _numbers(f"{path}:{number}", text)
    if missing := [id for id in wanted if id not in found]:
        raise ValueError(f"{path}: there are no labels of {quoted(missing)}: add them, or drop these from the lists")
    return Targets([str(number) for number in range(NUM_PHONES)], partial(_phones_of, found))


def speaker_ids(data: TaskData, table: Sequence[Row]) -> Targets:
    """The speakers of all utterances of the table, by name, without those who have one only."""
    counts = Counter(_speaker(row.id) for row in table)
    number = {name: place for place, name in enumerate(sorted(name for name in counts if counts[name] > 1))}
    used = chain.from_iterable(data.fold.utterances(split) for split in SPLITS)
    if single := sorted({name for name in (_speaker(u.id) for u in used) if name not in number}):
        raise ValueError(
            f"speaker {quoted(single)} has one utterance in {TABLE}, and then s3prl gives no class: leave it out of "
            f"the lists, or drop s3prl_compatible"
        )
    return Targets(list(number), partial(_speaker_of, number))


PHONES = Form(phone_ids, partial(PaddedFrames, phones, layers))
PHONES_CONCAT = Form(phone_ids, partial(PaddedFrames, phones, PaddedConcat))
PHONES_1HIDDEN = Form(phone_ids, partial(PaddedFrames, phones, partial(layers, hidden=(HIDDEN,))))
SPEAKERS = Form(speaker_ids, partial(UtteranceClassifier, layers))
SPEAKER_FRAMES = Form(speaker_ids, partial(PaddedFrames, speaker, layers))


def _checked(config: DataConfig) -> dict[str, str]:
    """The files and folders that are needed, by option."""
    missing = [f"{name} (s3prl: {theirs})" for name, theirs in NEEDED.items() if getattr(config, name) is None]
    if missing:
        raise ValueError(f"{SECTION}: s3prl_compatible needs {', '.join(missing)}: name the files of s3prl's task")
    given = [field.name for field in fields(config) if getattr(config, field.name) != field.default]
    refused = [name for name in given if name not in TAKEN]
    if config.corpus != "librispeech" or refused:
        other = ", ".join(refused) or f"corpus {config.corpus!r}"
        raise ValueError(f"{SECTION}: s3prl_compatible reads LibriSpeech as s3prl does and takes no {other}: drop it")
    return {name: getattr(config, name) for name in NEEDED}


def _found(
    made: dict[str, list[list[str]]], known: dict[str, Utterance], config: DataConfig
) -> dict[str, tuple[Utterance, ...]]:
    """The utterances of each set, in the order of its batches."""
    ids = {split: list(chain.from_iterable(batches)) for split, batches in made.items()}
    used = dict.fromkeys(chain.from_iterable(ids.values()))
    if missing := [id for id in used if id not in known]:
        raise ValueError(
            f"{config.bucket_file}: {TABLE} and the lists name {quoted(missing)}, but {config.root} has no such audio: "
            f"fetch it, or correct libri_root"
        )
    if other := [id for id in used if known[id].sample_rate_hz != SAMPLE_RATE_HZ]:
        raise ValueError(
            f"{config.root}: {quoted(other)} is not at {SAMPLE_RATE_HZ} Hz, and s3prl would not resample it: convert "
            f"it, or drop s3prl_compatible"
        )
    return {split: tuple(known[id] for id in part) for split, part in ids.items()}


def _sentence(table: Sequence[Row], lists: dict[str, set[str]], made: dict[str, list[list[str]]], seed: int) -> str:
    known = {row.id for row in table}
    dropped = {split: len((lists[split] & known).difference(*made[split])) for split in SPLITS}
    told = [
        f"{len(made[split])} batches of {split}" + (f" ({dropped[split]} utterances dropped)" if dropped[split] else "")
        for split in SPLITS
    ]
    unknown = len(set().union(*lists.values()) - known)
    more = f"; {unknown} utterances of the lists are not in {TABLE}" if unknown else ""
    return f"as s3prl divides and batches the lists (train_dev_seed {seed}): {', '.join(told)}{more}"


def _numbers(where: str, text: str) -> np.ndarray:
    try:
        found = np.fromiter(map(int, text.split()), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{where}: a line is 'utterance l0 l1 ...' with whole numbers ({error}): correct it"
        ) from error
    if not len(found) or found.min() < 0 or found.max() >= NUM_PHONES:
        raise ValueError(f"{where}: s3prl knows phones 0 to {NUM_PHONES - 1}, at least one a line: correct the line")
    return found.astype(np.int16)


def _phones_of(found: dict[str, np.ndarray], utterance: Utterance) -> Tensor:
    return torch.from_numpy(found[utterance.id].astype(np.int64))


def _speaker(id: str) -> str:
    return id.split("-")[0]


def _speaker_of(number: dict[str, int], utterance: Utterance) -> Tensor:
    return torch.tensor([number[_speaker(utterance.id)]])
