"""Which utterances train a probe, which choose its epoch and which score it, and an honest sentence about that."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ..recipes.corpora.corpus import SIL
from .assigned_splits import closed_fold, disjoint_fold, is_assigned, refuse_unseen
from .folds import SPLITS, Fold, by_speaker, check_fold, listed, natural, rotate, shared_speakers
from .task import NotApplicable

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance

__all__ = ["SPLITS", "Fold", "check_fold", "label_folds", "phone_folds", "speaker_folds"]

log = logging.getLogger(__name__)

NUM_SPEAKER_FOLDS = 5  # rotations of the speaker task, where a speaker has one chapter only
NUM_DISJOINT_FOLDS = 7  # rotations of the tasks that share no speaker, where a corpus has no split of its own
LABEL = "label"  # the one of ``Utterance.labels`` that tasks of that kind read
LAYOUTS = "the s3prl text layout (utterance l0 l1 ...), CTM and TextGrid"


def speaker_folds(corpus: Corpus, subsets: Sequence[str] = (), num_folds: int = NUM_SPEAKER_FOLDS) -> list[Fold]:
    """Folds for a closed set of speakers who are in train, dev and test alike.

    As the corpus assigns them, where it does: one fold. Else where speakers have two chapters or more, one fold: the
    earlier chapters train, the last ones are dev and test, by turns. Otherwise ``num_folds`` rotations inside the
    chapter: each speaker's utterances, in order, are cut into blocks of neighbours; block k is test, the next one dev,
    the others train.

    Args:
        corpus: where to look for speakers.
        subsets: whose speakers; by default the ``train*`` subsets in which every speaker has 3 utterances or more, or
            where there are none, all such subsets; all where the corpus assigns utterances itself.
        num_folds: rotations, at most as many as the shortest speaker has utterances.

    Raises:
        NotApplicable: when fewer than two speakers are left, no subset will do, or no assigned test speaker is in
            train.
        ValueError: for an unknown subset, for a named one with too few utterances of a speaker, or naming assigned
            test speakers who are not in train.
    """
    if is_assigned(corpus):
        return [closed_fold(corpus.select(*subsets) if subsets else corpus)]
    chosen = list(subsets) or _speaker_subsets(corpus)
    spoken_by = by_speaker(corpus.select(*chosen).utterances)
    if len(spoken_by) < 2:
        raise NotApplicable(
            f"speaker classification needs two speakers or more; {', '.join(chosen)} of corpus {corpus.name!r} has "
            f"{len(spoken_by)}: name other subsets"
        )
    too_few = [speaker for speaker, spoken in spoken_by.items() if len(spoken) < 3]
    if too_few:
        raise ValueError(
            f"speaker {too_few[0]!r} ({len(too_few)} in all) has fewer than 3 utterances in {', '.join(chosen)}: "
            f"train, dev and test need one each, so name subsets where every speaker has 3"
        )
    halves = {speaker: _by_chapter(spoken) for speaker, spoken in spoken_by.items()}
    crossing = {speaker: half for speaker, half in halves.items() if half is not None}
    if 2 * len(crossing) >= len(spoken_by) and len(crossing) >= 2:
        return [_cross_chapter(crossing, sorted(set(spoken_by) - set(crossing)), chosen)]
    chapters = "most with one chapter" if crossing else "one chapter each"
    return _within_chapter(spoken_by, num_folds, f"{listed(chosen)} ({chapters})")


def phone_folds(
    corpus: Corpus, subsets: Sequence[str] = (), times: bool = True, num_folds: int = NUM_DISJOINT_FOLDS
) -> list[Fold]:
    """Folds whose train, dev and test share no speaker, over the utterances that have phone alignments.

    As the corpus assigns them, where it does: one fold, whose speakers may be shared where ``corpus.shared_speakers``
    allows it. Else the corpus's own subsets where all three of ``train*``, ``dev*`` and ``test*`` are aligned: one
    fold. Otherwise the speakers rotate: one group of them is test, the next dev, the others train, so that every
    aligned utterance is tested exactly once.

    Args:
        corpus: where to look for alignments.
        subsets: use these only; by default all that are aligned.
        times: False counts utterances whose phones have no times as well, but none in which all phones are silence.
        num_folds: groups of speakers, at most as many as there are speakers.

    Raises:
        NotApplicable: without alignments, or with fewer than 3 aligned speakers to rotate.
        ValueError: for an unknown subset, or naming a speaker in two sets.
    """
    part = corpus.select(*subsets) if subsets else corpus
    aligned = [u for u in part.utterances if (u.phones is not None if times else _speaks(u, corpus.phone_set))]
    where = _where(corpus, subsets)
    if not aligned:
        raise NotApplicable(
            f"{where} has no phone alignments, which the phone tasks learn from: add them as {LAYOUTS}"
            if times
            else f"{where} has no phones, which phone recognition learns from: add alignments as {LAYOUTS}, or list "
            f"the phones in the column phones of a manifest"
        )
    if is_assigned(corpus):
        return [disjoint_fold(part, aligned, "phone alignments" if times else "phones")]
    told = _not_aligned(part, aligned, times)
    own = _own_subsets(corpus, aligned, told)
    if own is not None:
        return [own]
    speakers = sorted({u.speaker for u in aligned})
    if len(speakers) < 3:
        raise NotApplicable(
            f"the phone tasks need 3 speakers with alignments (one each for train, dev and test); {where} has "
            f"{len(speakers)}: align more speakers"
        )
    return _rotated(aligned, speakers, num_folds, "aligned speakers", told)


def label_folds(corpus: Corpus, subsets: Sequence[str] = (), num_folds: int = NUM_DISJOINT_FOLDS) -> list[Fold]:
    """Folds whose train, dev and test share no speaker, over the utterances that have ``labels["label"]``.

    Chosen like those of ``phone_folds``. Speakers rotate so that neighbouring groups differ in class as far as that can
    be, for a class that few speakers have would else be missing from train. Every class of dev and test is in train;
    there are fewer folds where only that makes it so.

    Args:
        corpus: where to look for labels.
        subsets: use these only; by default all that are labelled.
        num_folds: groups of speakers at most, and at most as many as there are speakers.

    Raises:
        NotApplicable: without labels, with one class only, with fewer than 3 labelled speakers to rotate, or when a
            class has too few of them.
        ValueError: for an unknown subset, or naming a speaker in two sets, or a class that train lacks.
    """
    part = corpus.select(*subsets) if subsets else corpus
    labelled = [u for u in part.utterances if u.labels.get(LABEL)]
    where, classes = _where(corpus, subsets), {_label(u) for u in labelled}
    if len(classes) < 2:
        has = f"all are {classes.pop()!r}" if classes else "there are none"
        columns = ", ".join(sorted({name for u in part.utterances for name in u.labels} - {LABEL}))
        cure = f"one of its columns {columns}" if columns else "of a manifest, a CSV with a row for each recording"
        raise NotApplicable(
            f"label classification needs labels of two classes or more; in {where} {has}: name a column with "
            f"data.label=COLUMN, {cure}"
        )
    if is_assigned(corpus):
        return [disjoint_fold(part, labelled, "a label", _label)]
    left_out = len(part.utterances) - len(labelled)
    told = f"; {left_out} utterances without a label are left out" if left_out else ""
    own = _own_subsets(corpus, labelled, told)
    if own is not None:
        refuse_unseen(own, _label)
        return [own]
    speakers = _mixed(labelled)
    if len(speakers) < 3:
        raise NotApplicable(
            f"label classification needs 3 speakers with labels (one each for train, dev and test); {where} has "
            f"{len(speakers)}: record more speakers, or assign utterances to train, dev and test"
        )
    problem: ValueError | None = None
    for fewer in range(min(num_folds, len(speakers)), 2, -1):  # as many groups as classes may be one of each
        folds = _rotated(labelled, speakers, fewer, "labelled speakers", told)
        try:
            for fold in folds:
                refuse_unseen(fold, _label)
        except ValueError as error:
            problem = problem or error
        else:
            return folds
    raise NotApplicable(f"{where}, speakers held out in turn: {problem}")


def _not_aligned(part: Corpus, aligned: Sequence[Utterance], times: bool) -> str:
    """What to say of utterances that are left out of subsets of which others are used."""
    used, ids = {u.subset for u in aligned}, {u.id for u in aligned}
    rest = [u for u in part.utterances if u.subset in used and u.id not in ids]
    silent = 0 if times else sum(bool(u.phones is not None or u.phone_names) for u in rest)
    counts = {"of silence only": silent, "without phone alignments" if times else "without phones": len(rest) - silent}
    told = [f"{count} utterances {what}" for what, count in counts.items() if count]
    return f"; {' and '.join(told)} are left out" if told else ""


def _speaks(utterance: Utterance, phone_set: Sequence[str]) -> bool:
    """Whether it has a phone that is not silence."""
    if utterance.phones is None:
        return any(name != SIL for name in utterance.phone_names)
    return any(phone_set[phone] != SIL for phone in set(utterance.phones.phone.tolist()))


def _label(utterance: Utterance) -> str:
    return utterance.labels[LABEL]


def _where(corpus: Corpus, subsets: Sequence[str]) -> str:
    return f"{', '.join(subsets)} of corpus {corpus.name!r}" if subsets else f"corpus {corpus.name!r}"


def _own_subsets(corpus: Corpus, usable: Sequence[Utterance], told: str = "") -> Fold | None:
    """The fold of the subsets called train*, dev* and test*, or None where one of the three has nothing usable."""
    own = {split: tuple(u for u in usable if u.subset.startswith(split)) for split in SPLITS}
    if not all(own.values()):
        return None
    names = ", ".join(f"{split} {listed({u.subset for u in own[split]})}" for split in SPLITS)
    shared = shared_speakers(Fold(**own, split="")) if corpus.shared_speakers else ""
    text = f"{shared or 'speaker-disjoint'}, the corpus's own subsets: {names}{told}"
    return check_fold(Fold(**own, split=text), speakers=not corpus.shared_speakers)


def _rotated(
    usable: Sequence[Utterance], speakers: Sequence[str], num_folds: int, whom: str, told: str = ""
) -> list[Fold]:
    """Groups of speakers, dealt out in the order of ``speakers``, take turns."""
    num_folds = min(num_folds, len(speakers))
    text = (
        f"speaker-disjoint, {num_folds} folds over the {len(speakers)} {whom} of {listed({u.subset for u in usable})}: "
        f"each fold holds out one group for test and the next for dev; every utterance is tested once{told}"
    )
    group = {speaker: index % num_folds for index, speaker in enumerate(speakers)}
    blocks = [group[u.speaker] for u in usable]
    return [check_fold(rotate(usable, blocks, fold, num_folds, text), speakers=True) for fold in range(num_folds)]


def _mixed(labelled: Sequence[Utterance]) -> list[str]:
    """All speakers, those of different classes by turns; a speaker's class is the one that most utterances have."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for speaker, spoken in by_speaker(labelled).items():
        counts = Counter(map(_label, spoken))
        by_class[min(counts, key=lambda name: (-counts[name], name))].append(speaker)
    turns = [(turn, name, speaker) for name, speakers in by_class.items() for turn, speaker in enumerate(speakers)]
    return [speaker for _, _, speaker in sorted(turns)]


def _speaker_subsets(corpus: Corpus) -> list[str]:
    """The subsets that a speaker task takes by itself."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in corpus.utterances:
        counts[utterance.subset][utterance.speaker] += 1
    fewest = {subset: min((count, speaker) for speaker, count in counts[subset].items()) for subset in sorted(counts)}
    eligible = [subset for subset, (count, _) in fewest.items() if count >= 3]
    if not eligible:
        found = [f"{subset} (speaker {speaker!r} has {count})" for subset, (count, speaker) in fewest.items()]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise NotApplicable(
            f"no subset of corpus {corpus.name!r} has 3 utterances of every speaker, which speaker classification "
            f"needs for train, dev and test: it has {', '.join(found[:3]) or 'no utterances'}{more}"
        )
    return [subset for subset in eligible if subset.startswith("train")] or eligible


def _by_chapter(spoken: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]] | None:
    """A speaker's utterances in (train, held-out) chapters, or None where no whole chapters can be held out.

    As few of the last chapters are held out as hold two utterances: one for dev, one for test.
    """
    chapters: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(spoken, key=lambda u: (natural(u.chapter), u.id)):
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
        f"cross-chapter, closed set of {len(halves)} speakers of {listed(subsets)}: the chapters of dev and test are "
        f"not in train"
    )
    if left_out:
        text += f"; {len(left_out)} speakers with one chapter only are left out"
        log.warning("speaker task: %d speakers have one chapter only and are left out: %s", len(left_out), left_out)
    return check_fold(Fold(tuple(train), tuple(dev), tuple(test), text), speakers=False)


def _within_chapter(spoken_by: dict[str, list[Utterance]], num_folds: int, where: str) -> list[Fold]:
    num_folds = min(num_folds, min(map(len, spoken_by.values())))
    utterances = [utterance for spoken in spoken_by.values() for utterance in spoken]
    blocks = [index * num_folds // len(spoken) for spoken in spoken_by.values() for index in range(len(spoken))]
    text = (
        f"closed set of {len(spoken_by)} speakers of {where}: train and test share the recording session; "
        f"{num_folds} folds over blocks of neighbouring utterances, each tested once"
    )
    return [check_fold(rotate(utterances, blocks, fold, num_folds, text), speakers=False) for fold in range(num_folds)]
