"""How probes are trained: one set of choices for every upstream."""

import math
from dataclasses import dataclass, field

from .alignment import LABEL_HOP_SAMPLES


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained, the same for every upstream.

    Args:
        num_epochs: passes over train; the learning rate falls linearly to zero over them.
        patience: epochs after the best one on dev (the last of equals) after which a head is trained no further. Of a
            task that needs time to settle (``TaskInfo.settling``), these and those of the race begin after that time.
        learning_rates: Adam's, at the start. A head is trained with each on the same batches; dev chooses one.
        race_epochs: epochs after which only the learning rate that dev likes best so far goes on; 0: all go on.
        weight_decay: L2 penalty on the head (not on the weights of the states).
        averaging: decay of the moving average of all weights over steps, which is what dev and test score.
        batch_frames: 10 ms frames in a batch, in whole utterances, for tasks that read frames; the same stretch of
            audio, and so the same number of steps, whatever the upstream's frame rate.
        batch_utterances: utterances in a batch, for tasks that read means.
        min_steps: of an epoch: a small train set gets smaller batches.
        normalize: layer-norm each state before the weighted sum (s3prl's ``--upstream_feature_normalize``).
        subsets: of the corpus; empty means the task's own choice.
        states_dtype: of the stored hidden states, ``float16`` or ``float32``.
    """

    num_epochs: int = 30
    patience: int = 5
    learning_rates: list[float] = field(default_factory=lambda: [2e-3, 1e-2, 5e-2])
    race_epochs: int = 3
    weight_decay: float = 1e-2
    averaging: float = 0.9
    batch_frames: int = 12_288
    batch_utterances: int = 8
    min_steps: int = 16
    normalize: bool = False
    subsets: tuple[str, ...] = ()
    states_dtype: str = "float16"

    def __post_init__(self) -> None:
        """Refuse settings that cannot train, all at once."""
        counts = ("num_epochs", "patience", "batch_frames", "batch_utterances", "min_steps")
        wrong = [f"{name} must be at least 1, got {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        rates = self.learning_rates
        if not rates or min(rates) <= 0 or len(set(rates)) < len(rates):
            wrong.append(f"learning_rates must be different numbers above 0, at least one, got {list(rates)}")
        if self.race_epochs < 0:
            wrong.append(f"race_epochs must be at least 0, got {self.race_epochs}")
        if not self.weight_decay >= 0:
            wrong.append(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.averaging < 1:
            wrong.append(f"averaging must be at least 0 and below 1, got {self.averaging}")
        if self.states_dtype not in ("float16", "float32"):
            wrong.append(f"states_dtype must be float16 or float32, got {self.states_dtype!r}")
        if wrong:
            raise ValueError(f"probe settings: {'; '.join(wrong)}")

    def race_ends(self, settling: int) -> int:
        """The epoch after which one learning rate goes on, in a task that settles so long; 0 where all go on."""
        ends = self.race_epochs + settling
        return ends if self.race_epochs and ends < self.num_epochs and len(self.learning_rates) > 1 else 0

    def head_epochs(self, settling: int) -> int:
        """Most epochs that all learning rates together are trained for, in a task that settles so long."""
        together = self.race_ends(settling) or self.num_epochs
        return together * len(self.learning_rates) + self.num_epochs - together

    def max_rows(self, reads: str, upstream_rate: int) -> int:
        """The most rows in a batch of a task that ``reads`` means or frames; a frame has ``upstream_rate`` samples."""
        if reads == "mean":
            return self.batch_utterances
        return max(1, self.batch_frames * LABEL_HOP_SAMPLES // upstream_rate)

    def train_rows(self, num_rows: int, max_rows: int) -> int:
        """The most rows in a training batch of a train set with ``num_rows``, so that an epoch has enough steps."""
        return min(max_rows, math.ceil(num_rows / self.min_steps))
