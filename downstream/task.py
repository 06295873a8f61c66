"""What a table, a planner or a test must know about a task, as data beside its expert."""

from dataclasses import dataclass

UNITS = ("utterances", "frames", "phones")
READS = ("mean", "frames")
KINDS = ("phone", "speaker", "label")
CHANCES = ("majority", "empty")


class NotApplicable(ValueError):
    """A corpus lacks what a task needs, for example phone alignments; the message says what and how to add it."""


@dataclass(frozen=True)
class TaskInfo:
    """Facts about a task.

    Args:
        title: as a table should print it.
        kind: which tasks it belongs with: ``phone``, ``speaker`` or ``label``.
        metric: what the score is, ``accuracy`` or ``phone error rate``.
        higher_is_better: the metric's direction. A score is the share of right items, or where lower is better the
            errors (substitutions, insertions, deletions) per item.
        unit: what is scored: ``utterances``, 10 ms ``frames``, or ``phones`` of a transcript.
        head: what is trained on the frozen features, for example ``linear``.
        reads: ``frames`` when the head needs every frame, ``mean`` when their mean over time is enough.
        needs: what a corpus must have, in words.
        source: where the definition comes from.
        chance: what the score of guessing is: ``majority`` answers the most frequent class of train, ``empty`` nothing.
        settling: epochs of a probe in which nobody judges it, because its score stands still before it moves: neither
            the race of learning rates nor patience counts them.
    """

    title: str
    kind: str
    metric: str
    higher_is_better: bool
    unit: str
    head: str
    reads: str
    needs: str
    source: str
    chance: str = "majority"
    settling: int = 0

    def __post_init__(self) -> None:
        assert self.unit in UNITS, self.unit
        assert self.reads in READS, self.reads
        assert self.kind in KINDS, self.kind
        assert self.chance in CHANCES, self.chance
