"""Points of many dimensions as a picture and as groups: principal components, t-SNE, k-means with silhouettes.

Legend: P points, F dimensions, C components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_POINTS = 5  # for t-SNE: below, every point is about equally near to every other at any perplexity
PERPLEXITY = 30.0  # scikit-learn's and van der Maaten's default, where there are points enough
STARTS = 20  # of k-means for each number of clusters: the best of them counts
MOST_CLUSTERS = 8


@dataclass(frozen=True)
class Clustering:
    """Points in ``count`` clusters: ``labels`` (P,) int64 from 0, the largest cluster first; ``silhouette`` from -1 to
    1 is the mean over the points (Rousseeuw 1987), higher where clusters are tight and apart."""

    count: int
    labels: np.ndarray
    silhouette: float


def pca(points: np.ndarray, components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (P, C) of points (P, F) along the directions of most variance, and the share of the whole variance
    that each direction has (C,).

    Exact: a thin singular value decomposition, without an F x F matrix where F is above P, and with signs that do not
    change from run to run. Points that are all the same have coordinates and shares 0.

    Raises:
        ValueError: for points that are not finite numbers (P, F), or when there are fewer than C points or dimensions.
    """
    from sklearn.decomposition import PCA

    points = _checked(points)
    most = min(points.shape)
    if not 1 <= components <= most:
        told = f"{points.shape[0]} points of {points.shape[1]} dimensions have 1 to {most} principal components"
        raise ValueError(f"{told}, not {components}: ask for fewer, or give more points")
    if _num_distinct(points) == 1:
        return np.zeros((len(points), components)), np.zeros(components)
    fitted = PCA(n_components=components, svd_solver="full")
    return fitted.fit_transform(points), fitted.explained_variance_ratio_


def tsne(points: np.ndarray, seed: int = 0, perplexity: float | None = None) -> np.ndarray:
    """Places (P, 2) in the plane that keep near points (P, F) near (van der Maaten and Hinton 2008), started from the
    first two principal components. Distances between far groups, and sizes of groups, mean nothing.

    Args:
        points: (P, F).
        seed: the same seed gives the same picture on the same machine.
        perplexity: how many neighbours count, about. By default 30, or a third of the other points where that is less.

    Raises:
        ValueError: with fewer than 5 points, when all are the same, or for a perplexity that is not between 1 and P.
    """
    from sklearn.manifold import TSNE

    points = _checked(points)
    if len(points) < FEWEST_POINTS:
        raise ValueError(f"t-SNE needs {FEWEST_POINTS} points, got {len(points)}: give more, or use PCA")
    if _num_distinct(points) == 1:
        raise ValueError(f"t-SNE needs points that differ, and all {len(points)} are the same: leave it out")
    perplexity = default_perplexity(len(points)) if perplexity is None else perplexity
    if not 1 <= perplexity < len(points):
        raise ValueError(f"a perplexity of {perplexity:g} does not go with {len(points)} points: 1 or more, but fewer")
    if points.shape[1] == 1:
        points = np.pad(points, ((0, 0), (0, 1)))  # the start is two components
    chosen = TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=seed, n_jobs=1)
    return chosen.fit_transform(_rotated(points)).astype(float)


def default_perplexity(num_points: int) -> float:
    """30, or a third of the other points where that is less: t-SNE looks at three times as many neighbours."""
    return min(PERPLEXITY, (num_points - 1) / 3)


def clusters(points: np.ndarray, counts: Sequence[int] | None = None, seed: int = 0) -> list[Clustering]:
    """The best k-means clustering of points (P, F) for each number of clusters, in the order of ``counts``.

    K-means, and not a tree of merges, because the question is which number fits: every number gets the best partition
    of its own (of 20 k-means++ starts), where a tree hands early merges on to all. Its clusters are the ones that the
    silhouette, in the same Euclidean distances, can judge.

    Args:
        points: (P, F).
        counts: numbers of clusters; by default 2 to 8, or to one less than there are distinct points.
        seed: of the starts.

    Raises:
        ValueError: for a number below 2, or not below that of the distinct points, for which there is no silhouette.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    points = _checked(points)
    most = _num_distinct(points) - 1
    if counts is None:
        counts = range(2, min(MOST_CLUSTERS, most) + 1)
    wrong = [count for count in counts if not 2 <= count <= most]
    if wrong or most < 2:
        told = f"not {', '.join(map(str, wrong))}" if wrong else "and there are fewer"
        raise ValueError(
            f"{most + 1} distinct points of {len(points)}: a silhouette needs at least 2 clusters and more distinct "
            f"points than clusters, {told}: ask for fewer clusters, or give more points"
        )
    points = _rotated(points)
    found = []
    for count in counts:
        labels = _by_size(KMeans(count, n_init=STARTS, random_state=seed).fit_predict(points))
        found.append(Clustering(count, labels, float(silhouette_score(points, labels))))
    return found


def _checked(points: np.ndarray) -> np.ndarray:
    """(P, F) float64."""
    points = np.asarray(points, float)
    if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
        raise ValueError(f"points must be finite numbers (P, F), got {points.shape}: flatten each, and drop NaN")
    return points


def _num_distinct(points: np.ndarray) -> int:
    return len(np.unique(points, axis=0))


def _rotated(points: np.ndarray) -> np.ndarray:
    """The points with the same distances in at most P dimensions, for what looks at distances only."""
    return points if points.shape[1] <= points.shape[0] else pca(points, len(points))[0]


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Labels numbered anew: the largest cluster is 0, of equal ones that with the earlier first point."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    return np.argsort(order)[np.searchsorted(names, labels)]
