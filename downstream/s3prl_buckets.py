"""The batches of s3prl's datasets: buckets of utterances of like length, cut from a sorted table.

Source: s3prl 0.4.18, ``phone_linear/dataset.py``, ``speaker_linear_utter_libri/dataset.py``.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import RandomSampler

TABLE = "train-clean-100.csv"
HALVED_ABOVE = 2000  # in the unit of the table: samples, as s3prl's generate_len_for_bucket writes it


class Row(NamedTuple):
    """An utterance of the table, and its length there."""

    id: str
    length: float


def read_table(path: Path) -> list[Row]:
    """The utterances of s3prl's table, the longest first; ties as ``pandas`` leaves them, which s3prl sorts with.

    Raises:
        ValueError: for a file that is missing, has no column ``file_path`` or ``length``, or no number as length.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path}: is not a CSV in UTF-8 ({error}): write it with s3prl's generate_len_for_bucket"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}): name the folder of s3prl's table with bucket_file"
        ) from error
    try:
        texts = [row["length"] for row in rows]
        lengths = np.array([int(text) for text in texts] if all(map(str.isdecimal, texts)) else [*map(float, texts)])
        if not np.isfinite(lengths).all():
            raise ValueError("a length is not finite")
        ids = [row["file_path"].split("/")[-1].split(".")[0] for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: a table has the columns file_path and length, a number ({type(error).__name__}: {error}): write "
            f"it with s3prl's generate_len_for_bucket"
        ) from error
    order = len(ids) - 1 - np.argsort(lengths[::-1])[::-1]  # not stable: which of two equals comes first is numpy's
    return [Row(ids[place], lengths[place].item()) for place in order.tolist()]


def buckets(table: Sequence[Row], wanted: set[str], size: int) -> list[list[str]]:
    """The ids of each batch of a set, the longest first.

    Args:
        table: as ``read_table`` gives it.
        wanted: ids of the set.
        size: utterances in a batch, before it is halved.
    """
    chosen = [row for row in table if row.id in wanted]
    num_whole = len(chosen) // size * size
    made = []
    for start in range(0, num_whole, size):
        batch = [row.id for row in chosen[start : start + size]]
        if size >= 2 and chosen[start].length > HALVED_ABOVE:
            made += [batch[: size // 2], batch[size // 2 :]]
        else:
            made.append(batch)
    rest = [row.id for row in chosen[num_whole:]]
    if len(rest) > 1 and table[-1].id in wanted:
        made.append(rest)
    return made


class BucketOrder:
    """Places of the utterances of each batch, as ``batch_sampler``: in order, or shuffled by torch's random state."""

    def __init__(self, sizes: Sequence[int], shuffle: bool) -> None:
        ends = np.cumsum(sizes, dtype=int).tolist()
        self.places = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
        self.order = RandomSampler(self.places) if shuffle else range(len(self.places))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self.order:
            yield self.places[number]
