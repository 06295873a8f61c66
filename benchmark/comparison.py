"""The rows of a table against each other on the same utterances: differences to a baseline, and ranks.

Legend: N rows of a table, C clusters (speakers).
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .scored import Scored
from .statistics import (
    certainly_higher,
    cluster_sums,
    detectable,
    draw_clusters,
    paired_errors,
    paired_interval,
    rank_intervals,
)


@dataclass(frozen=True)
class Compared:
    """What a comparison tells of one row.

    Args:
        difference: its score less the baseline's, with the ends of the 95 % interval; None for the baseline itself,
            without one, and where only one speaker has items.
        detectable: the smallest true difference to the baseline that this table would probably tell.
        ranks: the first and the last rank that it may have among the rows that were scored on the same utterances.
        note: why it could not be compared; empty when it could.
    """

    difference: tuple[float, float, float] | None = None
    detectable: float | None = None
    ranks: tuple[int, int] | None = None
    note: str = ""


def compare(scored: Mapping[str, Scored], baseline: str | None, higher_is_better: bool) -> dict[str, Compared]:
    """Compare rows, by label, with ``baseline`` (one of them, or None) and with each other.

    Rows are comparable when they scored the same utterances as the baseline, or without one as most rows did; the
    others get a note. All draws are shared, and neither the order of rows nor the names of speakers change a result.
    """
    if not scored:
        return {}
    labels = sorted(scored)
    counts = Counter(scored[label].utterances for label in labels)
    most = max(labels, key=lambda label: counts[scored[label].utterances])  # the first of equals
    reference = scored[baseline or most]
    alike = [label for label in labels if scored[label].same_utterances(reference)]
    told = "it was scored on other utterances than " + ("the baseline" if baseline else "most rows")
    found = {label: Compared(note=f"no difference and no rank: {told}") for label in labels if label not in alike}
    points, totals = _sums([scored[label] for label in alike])
    higher, limit = certainly_higher(points, totals)
    ranks = rank_intervals(higher if higher_is_better else higher.T)
    found |= {label: Compared(ranks=rank) for label, rank in zip(alike, ranks, strict=True)}
    if baseline is None or len(totals) < 2:
        return found
    place, errors, weights = alike.index(baseline), paired_errors(points, totals), draw_clusters(len(totals))
    scores = points.sum(1) / totals.sum()
    for number, label in enumerate(alike):
        if label != baseline:
            low, high = paired_interval(points[number], points[place], totals, weights)
            difference = (float(scores[number] - scores[place]), low, high)
            smallest = detectable(float(errors[number, place]), limit, len(totals))
            found[label] = Compared(difference, smallest, ranks[number])
    return found


def _sums(rows: list[Scored]) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, C) and items (C,) of each cluster that has items. Whole numbers, so that sums are exact and rows can
    stand in any order: rows of fewer seeds count several times."""
    whole = math.lcm(*(row.num_seeds for row in rows))
    values = [row.points * (whole // row.num_seeds) for row in rows]
    sums = cluster_sums([*values, rows[0].totals * whole], rows[0].speakers)
    sums = sums[:, sums[-1] > 0]
    return sums[:-1], sums[-1]
