"""The cells of a row are seeds: which of them its score is the mean of, and how far seeds lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """How a row's cells are averaged.

    Every seed pre-trains once and is probed with one common probe seed; the first is also probed with others
    (``grid.seed_pairs``). So pre-training and probe can be told apart, and neither is counted as the other.

    Args:
        averaged: one cell for each pre-training seed, or for each probe seed of what is not pre-trained.
        pretraining: seeds of pre-training; empty when nothing is pre-trained.
        probes: all seeds of the probe.
        pretraining_spread: standard deviation of the test score over the seeds of pre-training; None for less than two.
        probe_spread: the same over the probe seeds of one pre-training seed.
        note: what is wrong with them; empty when nothing is.
    """

    averaged: tuple[dict, ...]
    pretraining: tuple[int, ...]
    probes: tuple[int, ...]
    pretraining_spread: float | None
    probe_spread: float | None
    note: str = ""


def sort_seeds(cells: Sequence[dict], pretrained: bool) -> Seeds:
    """Sort the finished cells of a row."""
    by_pair: dict[tuple[int, int], dict] = {}
    twice = []
    for cell in cells:
        if by_pair.setdefault(pair(cell), cell) is not cell:
            twice.append("seed {}, probe seed {}".format(*pair(cell)))
    notes = [f"{', '.join(twice)}: more than one result file, only the first counts"] if twice else []
    probes = tuple(sorted({probe for _, probe in by_pair}))
    if not pretrained:
        averaged = tuple(next(by_pair[key] for key in sorted(by_pair) if key[1] == probe) for probe in probes)
        return Seeds(averaged, (), probes, None, _spread(averaged), "; ".join(notes))
    seeds = tuple(sorted({seed for seed, _ in by_pair}))
    common = max(probes, key=lambda probe: (sum((seed, probe) in by_pair for seed in seeds), probe in seeds, -probe))
    chosen = [
        (seed, common) if (seed, common) in by_pair else min(key for key in by_pair if key[0] == seed) for seed in seeds
    ]
    averaged = tuple(by_pair[key] for key in chosen)
    probed = [[by_pair[key] for key in sorted(by_pair) if key[0] == seed] for seed in seeds]
    if len({probe for _, probe in chosen}) > 1:
        notes += [
            "its seeds of pre-training were not all probed with the same seed: their spread holds the probe's too"
        ]
    return Seeds(averaged, seeds, probes, _spread(averaged), _spread(max(probed, key=len)), "; ".join(notes))


def pair(cell: dict) -> tuple[int, int]:
    """The seeds of pre-training and of the probe."""
    return cell["cell"]["seed"], cell["cell"]["probe_seed"]


def _spread(cells: Sequence[dict]) -> float | None:
    """Standard deviation of the test score, with one degree of freedom less than there are cells."""
    return float(np.std([cell["scores"]["test"] for cell in cells], ddof=1)) if len(cells) > 1 else None
