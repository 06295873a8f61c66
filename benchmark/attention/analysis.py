"""What a set of attention maps says, as plain values: a table of heads, cases by layer, projections and clusters.

Legend: P places (layers), H heads, T frames, S sampled crops.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..projection import clusters, pca, tsne
from .cases import CASES, describe
from .collect import TURN, Collected

DIGITS = 4
COMPONENTS = 10


def heads(collected: Collected) -> list[dict[str, Any]]:
    """A row for every head: layer and head from 1, its case by its mean map, and its measures."""
    explained, by_offset = collected.explained, collected.explained_by_offset
    rows = []
    for place, layer in enumerate(collected.layers):
        for head in range(collected.mean.shape[1]):
            at = place, head
            numbers = {
                "explained": explained[at],
                "explained_by_offset": by_offset[at],
                "globalness": collected.globalness[at],
                "verticality": collected.verticality[at],
                "diagonality": -collected.distance[at] / collected.mean.shape[-1],
                "distance_frames": collected.distance[at],
                **{f"same_{mark}": share[at] for mark, share in collected.within.items()},
            }
            case = describe(collected.mean[at]).plain()
            values = {name: _rounded(value) for name, value in {**case, **numbers}.items()}
            rows.append({"layer": layer, "head": head + 1, **values})
    return rows


def by_layer(table: Sequence[dict[str, Any]]) -> list[list[int]]:
    """How many heads of each layer have each of ``CASES``, layers in order."""
    layers = sorted({row["layer"] for row in table})
    counts = Counter((row["layer"], row["case"]) for row in table)
    return [[counts[layer, case] for case in CASES] for layer in layers]


def projected(collected: Collected, table: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """PCA, t-SNE and clusterings of the heads' mean maps, and of the maps of sampled crops where there are any.

    Each with ``explained`` (shares of variance of the first components), ``pca`` and ``tsne`` (points, 2), ``head``
    (row of the table for each point), ``silhouettes`` by number of clusters, and ``agreement``: the adjusted Rand index
    (Hubert and Arabie 1985; 0 by chance, 1 for the same partition) of four clusters with the cases. Clusters and t-SNE
    look at the first ten components.
    """
    cases = [row["case"] for row in table]
    sets = {"mean maps": (collected.mean[None], len(collected.ids))}
    if len(collected.samples):
        sets["maps of single crops"] = (collected.samples, 1)
    return {
        name: {"crops_in_a_map": count, "points": maps.shape[0] * len(table), **_project(maps, cases, seed)}
        for name, (maps, count) in sets.items()
    }


def _project(maps: Tensor, cases: Sequence[str], seed: int) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    points = maps.flatten(-2).flatten(0, -2).double().numpy()  # (S P H, T T)
    head = np.tile(np.arange(len(cases)), len(maps))
    distinct = len(np.unique(points, axis=0))
    if distinct < 5:
        return {"note": f"only {distinct} of the {len(points)} maps are different: there is nothing to project"}
    places, shares = pca(points, min(COMPONENTS, *points.shape))
    found = clusters(places, seed=seed)
    four = next((each for each in found if each.count == len(CASES)), None)
    of_point = [cases[row] for row in head]
    return {
        "explained": [_rounded(share) for share in shares],
        "pca": places[:, :2].round(DIGITS).tolist(),
        "tsne": tsne(places, seed).round(DIGITS).tolist(),
        "head": head.tolist(),
        "silhouettes": {str(each.count): _rounded(each.silhouette) for each in found},
        "agreement": None if four is None else _rounded(adjusted_rand_score(of_point, four.labels)),
    }


def how_many_cases(name: str, projection: dict[str, Any]) -> str:
    """A sentence on how far the clusters speak for four cases rather than another number."""
    scores = {int(count): score for count, score in projection.get("silhouettes", {}).items()}
    if not scores:
        return f"{name.capitalize()}: {projection['note']}."
    best = max(scores, key=lambda count: scores[count])
    around = ", ".join(f"{count} {scores[count]:.2f}" for count in sorted(scores))
    verdict = f"{best} is the best number, not four" if best != len(CASES) else "four is the best number"
    agreed = projection["agreement"]
    sentences = [
        f"{name.capitalize()} ({projection['points']} points): mean silhouette by number of k-means clusters {around}; "
        f"{verdict}."
    ]
    if agreed is not None:
        sentences.append(f"Four clusters agree with the four cases to {agreed:.2f} (adjusted Rand index).")
    return " ".join(sentences)


def _rounded(value: Any) -> Any:
    """Numbers to four digits, NaN as None: JSON has none."""
    if isinstance(value, (Tensor, float, np.floating)):
        number = float(value)
        return round(number, DIGITS) if np.isfinite(number) else None
    return value


def add_turns(table: Sequence[dict[str, Any]], spliced: Collected) -> None:
    """Add to each head the share of attention that stays within a speaker's turn."""
    shares = spliced.within[TURN].flatten()
    for row, share in zip(table, shares, strict=True):
        row[f"same_{TURN}"] = _rounded(share)
