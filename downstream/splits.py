"""Which utterances train a probe, which choose its epoch and which score it, and an honest sentence about that."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
NUM_SPEAKER_FOLDS = 5  # rotations of the speaker task, where a speaker has one chapter only
NUM_PHONE_FOLDS = 7  # rotations of the phone tasks, where a corpus has no split of its own
LAYOUTS = "the s3prl text layout (utterance l0 l1 ...), CTM and TextGrid"


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


def check_fold(fold: Fold, *, speakers: bool) -> Fold:
    """``fold`` itself.

    Raises:
        ValueError: naming what leaks, when two of its sets share an utterance or (``speakers``) a speaker, or when one
            of them is empty.
    """
    for what in ("id", "speaker") if speakers else ("id",):
        seen: dict[str, str] = {}
        for split in SPLITS:
            for value in sorted({getattr(utterance, what) for utterance in fold.utterances(split)}):
                if value in seen:
                    raise ValueError(
                        f"{'utterance' if what == 'id' else what} {value!r} is in {seen[value]} and in {split}: the "
                        f"sets of a fold must share none, so give it to one of them"
                    )
                seen[value] = split
    empty = [split for split in SPLITS if not fold.utterances(split)]
    if empty:
        raise ValueError(f"a fold needs utterances in train, dev and test, but {' and '.join(empty)} has none")
    return fold


def speaker_folds(corpus: Corpus, subsets: Sequence[str] = (), num_folds: int = NUM_SPEAKER_FOLDS) -> list[Fold]:
    """Folds for a closed set of speakers who are in train, dev and test alike.

    Where speakers have two chapters or more, one fold: the earlier chapters train, the last ones are dev and test, by
    turns. Otherwise ``num_folds`` rotations inside the chapter: each speaker's utterances, in order, are cut into
    blocks of neighbours; block k is test, the next one dev, the others train.

    Args:
        corpus: where to look for speakers.
        subsets: whose speakers; by default the ``train*`` subsets in which every speaker has 3 utterances or more, or
            where there are none, all such subsets.
        num_folds: rotations, at most as many as the shortest speaker has utterances.

    Raises:
        ValueError: for an unknown subset, or when fewer than two speakers are left.
    """
    chosen = list(subsets) or _speaker_subsets(corpus)
    by_speaker = _group(corpus.select(*chosen).utterances)
    if len(by_speaker) < 2:
        raise ValueError(
            f"speaker classification needs two speakers or more; {', '.join(chosen)} of corpus {corpus.name!r} has "
            f"{len(by_speaker)}: name other subsets"
        )
    too_few = [speaker for speaker, spoken in by_speaker.items() if len(spoken) < 3]
    if too_few:
        raise ValueError(
            f"speaker {too_few[0]!r} ({len(too_few)} in all) has fewer than 3 utterances in {', '.join(chosen)}: "
            f"train, dev and test need one each, so name subsets where every speaker has 3"
        )
    halves = {speaker: _by_chapter(spoken) for speaker, spoken in by_speaker.items()}
    crossing = {speaker: half for speaker, half in halves.items() if half is not None}
    if 2 * len(crossing) >= len(by_speaker) and len(crossing) >= 2:
        return [_cross_chapter(crossing, sorted(set(by_speaker) - set(crossing)), chosen)]
    chapters = "most with one chapter" if crossing else "one chapter each"
    return _within_chapter(by_speaker, num_folds, f"{_listed(chosen)} ({chapters})")


def phone_folds(corpus: Corpus, subsets: Sequence[str] = (), num_folds: int = NUM_PHONE_FOLDS) -> list[Fold]:
    """Folds whose train, dev and test share no speaker, over the utterances that have phone alignments.

    The corpus's own subsets where all three of ``train*``, ``dev*`` and ``test*`` are aligned: one fold. Otherwise the
    speakers rotate: one group of them is test, the next dev, the others train, so that every aligned utterance is
    tested exactly once.

    Args:
        corpus: where to look for alignments.
        subsets: use these only; by default all that are aligned.
        num_folds: groups of speakers, at most as many as there are speakers.

    Raises:
        ValueError: for an unknown subset, without alignments, with fewer than 3 aligned speakers, or when two subsets
            share a speaker.
    """
    utterances = corpus.select(*subsets).utterances if subsets else corpus.utterances
    aligned = [utterance for utterance in utterances if utterance.phones is not None]
    where = f"{', '.join(subsets)} of corpus {corpus.name!r}" if subsets else f"corpus {corpus.name!r}"
    if not aligned:
        raise ValueError(f"{where} has no phone alignments, which the phone tasks learn from: add them as {LAYOUTS}")
    own = {split: tuple(u for u in aligned if u.subset.startswith(split)) for split in SPLITS}
    if all(own.values()):
        names = {split: _listed({u.subset for u in own[split]}) for split in SPLITS}
        text = f"speaker-disjoint, the corpus's own subsets: {', '.join(f'{k} {names[k]}' for k in SPLITS)}"
        return [check_fold(Fold(**own, split=text), speakers=True)]
    speakers = sorted(_group(aligned))
    if len(speakers) < 3:
        raise ValueError(
            f"the phone tasks need 3 speakers with alignments (one each for train, dev and test); {where} has "
            f"{len(speakers)}: align more speakers"
        )
    num_folds = min(num_folds, len(speakers))
    text = (
        f"speaker-disjoint, {num_folds} folds over the {len(speakers)} aligned speakers of "
        f"{_listed({u.subset for u in aligned})}: each fold holds out one group for test and the next for dev; every "
        f"utterance is tested once"
    )
    group = {speaker: index % num_folds for index, speaker in enumerate(speakers)}
    return [
        check_fold(_rotate(aligned, [group[u.speaker] for u in aligned], fold, num_folds, text), speakers=True)
        for fold in range(num_folds)
    ]


def _rotate(utterances: Sequence[Utterance], block: Sequence[int], fold: int, num_folds: int, text: str) -> Fold:
    """Block ``fold`` is test, the next one dev, the others train."""
    sets: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for utterance, number in zip(utterances, block, strict=True):
        turn = (number - fold) % num_folds
        sets["test" if turn == 0 else "dev" if turn == 1 else "train"].append(utterance)
    return Fold(tuple(sets["train"]), tuple(sets["dev"]), tuple(sets["test"]), text)


def _speaker_subsets(corpus: Corpus) -> list[str]:
    """The subsets that a speaker task takes by itself."""
    eligible = [
        subset for subset in corpus.subsets() if min(map(len, _group(corpus.select(subset).utterances).values())) >= 3
    ]
    if not eligible:
        raise ValueError(
            f"no subset of corpus {corpus.name!r} has 3 utterances of every speaker, which speaker classification "
            f"needs for train, dev and test: it has {', '.join(corpus.subsets()) or 'no utterances'}"
        )
    return [subset for subset in eligible if subset.startswith("train")] or eligible


def _by_chapter(spoken: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]] | None:
    """A speaker's utterances in (train, held-out) chapters, or None where no whole chapters can be held out.

    As few of the last chapters are held out as hold two utterances: one for dev, one for test.
    """
    chapters: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(spoken, key=lambda u: (_natural(u.chapter), u.id)):
        chapters[utterance.chapter].append(utterance)
    kept = list(chapters.values())
    held_out: list[Utterance] = []
    while len(kept) > 1 and len(held_out) < 2:
        held_out = kept.pop() + held_out
    return (list(chain.from_iterable(kept)), held_out) if len(held_out) >= 2 else None


def _cross_chapter(
    halves: dict[str, tuple[list[Utterance], list[Utterance]]], left_out: list[str], subsets: Sequence[str]
) -> Fold:
    train = [utterance for kept, _ in halves.values() for utterance in kept]
    test = [utterance for _, held_out in halves.values() for utterance in held_out[::2]]
    dev = [utterance for _, held_out in halves.values() for utterance in held_out[1::2]]
    text = (
        f"cross-chapter, closed set of {len(halves)} speakers of {_listed(subsets)}: the chapters of dev and test are "
        f"not in train"
    )
    if left_out:
        text += f"; {len(left_out)} speakers with one chapter only are left out"
        log.warning("speaker task: %d speakers have one chapter only and are left out: %s", len(left_out), left_out)
    return check_fold(Fold(tuple(train), tuple(dev), tuple(test), text), speakers=False)


def _within_chapter(by_speaker: dict[str, list[Utterance]], num_folds: int, where: str) -> list[Fold]:
    num_folds = min(num_folds, min(map(len, by_speaker.values())))
    utterances = [utterance for spoken in by_speaker.values() for utterance in spoken]
    blocks = [index * num_folds // len(spoken) for spoken in by_speaker.values() for index in range(len(spoken))]
    text = (
        f"closed set of {len(by_speaker)} speakers of {where}: train and test share the recording session; "
        f"{num_folds} folds over blocks of neighbouring utterances, each tested once"
    )
    return [check_fold(_rotate(utterances, blocks, fold, num_folds, text), speakers=False) for fold in range(num_folds)]


def _group(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    """Utterances by speaker, both in sorted order."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda u: (u.speaker, _natural(u.chapter), u.id)):
        groups[utterance.speaker].append(utterance)
    return dict(groups)


def _natural(name: str) -> tuple[int, str]:
    """Sort key that puts chapter 9 before chapter 10."""
    return (len(name), name)


def _listed(names: Iterable[str]) -> str:
    return " + ".join(sorted(names))
