"""What a row got on each test utterance, averaged over its seeds.

Legend: U utterances, C clusters (speakers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .result_files import read_utterances


@dataclass(frozen=True)
class Scored:
    """A row's outcomes, an entry for each utterance, in the order of their names.

    An utterance that several seeds scored is one utterance: ``points`` are summed over them and count ``num_seeds``
    times ``totals``.

    Args:
        utterances: (U,) fold and name.
        speakers: (U,).
        points: (U,) right items where higher is better, else errors (what is not right, and insertions).
        totals: (U,) scored items of one seed.
        num_seeds: how many seeds ``points`` are sums over.
        seconds: (U,) of audio; None where the files are older than that column.
    """

    utterances: tuple[tuple[str, str], ...]
    speakers: np.ndarray
    points: np.ndarray
    totals: np.ndarray
    num_seeds: int
    seconds: np.ndarray | None

    def same_utterances(self, other: "Scored") -> bool:
        """Whether both scored the same items of the same utterances, so that they can be compared one by one."""
        return (
            self.utterances == other.utterances
            and np.array_equal(self.speakers, other.speakers)
            and np.array_equal(self.totals, other.totals)
        )

    @property
    def num_speakers(self) -> int:
        """Speakers with items."""
        return len(np.unique(self.speakers[self.totals > 0]))


def read_scored(cells: Sequence[dict], higher_is_better: bool) -> Scored:
    """The outcomes of cells that differ in their seeds; ValueError names a csv that cannot be used or does not give its
    cell's score, or tells that the cells scored different utterances."""
    seeds = [_one_seed(cell, higher_is_better) for cell in cells]
    first = seeds[0]
    if not all(first.same_utterances(other) for other in seeds):
        raise ValueError("its seeds scored different utterances: delete their cells and run again to make all anew")
    points = np.sum([seed.points for seed in seeds], axis=0)
    return Scored(first.utterances, first.speakers, points, first.totals, len(seeds), first.seconds)


def points(outcome: Mapping[str, Any], higher_is_better: bool) -> Any:
    """What an utterance, or each of its column, adds to the numerator of its score: right items where higher is better,
    else errors (what is not right, and insertions; files of schema 1 have none)."""
    if higher_is_better:
        return outcome["correct"]
    return outcome["total"] - outcome["correct"] + outcome.get("insertions", 0)


def _one_seed(cell: dict, higher_is_better: bool) -> Scored:
    columns = read_utterances(cell)
    order = np.lexsort((columns["fold"], columns["utterance"]))
    columns = {name: values[order] for name, values in columns.items()}
    scored = points(columns, higher_is_better)
    score, told = scored.sum() / columns["total"].sum(), cell["scores"]["test"]
    if abs(score - told) > 1e-6:
        cure = f"delete {cell['_path'].name} and run again to make both anew"
        raise ValueError(f"{cell['scores']['utterances']} gives a score of {score:g}, its cell {told:g}: {cure}")
    return Scored(
        utterances=tuple(zip(columns["fold"].tolist(), columns["utterance"].tolist(), strict=True)),
        speakers=columns["speaker"],
        points=scored,
        totals=columns["total"],
        num_seeds=1,
        seconds=columns.get("seconds"),
    )
