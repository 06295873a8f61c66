"""What a task records of each utterance, and how the records of a split become a score and a line in the log."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How many of an utterance's scored items (frames, or the utterance itself) were right."""

    utterance: str
    speaker: str
    correct: int
    total: int


def record(
    records: dict[str, list[Any]], utterances: Sequence[tuple[str, str]], right: Tensor, totals: list[int]
) -> None:
    """Append an ``Outcome`` for each utterance of a batch to ``records["outcomes"]``.

    Args:
        records: s3prl's: a dictionary of lists.
        utterances: (id, speaker) of the B utterances.
        right: bool (sum of ``totals``,): whether each item is right, one utterance after the other.
        totals: B numbers of items.
    """
    correct = [int(part.sum()) for part in right.cpu().split(totals)]
    rows = zip(utterances, correct, totals, strict=True)
    records.setdefault("outcomes", []).extend(Outcome(id, who, good, total) for (id, who), good, total in rows)


def accuracy(outcomes: Sequence[Outcome]) -> float:
    """Right items among all items, from 0 to 1. ``ValueError`` without items."""
    total = sum(outcome.total for outcome in outcomes)
    if total == 0:
        raise ValueError("there is no scored item: log or score a split after at least one batch of it")
    return sum(outcome.correct for outcome in outcomes) / total


def log_accuracy(
    task: str,
    split: str,
    records: dict[str, list[Any]],
    logger: Any,
    global_step: int,
    expdir: str | Path | None,
    best_dev: Tensor,
) -> list[str]:
    """s3prl's ``log_records`` of an accuracy: a scalar for TensorBoard and a line in ``expdir/log.log``.

    Args:
        task: the name under which TensorBoard shows it.
        split: ``train``, ``dev`` or ``test``.
        records: what ``record`` has filled since the last call.
        logger: with TensorBoard's ``add_scalar``, or None.
        global_step: the runner's step.
        expdir: the experiment's folder, or None to write no file.
        best_dev: a scalar tensor, the best dev accuracy so far; updated in place.

    Returns:
        The checkpoints that the runner shall save: one when dev improved. Test never chooses a checkpoint.
    """
    score = accuracy(records["outcomes"])
    if logger is not None:
        logger.add_scalar(f"{task}/{split}-acc", score, global_step=global_step)
    improved = split == "dev" and score > float(best_dev)
    line = f"{'best|' if improved else ''}{task}/{split}|step:{global_step}|acc:{score}"
    log.info(line)
    if expdir is not None:
        with (Path(expdir) / "log.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if improved:
        best_dev.fill_(score)
    return ["best-states-dev.ckpt"] if improved else []
