"""Connectionist temporal classification: the loss, greedy decoding, and the edits from an answer to the transcript.

Legend: B utterances, T_i feature frames of utterance i, L_i phones of its transcript, C classes with the blank (0).

Source: Graves et al. 2006, "Connectionist Temporal Classification".
"""

from collections.abc import Sequence

import editdistance
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

BLANK = 0


def frames_needed(transcript: Tensor) -> int:
    """The least number of frames that can spell (L,) phones: one each, and a blank between two that are equal."""
    return len(transcript) + int((transcript[1:] == transcript[:-1]).sum())


def ctc_loss(log_probs: Sequence[Tensor], transcripts: Sequence[Tensor]) -> Tensor:
    """Minus log-probability of the transcripts, per phone of the batch; every utterance has ``frames_needed`` or more.

    Args:
        log_probs: B tensors (T_i, C); frames that pad a batch do not enter.
        transcripts: B tensors (L_i,) int64 of classes from 1; may be empty.
    """
    device = log_probs[0].device
    lengths = [len(part) for part in transcripts]
    total = functional.ctc_loss(
        pad_sequence(list(log_probs)),  # (T, B, C)
        pad_sequence(list(transcripts), batch_first=True).to(device),  # (B, L)
        torch.tensor([len(part) for part in log_probs]),
        torch.tensor(lengths),
        blank=BLANK,
        reduction="sum",
    )
    return total / max(1, sum(lengths))


def greedy(scores: Tensor) -> list[int]:
    """The best class of each frame (T, C), equal neighbours merged, blanks taken out."""
    path = scores.argmax(-1).unique_consecutive()
    return path[path != BLANK].tolist()


def edits(reference: Sequence[int], answer: Sequence[int]) -> tuple[int, int, int]:
    """(substitutions, insertions, deletions) that make ``answer`` of ``reference``, as few as can be.

    Where several ways are as short, substitutions are preferred, then deletions, from the end backwards. Their sum is
    ``editdistance``'s distance.
    """
    ref, hyp = np.asarray(reference, dtype=np.int64), np.asarray(answer, dtype=np.int64)
    place = np.arange(len(hyp) + 1)
    rows = [place]  # rows[i][j]: edits from the first i of the reference to the first j of the answer
    for symbol in ref:
        above = rows[-1]
        row = above + 1
        row[1:] = np.minimum(row[1:], above[:-1] + (hyp != symbol))
        rows.append(np.minimum.accumulate(row - place) + place)  # any number of insertions in a row
    table = np.stack(rows).tolist()
    i, j, substitutions, insertions, deletions = len(ref), len(hyp), 0, 0, 0
    while i or j:
        changed = int(i > 0 and j > 0 and reference[i - 1] != answer[j - 1])
        if i and j and table[i][j] == table[i - 1][j - 1] + changed:
            i, j, substitutions = i - 1, j - 1, substitutions + changed
        elif i and table[i][j] == table[i - 1][j] + 1:
            i, deletions = i - 1, deletions + 1
        else:
            j, insertions = j - 1, insertions + 1
    distance = editdistance.eval(list(reference), list(answer))
    assert substitutions + insertions + deletions == distance, (reference, answer)
    return substitutions, insertions, deletions
