"""The leaderboard by utterance length: scores of short and long utterances, real-time factors, padding."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .columns import number, percent
from .lengths import EDGES_S, title
from .plain import no_formula
from .row_times import real_time_factors
from .rows import Row
from .statistics import clustered_interval

READING = (
    "By utterance length: items are the scored test items; padding is the share of it in batches of all utterances "
    "that the tasks of the run read, over all splits, as hidden states are extracted from them; RTF is that of "
    "features, timed at one length, and of the encoder on utterances of this length: a row without an encoder has none."
)
OWN_COLUMNS = ("corpus", "preset", "downstream", "table", "upstream", "label")
SCORE_COLUMNS = ("utterances", "items", "score", "interval_low", "interval_high", "padding_waste")
CSV_COLUMNS = (*OWN_COLUMNS, "length", *SCORE_COLUMNS, "real_time_factor")


@dataclass(frozen=True)
class LengthScore:
    """A row's score on the test utterances of one bucket of lengths, with its 95 % interval clustered by speaker."""

    bucket: str
    utterances: int
    items: int
    score: float
    interval: tuple[float, float] | None


def length_scores(row: Row, intervals: bool = True) -> list[LengthScore]:
    """One for each bucket that has items; none when the files do not tell how long utterances are. Intervals take most
    of the time: without them they are None."""
    scored = row.scored
    if scored is None or scored.seconds is None:
        return []
    buckets = np.digitize(scored.seconds, EDGES_S) - 1
    found = []
    for place in range(len(EDGES_S)):
        inside = (buckets == place) & (scored.totals > 0)
        points, totals = scored.points[inside], scored.totals[inside]
        if len(totals):
            spoken = scored.speakers[inside]
            interval = clustered_interval(points, totals * scored.num_seeds, spoken) if intervals else None
            score = float(points.sum() / totals.sum() / scored.num_seeds)
            found.append(LengthScore(title(place), len(totals), int(totals.sum()), score, interval))
    return found


def padding_waste(row: Row) -> dict[str, float]:
    """By bucket, the share of padding in the batches that the row's hidden states were extracted in."""
    lengths: list[dict] = next((cell["data"]["lengths"] for cell in row.cells if cell["data"].get("lengths")), [])
    return {entry["bucket"]: 1 - entry["seconds"] / entry["padded_s"] for entry in lengths if entry["padded_s"] > 0}


def length_table(table: Sequence[Row]) -> list[list[str]]:
    """The texts of a table's small table, its header first; empty when there is nothing to tell."""
    shown = [row for row in table if row.score is not None]
    scores = [{found.bucket: found for found in length_scores(row, intervals=False)} for row in shown]
    buckets = [name for name in map(title, range(len(EDGES_S))) if any(name in found for found in scores)]
    factors = [real_time_factors(row.cells) for row in shown]
    lengths_s = sorted({length_s for found in factors for length_s in found})
    if not buckets and len(lengths_s) < 2:
        return []
    lines = [["upstream", *(f"{name}: score %" for name in buckets), *(f"RTF at {length:g} s" for length in lengths_s)]]
    for row, found, factor in zip(shown, scores, factors, strict=True):
        texts = [percent(found[name].score) if name in found else "-" for name in buckets]
        lines.append([row.label, *texts, *(number(factor.get(length_s)) for length_s in lengths_s)])
    rest = ["" for _ in lengths_s]
    if buckets:
        items = [_join([f"{found[name].items}" for found in scores if name in found]) for name in buckets]
        wastes = [padding_waste(row) for row in shown]
        padding = [_join([percent(waste[name]) for waste in wastes if name in waste]) for name in buckets]
        lines += [["(items)", *items, *rest], ["(padding %)", *padding, *rest]]
    return lines


def length_csv(rows: Sequence[Row]) -> str:
    """Unrounded: a line for each row and bucket of lengths with items, and one for each length with timed inference."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        if row.score is None:
            continue
        own = {name: no_formula(getattr(row, name)) for name in OWN_COLUMNS}
        wastes = padding_waste(row)
        for found in length_scores(row):
            low, high = found.interval or ("", "")
            values = (found.utterances, found.items, found.score, low, high, wastes.get(found.bucket, ""))
            writer.writerow({**own, "length": found.bucket, **dict(zip(SCORE_COLUMNS, values, strict=True))})
        for length_s, factor in real_time_factors(row.cells).items():
            writer.writerow({**own, "length": f"{length_s:g} s", "real_time_factor": factor})
    return text.getvalue()


def _join(texts: Sequence[str]) -> str:
    """Different texts once each."""
    return " / ".join(dict.fromkeys(texts)) or "-"
