"""How well classes stand apart in hidden states, in all dimensions: nearest neighbours and silhouettes, with chance.

Legend: P points, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...downstream.featurizer import Standardizer
from ..statistics import clustered_interval

SHUFFLES = 20  # of the classes, for what a silhouette is by chance


@dataclass(frozen=True)
class Share:
    """The share of points whose nearest neighbour is of their class, what it is by chance, and the 95 % interval over
    speakers (None where there are fewer than two)."""

    value: float
    chance: float
    interval: tuple[float, float] | None


def standardised(points: np.ndarray) -> np.ndarray:
    """(P, D) with mean 0 and variance 1 in each dimension, by the rule that probes go by."""
    states = torch.from_numpy(np.asarray(points, np.float32))[None]  # (1, P, D)
    return Standardizer([states])(states.clone())[0].numpy().astype(float)


def distances(points: np.ndarray) -> np.ndarray:
    """Euclidean, (P, P)."""
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(points)


def nearest(apart: np.ndarray, classes: np.ndarray, groups: np.ndarray, speakers: np.ndarray) -> Share:
    """How often the nearest point of another group is of the same class.

    Args:
        apart: distances (P, P).
        classes: (P,).
        groups: (P,) points of a point's own group do not count as neighbours; there are two groups or more.
        speakers: (P,) whom the interval resamples.

    Chance is the share of a point's class among the points it could have as neighbours, averaged over points.
    """
    candidates = groups[:, None] != groups
    assert candidates.any(1).all(), "a point needs points of another group"
    same = classes[:, None] == classes
    found = same[np.arange(len(apart)), np.where(candidates, apart, np.inf).argmin(1)]
    chance = (same & candidates).sum(1) / candidates.sum(1)
    interval = clustered_interval(found.astype(float), np.ones(len(found)), speakers)
    return Share(float(found.mean()), float(chance.mean()), interval)


def silhouette(apart: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The mean silhouette of classes (P,), and what it is when the classes are dealt out anew at random. From
    distances (P, P) and from -1 to 1: above 0, points are nearer to their own class than to the next on average."""
    from sklearn.metrics import silhouette_score

    generator = np.random.default_rng(0)
    dealt = [silhouette_score(apart, generator.permutation(classes), metric="precomputed") for _ in range(SHUFFLES)]
    return float(silhouette_score(apart, classes, metric="precomputed")), float(np.mean(dealt))
