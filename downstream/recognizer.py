"""Recognises the phones of an utterance: CTC over the frozen feature frames, greedy decoding, edits counted.

Legend: B utterances, T_i feature frames of utterance i, L_i phones of its transcript, N sum of all T_i, D model dim, C
classes, the blank (0) included.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .ctc import ctc_loss, edits, frames_needed, greedy
from .folds import TOLD
from .outcomes import Count

log = logging.getLogger(__name__)
# With the highest learning rate, dev's phone error rate stood near 0.6 for 8 to 11 epochs (about 300 steps) and fell to
# 0.46 and 0.34 in the next (linear head, default preset, synthetic speech). Judged before, it lost to rates that ended
# at 0.58 and 0.66.
SETTLING = 12
_REPORTED: set[tuple[str, int, int]] = set()  # a probe meets an utterance in many epochs, folds and candidates


class Recognizer(nn.Module):
    """A head that says a phone or blank a feature frame.

    It runs at the frames that it is given. In our benchmark these are the upstream's own; under s3prl's runner,
    features come repeated to 10 ms. Repeating changes no greedy answer, for equal frames say equal phones, but the
    loss, its cost, and which utterances are too short. One that has fewer frames than its transcript needs has no CTC
    loss; it is named in a warning and in ``too_short``, and scored like any other.

    The last layer starts at zero, so that an untrained head answers nothing; from random weights it would answer
    another phone at almost every frame, and CTC takes long to unlearn that.

    Args:
        head: makes layers (..., D) -> (..., C) of ``(dim, num_classes)``.
        upstream_dim: D.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next; CTC does not depend on it.
        num_classes: C.

    Attributes:
        too_short: by utterance id, (its feature frames, how many its transcript needs), of all that were met.
    """

    def __init__(
        self, head: Callable[[int, int], nn.Module], /, upstream_dim: int, upstream_rate: int, num_classes: int
    ) -> None:
        super().__init__()
        del upstream_rate
        self.head = head(upstream_dim, num_classes)
        *_, last = (part for part in self.head.modules() if isinstance(part, nn.Linear))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.too_short: dict[str, tuple[int, int]] = {}

    def forward(
        self, features: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[str], scored: bool
    ) -> tuple[Tensor, list[Count]]:
        """CTC loss per phone of the batch; 0, with zero gradients, where no utterance is long enough.

        Args:
            features: B tensors (T_i, D).
            labels: B tensors (L_i,), classes from 1.
            ids: B utterance ids.
            scored: decode and count edits, or leave the list empty.
        """
        sizes = [len(part) for part in features]
        scores = self.head(torch.cat(list(features))).log_softmax(-1)  # (N, C)
        parts = scores.split(sizes)
        needed = [frames_needed(part) for part in labels]
        enough = [index for index, size in enumerate(sizes) if size >= needed[index]]
        self._report({id: (size, need) for id, size, need in zip(ids, sizes, needed, strict=True) if size < need})
        loss = ctc_loss([parts[i] for i in enough], [labels[i] for i in enough]) if enough else 0.0 * scores.sum()
        if not scored:
            return loss, []
        return loss, [_count(part.detach(), label.tolist()) for part, label in zip(parts, labels, strict=True)]

    def notes(self) -> list[str]:
        """What a reader of the score must know, in sentences: how many utterances were too short, if any, and the first
        of them."""
        if not self.too_short:
            return []
        first = [f"{id} ({size} of {need})" for id, (size, need) in sorted(self.too_short.items())[:TOLD]]
        more = len(self.too_short) - len(first)
        named = ", ".join(first) + (f" and {more} more" if more else "")
        return [
            f"{len(self.too_short)} utterances have fewer feature frames than CTC needs for their transcripts, so they "
            f"are left out of the loss, and scored like any other: {named}"
        ]

    def _report(self, found: dict[str, tuple[int, int]]) -> None:
        self.too_short |= found
        for id, (size, need) in found.items():
            if (id, size, need) not in _REPORTED:
                _REPORTED.add((id, size, need))
                log.warning(
                    "utterance %r has %d feature frames, but CTC needs %d for its transcript: it is left out of the "
                    "loss, and scored like any other",
                    id, size, need,
                )  # fmt: skip


def _count(scores: Tensor, reference: list[int]) -> Count:
    substitutions, insertions, deletions = edits(reference, greedy(scores))
    right = len(reference) - substitutions - deletions
    return Count(right, len(reference), substitutions, insertions, deletions)
