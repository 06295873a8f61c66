"""A fold: which utterances train a probe, which choose its epoch and which score it; and the check that none leaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..recipes.corpora.corpus import SPLITS, TOLD

if TYPE_CHECKING:
    from ..recipes.corpora import Utterance


@dataclass(frozen=True)
class Fold:
    """Three disjoint sets of utterances; ``split`` says in one sentence how they were chosen."""

    train: tuple[Utterance, ...]
    dev: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    split: str

    def utterances(self, split: str) -> tuple[Utterance, ...]:
        """Those of ``train``, ``dev`` or ``test``; ``ValueError`` for another name."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: known: {', '.join(SPLITS)}")
        return getattr(self, split)


def check_fold(
    fold: Fold, *, speakers: bool, cure: str = "give it to one of them", needs: Sequence[str] = SPLITS
) -> Fold:
    """``fold`` itself.

    Args:
        fold: to check.
        speakers: whether its sets must share no speaker either.
        cure: of a leak, for the message.
        needs: the sets that must not be empty.

    Raises:
        ValueError: naming what leaks, when two of its sets share an utterance, most of a stretch of one recording, or
            (``speakers``) a speaker, or when one of them is empty.
    """
    for what in ("id", "speaker") if speakers else ("id",):
        seen: dict[str, str] = {}
        leaks: dict[str, str] = {}
        for split in SPLITS:
            for value in sorted({getattr(utterance, what) for utterance in fold.utterances(split)}):
                if value in seen:
                    leaks.setdefault(value, f"{seen[value]} and in {split}")
                seen.setdefault(value, split)
        if leaks:
            value, where = next(iter(leaks.items()))
            more = f" ({len(leaks)} in all)" if len(leaks) > 1 else ""
            raise ValueError(
                f"{'utterance' if what == 'id' else what} {value!r}{more} is in {where}: the sets of a fold must share "
                f"none, so {cure}"
            )
    _refuse_shared_audio(fold)
    empty = [split for split in needs if not fold.utterances(split)]
    if empty:
        raise ValueError(
            f"a fold needs utterances in train, dev and test, but {' and '.join(empty)} has none: have folds() raise "
            f"NotApplicable where a corpus has too few"
        )
    return fold


def _refuse_shared_audio(fold: Fold) -> None:
    """Raises ``ValueError`` when more than half of an utterance is in another set as well, under another id."""
    by_path: dict[Path, list[tuple[int, int, str, str]]] = defaultdict(list)
    for split in SPLITS:
        for u in fold.utterances(split):
            by_path[u.path].append((u.start_sample, u.start_sample + u.num_samples, split, u.id))
    for path, parts in by_path.items():
        earlier: list[tuple[int, int, str, str]] = []
        for start, end, split, id in sorted(parts, key=lambda part: part[0]):
            earlier = [part for part in earlier if part[1] > start]
            for other_start, other_end, other_split, other_id in earlier:
                both = min(end, other_end) - start
                if split != other_split and 2 * both > min(end - start, other_end - other_start):
                    raise ValueError(
                        f"{path}: {other_id!r} in {other_split} and {id!r} in {split} are the same audio, or most of "
                        f"one of them is: the sets of a fold must share none, so drop one of the two"
                    )
            earlier.append((start, end, split, id))


def unseen(fold: Fold, split: str, target: Callable[[Utterance], str]) -> list[str]:
    """What ``target`` says of utterances of a set but of none of train, sorted."""
    return sorted({target(u) for u in fold.utterances(split)} - {target(u) for u in fold.train})


def shared_speakers(fold: Fold) -> str:
    """How many speakers are in two of its sets, in words; empty when none is."""
    train, dev, test = ({u.speaker for u in fold.utterances(split)} for split in SPLITS)
    if shared := test & (train | dev):
        return f"{len(shared)} of the {len(test)} speakers of test are in train or dev too"
    if not dev & train:
        return ""
    return f"test shares no speaker, but {len(dev & train)} of the {len(dev)} speakers of dev are in train too"


def rotate(utterances: Sequence[Utterance], block: Sequence[int], fold: int, num_folds: int, text: str) -> Fold:
    """Block ``fold`` is test, the next one dev, the others train."""
    sets: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for utterance, number in zip(utterances, block, strict=True):
        turn = (number - fold) % num_folds
        sets["test" if turn == 0 else "dev" if turn == 1 else "train"].append(utterance)
    return Fold(tuple(sets["train"]), tuple(sets["dev"]), tuple(sets["test"]), text)


def by_speaker(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    """Utterances by speaker, both in sorted order."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda u: (u.speaker, natural(u.chapter), u.id)):
        groups[utterance.speaker].append(utterance)
    return dict(groups)


def natural(name: str) -> tuple[int, str]:
    """Sort key that puts chapter 9 before chapter 10."""
    return (len(name), name)


def listed(names: Iterable[str]) -> str:
    """``a + b``, sorted."""
    return " + ".join(sorted(names))


def quoted(names: Sequence[str]) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(map(repr, names[:TOLD])) + more
