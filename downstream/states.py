"""Hands stored hidden states to a probe in batches of whole utterances, as rows to mix and to read.

Legend: S hidden states, N rows of a batch (frames, or utterances where a task reads means), D model dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .featurizer import normalize_states
from .hidden_states import means
from .splits import SPLITS, Fold

if TYPE_CHECKING:
    from ..recipes.corpora import FrameStore, Utterance


class States:
    """The stored hidden states of the folds' utterances, read in batches: (S, N, D) float32 on ``device``.

    ``frames``: N counts the frames of all utterances of a batch, one utterance after the other. ``mean``: one row an
    utterance; the means are computed once, here.
    """

    def __init__(
        self, store: FrameStore, folds: Sequence[Fold], reads: str, normalize: bool, device: torch.device
    ) -> None:
        ids = sorted({u.id for fold in folds for split in SPLITS for u in fold.utterances(split)})
        missing = [id for id in ids if id not in store]
        if missing:
            raise ValueError(
                f"the stored hidden states lack {len(missing)} of {len(ids)} utterances, the first is {missing[0]!r}: "
                f"extract them again from this corpus"
            )
        self.store = store
        self.reads = reads
        self.normalize = normalize
        self.device = device
        self.num_states, self.dim = store.frame_shape
        self._row = {id: row for row, id in enumerate(ids)}
        self._means = means(store, ids, normalize) if reads == "mean" else None

    def num_rows(self, utterance: Utterance) -> int:
        """Rows of one utterance."""
        return 1 if self._means is not None else self.store.num_frames(utterance.id)

    def read(self, batch: Sequence[Utterance]) -> Tensor:
        """(S, N, D) float32."""
        if self._means is not None:
            rows = torch.from_numpy(self._means[[self._row[u.id] for u in batch]])
            return rows.transpose(0, 1).contiguous().to(self.device)
        rows = torch.from_numpy(np.concatenate([self.store[u.id] for u in batch])).to(self.device)  # (N, S, D)
        states = torch.empty(self.num_states, len(rows), self.dim, device=self.device)
        states.copy_(rows.transpose(0, 1))
        return normalize_states(states) if self.normalize else states

    def batches(self, utterances: Sequence[Utterance], max_rows: int) -> Iterator[list[Utterance]]:
        """Neighbours in batches of up to ``max_rows`` rows; an utterance with more rows is a batch of its own."""
        batch: list[Utterance] = []
        rows = 0
        for utterance in utterances:
            count = self.num_rows(utterance)
            if batch and rows + count > max_rows:
                yield batch
                batch, rows = [], 0
            batch.append(utterance)
            rows += count
        if batch:
            yield batch
