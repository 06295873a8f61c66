"""What a table, a planner or a test must know about a task, as data beside its expert."""

from dataclasses import dataclass

UNITS = ("utterances", "frames")
READS = ("mean", "frames")


@dataclass(frozen=True)
class TaskInfo:
    """Facts about a task.

    Args:
        title: as a table should print it.
        metric: what the score is, for example ``accuracy``.
        higher_is_better: the metric's direction.
        unit: what is scored, ``utterances`` or 10 ms ``frames``.
        head: what is trained on the frozen features, for example ``linear``.
        reads: ``frames`` when the head needs every frame, ``mean`` when their mean over time is enough.
        source: where the definition comes from.
    """

    title: str
    metric: str
    higher_is_better: bool
    unit: str
    head: str
    reads: str
    source: str

    def __post_init__(self) -> None:
        assert self.unit in UNITS, self.unit
        assert self.reads in READS, self.reads
