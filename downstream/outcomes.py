"""What a task records of each utterance, and how the records of a split become a score and a line in the log."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How many of an utterance's scored items (frames, phones, or the utterance itself) were right.

    For an error rate ``total`` counts the phones of the transcript, ``correct`` those among them that were found, and
    ``total - correct`` is the number of substitutions and deletions; ``insertions`` come on top.
    """

    utterance: str
    speaker: str
    correct: int
    total: int
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0


class Count(NamedTuple):
    """What a head finds out about an utterance: the numbers of its ``Outcome``."""

    correct: int
    total: int
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0


def count_right(right: Tensor, totals: Sequence[int]) -> list[Count]:
    """The count of each utterance of a batch.

    Args:
        right: bool (sum of ``totals``,): whether each item is right, one utterance after the other.
        totals: B numbers of items.
    """
    parts = right.cpu().split(list(totals))
    return [Count(int(part.sum()), total) for part, total in zip(parts, totals, strict=True)]


def accuracy(outcomes: Sequence[Outcome]) -> float:
    """Right items among all items, from 0 to 1. ``ValueError`` without items."""
    return sum(outcome.correct for outcome in outcomes) / _num_items(outcomes)


def error_rate(outcomes: Sequence[Outcome]) -> float:
    """Substitutions, insertions and deletions per item; may exceed 1. ``ValueError`` without items."""
    errors = sum(outcome.total - outcome.correct + outcome.insertions for outcome in outcomes)
    return errors / _num_items(outcomes)


def score(outcomes: Sequence[Outcome], higher_is_better: bool) -> float:
    """The ``accuracy``, or where lower is better the ``error_rate``."""
    return accuracy(outcomes) if higher_is_better else error_rate(outcomes)


def _num_items(outcomes: Sequence[Outcome]) -> int:
    total = sum(outcome.total for outcome in outcomes)
    if total == 0:
        raise ValueError("there is no scored item: log or score a split after at least one batch of it")
    return total


def worst(higher_is_better: bool) -> float:
    """A score that any other beats."""
    return -math.inf if higher_is_better else math.inf


def log_score(
    task: str,
    split: str,
    records: dict[str, list[Any]],
    logger: Any,
    global_step: int,
    expdir: str | Path | None,
    best_dev: Tensor,
    higher_is_better: bool = True,
    notes: Sequence[str] = (),
) -> list[str]:
    """s3prl's ``log_records``: a scalar for TensorBoard and a line in ``expdir/log.log``.

    Args:
        task: the name under which TensorBoard shows it, with ``-acc`` (accuracy) or ``-err`` (error rate).
        split: ``train``, ``dev`` or ``test``.
        records: ``outcomes``, what ``forward`` has filled since the last call.
        logger: with TensorBoard's ``add_scalar``, or None.
        global_step: the runner's step.
        expdir: the experiment's folder, or None to write no file.
        best_dev: a scalar tensor, the best dev score so far, at first ``worst``; updated in place.
        higher_is_better: the score is the accuracy, or else the error rate.
        notes: sentences that go into the file below the line.

    Returns:
        The checkpoints that the runner shall save: one when dev improved. Test never chooses a checkpoint.
    """
    found = score(records["outcomes"], higher_is_better)
    short = "acc" if higher_is_better else "err"
    if logger is not None:
        logger.add_scalar(f"{task}/{split}-{short}", found, global_step=global_step)
    best = float(best_dev)
    improved = split == "dev" and (found > best if higher_is_better else found < best)
    line = f"{'best|' if improved else ''}{task}/{split}|step:{global_step}|{short}:{found}"
    log.info(line)
    if expdir is not None:
        with (Path(expdir) / "log.log").open("a", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in [line, *notes])
    if improved:
        best_dev.fill_(found)
    return ["best-states-dev.ckpt"] if improved else []
