"""Utterance lengths in buckets: how many there are, and how much padding they get in batches of similar length."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..recipes.corpora import Utterance

EDGES_S = (0.0, 5.0, 10.0, 15.0)  # each bucket begins at its edge; the last one has no end


def bucket(seconds: float) -> int:
    """The number of the bucket in which a length lies."""
    return sum(seconds >= edge for edge in EDGES_S) - 1


def title(number: int) -> str:
    """``5-10 s``, or ``15+ s`` for the last bucket."""
    low, high = EDGES_S[number], [*EDGES_S, None][number + 1]
    return f"{low:g}+ s" if high is None else f"{low:g}-{high:g} s"


def padding(batches: Iterable[Sequence["Utterance"]]) -> list[dict[str, Any]]:
    """For each bucket: ``utterances``, ``seconds`` of audio, and ``padded_s`` that a batch as long as its longest
    utterance spends on them."""
    found = [
        {"bucket": title(number), "utterances": 0, "seconds": 0.0, "padded_s": 0.0} for number in range(len(EDGES_S))
    ]
    for batch in batches:
        longest_s = max(utterance.seconds for utterance in batch)
        for utterance in batch:
            entry: dict[str, Any] = found[bucket(utterance.seconds)]
            entry["utterances"] += 1
            entry["seconds"] += utterance.seconds
            entry["padded_s"] += longest_s
    return found
