"""The fold of a corpus that assigns its utterances to train, dev and test itself: a manifest, or lists of ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from .folds import Fold, by_speaker, check_fold, quoted, shared_speakers, unseen
from .task import NotApplicable

if TYPE_CHECKING:
    from ..recipes.corpora import Corpus, Utterance

DEV_SHARE = 10  # one in so many of train is dev, where none is assigned
Target = Callable[["Utterance"], str]


def is_assigned(corpus: Corpus) -> bool:
    """Whether the corpus says itself which utterances are for training, choosing and testing."""
    return bool(corpus.assigned_by) or any(utterance.split for utterance in corpus.utterances)


def disjoint_fold(corpus: Corpus, usable: Sequence[Utterance], what: str, target: Target | None = None) -> Fold:
    """The assigned fold of a task whose sets must share no speaker, unless the corpus allows it.

    Where no dev is assigned, a tenth of the speakers of train is dev; where that cannot be (too few speakers, a class
    that only they speak, speakers that are shared anyway), a tenth of its utterances.

    Args:
        corpus: of which all utterances may be used.
        usable: those of them that have what the task needs.
        what: what that is, for messages: ``phone alignments``.
        target: the class of an utterance, where all of dev and test must be in train.

    Raises:
        NotApplicable: when nothing of train or test is usable, or train has one class.
        ValueError: naming a speaker in two sets, or a class that is not in train.
    """
    fold = _assigned(corpus, usable, what)
    if not corpus.shared_speakers:
        cure = "assign every speaker to one set, or allow it with data.shared_speakers=true"
        check_fold(fold, speakers=True, cure=cure, needs=("train", "test"))
    if target is not None:
        refuse_unseen(fold, target)
        if len({target(u) for u in fold.train}) < 2:
            raise NotApplicable(f"train of corpus {corpus.name!r} has one class only, {_source(corpus)}: assign others")
    fold, dev = _with_dev(fold, target, whole_speakers=not shared_speakers(fold))
    sentence = f"{_source(corpus)}: {shared_speakers(fold) or 'speaker-disjoint'}"
    return check_fold(replace(fold, split=sentence + dev + _left_out(corpus, usable, what)), speakers=False)


def closed_fold(corpus: Corpus) -> Fold:
    """The assigned fold of a task that knows the speakers of train only; where no dev is assigned, a tenth of train.

    Raises:
        NotApplicable: when nothing is assigned to train or test, or the speakers of test are others altogether.
        ValueError: naming the speakers of test or dev who are not in train, when others are.
    """
    fold = _assigned(corpus, corpus.utterances, "audio")
    speakers = {u.speaker for u in fold.train}
    if len(speakers) < 2:
        raise NotApplicable(
            f"speaker classification needs two speakers or more in train; {_source(corpus)}, train of corpus "
            f"{corpus.name!r} has {len(speakers)}: assign others to it"
        )
    if speakers.isdisjoint(u.speaker for u in fold.test):
        raise NotApplicable(
            f"speaker classification needs test speakers who are in train, but none of corpus {corpus.name!r} is, "
            f"{_source(corpus)}: it suits the speaker-disjoint tasks only"
        )
    for split in ("test", "dev"):
        if unknown := unseen(fold, split, lambda u: u.speaker):
            raise ValueError(
                f"speaker {quoted(unknown)} of {split} is not in train ({_source(corpus)}), but the set of speakers is "
                f"closed: assign utterances of every speaker to train"
            )
    fold, dev = _with_dev(fold, lambda u: u.speaker, whole_speakers=False)
    sentence = f"{_source(corpus)}: closed set of {len(speakers)} speakers; {_chapters(fold)}"
    text = sentence + dev + _left_out(corpus, corpus.utterances, "audio")
    return check_fold(replace(fold, split=text), speakers=False)


def refuse_unseen(fold: Fold, target: Target) -> None:
    """Raises ``ValueError`` naming the classes of test or dev that are not in train."""
    for split in ("test", "dev"):
        if unknown := unseen(fold, split, target):
            raise ValueError(
                f"class {quoted(unknown)} of {split} is not in train, so that no probe can know it: give train "
                f"utterances of every class, or leave their labels empty"
            )


def _assigned(corpus: Corpus, usable: Sequence[Utterance], what: str) -> Fold:
    train, dev, test = (tuple(u for u in usable if u.split == split) for split in ("train", "dev", "test"))
    empty = [name for name, part in (("train", train), ("test", test)) if not part]
    if empty:
        raise NotApplicable(
            f"{' and '.join(empty)} of corpus {corpus.name!r} has no utterance with {what}, {_source(corpus)}: assign "
            f"some"
        )
    return Fold(train, dev, test, "")


def _with_dev(fold: Fold, target: Target | None, *, whole_speakers: bool) -> tuple[Fold, str]:
    """The fold with a dev set, and what to say of it: nothing, where one is assigned."""
    if fold.dev:
        return fold, ""
    if whole_speakers and (speakers := _dev_speakers(fold.train, target)):
        dev = tuple(u for u in fold.train if u.speaker in speakers)
        told = f"; no dev is assigned: {len(speakers)} speakers of train are dev"
    else:
        dev = _dev_utterances(fold.train, target)
        told = f"; no dev is assigned: {len(dev)} utterances of train are dev, spread over its speakers"
    taken = {u.id for u in dev}
    return Fold(tuple(u for u in fold.train if u.id not in taken), dev, fold.test, ""), told


def _dev_speakers(train: Sequence[Utterance], target: Target | None) -> set[str]:
    """A tenth of at least three speakers, spread evenly, without whom train still has every class; empty if none."""
    groups = by_speaker(train)
    classes = {speaker: {target(u) if target else "" for u in spoken} for speaker, spoken in groups.items()}
    speakers_of = Counter(chain.from_iterable(classes.values()))
    wanted = max(1, round(len(groups) / DEV_SHARE))
    chosen: set[str] = set()
    for speaker in _spread_first(list(groups), wanted) if len(groups) >= 3 else []:
        if len(chosen) < wanted and all(speakers_of[name] > 1 for name in classes[speaker]):
            chosen.add(speaker)
            speakers_of.subtract(classes[speaker])
    return chosen


def _dev_utterances(train: Sequence[Utterance], target: Target | None) -> tuple[Utterance, ...]:
    """A tenth of train, spread evenly, but of no class the first utterance."""
    spare, seen = [], set()
    for utterance in chain.from_iterable(by_speaker(train).values()):
        name = target(utterance) if target else ""
        if name in seen:
            spare.append(utterance)
        seen.add(name)
    if not spare:
        raise NotApplicable(
            "no dev is assigned, and train is too small to give any of it: assign utterances to dev, or more to train"
        )
    wanted = max(1, len(train) // DEV_SHARE)
    return tuple(_spread_first(spare, wanted)[:wanted])


def _spread_first(items: list, count: int) -> list:
    """The items with ``count`` that lie evenly among them first."""
    count = min(count, len(items))
    chosen = [(2 * turn + 1) * len(items) // (2 * count) for turn in range(count)]
    others = set(range(len(items))) - set(chosen)
    return [items[index] for index in [*chosen, *sorted(others)]]


def _source(corpus: Corpus) -> str:
    return f"assigned by {corpus.assigned_by or 'the corpus'}"


def _chapters(fold: Fold) -> str:
    """Whether test has recording sessions of train, as far as the corpus knows them."""
    tested = {(u.speaker, u.chapter) for u in fold.test}
    if not all(chapter for _, chapter in tested):
        return "chapters are not known, so train and test may share recording sessions"
    shared = tested & {(u.speaker, u.chapter) for u in fold.train}
    if not shared:
        return "the chapters of test are not in train"
    return f"{len(shared)} of the {len(tested)} chapters of test are in train too"


def _left_out(corpus: Corpus, usable: Sequence[Utterance], what: str) -> str:
    """How many utterances no set has, and why."""
    assigned = sum(bool(u.split) for u in corpus.utterances)
    unfit = assigned - sum(bool(u.split) for u in usable)
    rest = len(corpus.utterances) - assigned
    told = f"; {unfit} utterances without {what} are left out" if unfit else ""
    return told + (f"; {rest} utterances are assigned to none" if rest else "")
