"""Which feature frame lies under each 10 ms label, whatever the upstream's frame rate."""

from collections.abc import Sequence

import torch
from torch import Tensor

LABEL_HOP_SAMPLES = 160  # 10 ms at 16 kHz
TOLERATED_FRAMES = 5  # s3prl's: upstreams and labels may round an utterance's length differently


def feature_frames(num_labels: int, num_features: int, upstream_rate: int) -> Tensor:
    """Label i reads the feature frame in which its centre lies: ``floor((i + 0.5) * 160 / upstream_rate)``.

    Args:
        num_labels: labels of the utterance, one each 10 ms.
        num_features: its feature frames.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next.

    Returns:
        int64 (num_labels,), below ``num_features``: where the features end up to 5 frames early, their last frame
        counts on; where they end up to 5 frames late, the rest is not read.

    Raises:
        ValueError: when there are 5 frames more or less than that.
    """
    index = (2 * torch.arange(num_labels) + 1) * LABEL_HOP_SAMPLES // (2 * upstream_rate)
    needed = int(index[-1]) + 1 if num_labels else 0
    if num_features < 1 or abs(needed - num_features) > TOLERATED_FRAMES:
        raise ValueError(
            f"{num_labels} labels of 10 ms need {needed} feature frames at {upstream_rate} samples a frame, but there "
            f"are {num_features} (tolerated: {TOLERATED_FRAMES} more or less): check upstream_rate and the alignment"
        )
    return index.clamp_(max=num_features - 1)


def read_frames(
    num_labels: Sequence[int], num_features: Sequence[int], upstream_rate: int, ids: Sequence[str]
) -> Tensor:
    """For each label of B utterances, the row of their concatenated features that it reads: int64 (sum n_i,).

    Args:
        num_labels: B numbers of labels, n_i.
        num_features: B numbers of feature frames.
        upstream_rate: samples (at 16 kHz) from one feature frame to the next.
        ids: of the B utterances, for messages.

    Raises:
        ValueError: as ``feature_frames``, naming the utterance.
    """
    parts, start = [], 0
    for labels, features, id in zip(num_labels, num_features, ids, strict=True):
        try:
            parts.append(start + feature_frames(labels, features, upstream_rate))
        except ValueError as error:
            raise ValueError(f"utterance {id!r}: {error}") from None
        start += features
    return torch.cat(parts)


def neighbours(num_labels: Sequence[int], width: int) -> tuple[Tensor, Tensor]:
    """For each label of B utterances, the ``width`` labels around it.

    Returns:
        int64 (sum n_i, width), their places among the labels of all utterances, and bool of the same shape, False
        beyond the ends of the label's utterance, where the place is that of its first or last label.
    """
    places, insides, start = [], [], 0
    offset = torch.arange(width) - width // 2
    for count in num_labels:
        place = torch.arange(count)[:, None] + offset
        insides.append((place >= 0) & (place < count))
        places.append(start + place.clamp(0, max(count - 1, 0)))
        start += count
    return torch.cat(places), torch.cat(insides)
