"""What the tasks ask for: the classes, and those of an utterance as a tensor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..recipes.corpora.corpus import SIL
from .splits import LABEL

if TYPE_CHECKING:
    from ..recipes.corpora import Utterance
    from .dataset import TaskData

BLANK_NAME = "<blank>"


class Targets(NamedTuple):
    """``classes`` by name, and ``label``: the class, or classes, of an utterance, int64 (items,)."""

    classes: list[str]
    label: Callable[[Utterance], Tensor]


def phone_frames(data: TaskData) -> Targets:
    """The phone of each 10 ms frame, silence included: (n,)."""
    return Targets(list(data.corpus.phone_set), _phone_frames)


def transcript(data: TaskData) -> Targets:
    """The phones that are spoken, one after the other, without silence: (L,); class 0 is CTC's blank.

    Two equal phones in a row are two; alignments of one label a frame (s3prl's) cannot tell them from one long phone.
    """
    classes = [BLANK_NAME, *(phone for phone in data.corpus.phone_set if phone != SIL)]
    number = {name: index for index, name in enumerate(classes)} | {SIL: 0}
    by_phone = torch.tensor([number[name] for name in data.corpus.phone_set])
    return Targets(classes, partial(_transcript, number, by_phone))


def speaker(data: TaskData) -> Targets:
    """Who speaks: (1,). The classes are the speakers of train."""
    return _closed(data, "speaker", _speaker, per_frame=False)


def speaker_frames(data: TaskData) -> Targets:
    """Who speaks, at each 10 ms frame: (n,). The classes are the speakers of train."""
    return _closed(data, "speaker", _speaker, per_frame=True)


def utterance_label(data: TaskData) -> Targets:
    """The utterance's ``labels["label"]``: (1,). The classes are those of train."""
    return _closed(data, LABEL, _utterance_label, per_frame=False)


def _closed(data: TaskData, kind: str, name_of: Callable[[Utterance], str], per_frame: bool) -> Targets:
    classes = sorted({name_of(utterance) for utterance in data.fold.train})
    number = {name: index for index, name in enumerate(classes)}
    return Targets(classes, partial(_one_of, kind, name_of, number, per_frame))


def _one_of(
    kind: str, name_of: Callable[[Utterance], str], number: dict[str, int], per_frame: bool, utterance: Utterance
) -> Tensor:
    name = name_of(utterance)
    if name not in number:
        raise ValueError(f"{kind} {name!r} of {utterance.id} is not in train: the set of {kind}s is closed")
    return torch.full((utterance.num_frames if per_frame else 1,), number[name])


def _speaker(utterance: Utterance) -> str:
    return utterance.speaker


def _utterance_label(utterance: Utterance) -> str:
    assert utterance.labels.get(LABEL), f"{utterance.id} has no label and is in a fold"
    return utterance.labels[LABEL]


def _phone_frames(utterance: Utterance) -> Tensor:
    assert utterance.phones is not None, f"{utterance.id} has no alignment and is in a fold"
    return torch.from_numpy(utterance.phones.frame_labels(utterance.num_frames))


def _transcript(number: dict[str, int], by_phone: Tensor, utterance: Utterance) -> Tensor:
    if utterance.phones is not None:
        spoken = by_phone[torch.from_numpy(utterance.phones.phone.astype("int64"))]
    else:
        assert utterance.phone_names, f"{utterance.id} has no phones and is in a fold"
        spoken = torch.tensor([number[name] for name in utterance.phone_names])
    spoken = spoken[spoken != 0]
    assert len(spoken), f"{utterance.id} is silence only and is in a fold"
    return spoken
