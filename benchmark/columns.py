"""The columns of the leaderboard's tables: what they are called, show and mean, and how numbers are written."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..upstream.s3prl_upstreams import PREFIX
from .names import BASELINE, MEL
from .row_times import Spread
from .rows import Row


@dataclass(frozen=True)
class Column:
    """A column of the tables. When the terminal is narrow the columns with the highest ``drop`` go first, those with 0
    never. ``value`` is what rows are sorted by where that is a number; None = not known."""

    title: str
    text: Callable[[Row], str]
    meaning: str
    drop: int = 0
    value: Callable[[Row], float | None] | None = None


DIFFERENCE = Column(
    f"diff to {BASELINE}",
    lambda r: _difference(r),
    "the score less that of the row named here, in percent points, on the same utterances and averaged over seeds, "
    "with its 95 % interval (bootstrap over speakers, wider where they are few, the same draws for all rows, one pair "
    "at a time); where lower is better, below 0 is better",
    1,
    lambda r: 0.0 if r.difference is None and r.compared_to == r.label else _first(r.difference),
)
COLUMNS = (
    Column(
        "upstream",
        lambda r: r.label,
        f"the attention; `{MEL}` is the same head on log-Mel features, no encoder; `{PREFIX}NAME` one of s3prl's own "
        f"upstreams, not pre-trained here",
    ),
    Column(
        "score % (95 %)",
        lambda r: _score(r),
        "the metric that the heading names, on the test split: accuracy is the share of right items, an error rate the "
        "number of errors per item; with its 95 % interval (bootstrap over speakers, wider where they are few, though "
        "with fewer than five still too narrow; an utterance that several seeds scored is one utterance)",
        value=lambda r: r.score,
    ),
    Column(
        "rank",
        lambda r: _rank(r),
        "the ranks that the row may have: from one more than the number of rows that are certainly better, to the "
        "number of rows less those that are certainly worse. All pairs of a table are tested at once, on the same "
        "utterances: with 95 % probability not one of its rank intervals is wrong (Mogstad, Romano, Shaikh and Wilhelm "
        "2024, Review of Economic Studies 91(1); the largest studentised difference under random signs of whole "
        "speakers decides; with fewer than 6 speakers nothing is certain). `=` cannot be told from the best: no row is "
        "certainly better",
        value=lambda r: None if r.ranks is None else r.ranks[0] + r.ranks[1] / 1e4,
    ),
    DIFFERENCE,
    Column(
        "chance %", lambda r: percent(r.chance), "what guessing scores on the same test split", 3, lambda r: r.chance
    ),
    Column(
        "seeds (sd)",
        lambda r: _seeds(r),
        "number of seeds of pre-training that the score is the mean of, - when nothing is pre-trained and it is the "
        "mean over seeds of the probe; in brackets the standard deviation of the score in percent points over seeds of "
        "pre-training / over seeds of the probe on one pre-training, - for a single seed. Of 3 seeds the true one may "
        "well be half or twice as large",
        7,
        lambda r: len(r.seeds) or None,
    ),
    Column(
        "dev %", lambda r: percent(r.dev), "the score on the dev split, which choices were made on", 8, lambda r: r.dev
    ),
    Column("order", lambda r: r.order or "-", "of attention's time in the number of frames n, as declared", 11),
    Column("params", lambda r: count(r.parameters), "parameters of the upstream", 4, lambda r: r.parameters),
    Column(
        "MACs",
        lambda r: count(r.macs_10s),
        "multiply-accumulates of the encoder for 10 s of audio",
        10,
        lambda r: r.macs_10s,
    ),
    Column(
        "loss",
        lambda r: number(r.pretrain_loss),
        "masked-L1 loss of pre-training on held-out data",
        9,
        lambda r: r.pretrain_loss,
    ),
    Column(
        "pretrain s",
        lambda r: number(r.pretrain_s),
        "wall-clock seconds of pre-training, as it was; the picture has its steps at the pace of the timing lane",
        6,
        lambda r: r.pretrain_s,
    ),
    Column(
        "train x",
        lambda r: _ratio(r.train_ratio),
        "time of a training step, as a ratio to the baseline",
        2,
        lambda r: _first(r.train_ratio),
    ),
    Column(
        "infer x",
        lambda r: _ratio(r.inference_ratio),
        f"time of encoder inference, as a ratio to the baseline; of `{PREFIX}` rows of all, from waveforms on",
        2,
        lambda r: _first(r.inference_ratio),
    ),
    Column(
        "RTF",
        lambda r: number(r.real_time_factor),
        "real-time factor: seconds of computing (features and encoder) per second of audio; smaller is faster",
        5,
        lambda r: r.real_time_factor,
    ),
    Column(
        "MB tr/inf",
        lambda r: f"{_megabytes(r.train_bytes)}/{_megabytes(r.inference_bytes)}",
        "peak memory of training and of inference, 10^6 bytes",
        6,
        lambda r: r.train_bytes,
    ),
)


def columns(table: Sequence[Row]) -> tuple[Column, ...]:
    """The columns of a table, with the name of the row that differences are taken to."""
    name = next((row.compared_to for row in table if row.compared_to), BASELINE)
    return tuple(replace(c, title=f"diff to {name}") if c is DIFFERENCE else c for c in COLUMNS)


def percent(share: float | None) -> str:
    """A share in percent, one digit after the point."""
    return "-" if share is None else f"{100 * share:.1f}"


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None or value == 0:
        return "-" if value is None else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def count(value: int | None) -> str:
    """Three significant digits with k, M or G."""
    if value is None or value < 1000:
        return "-" if value is None else str(value)
    size, letter = next(unit for unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= unit[0])
    return f"{number(value / size)}{letter}"


def points(share: float) -> str:
    """A difference in percent points with its sign, one digit after the point."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _score(row: Row) -> str:
    if row.score is None:
        return row.status
    interval = "-".join(map(percent, row.interval)) if row.interval else "-"
    return f"{percent(row.score)} ({interval})"


def _rank(row: Row) -> str:
    if row.ranks is None:
        return "-"
    first, last = row.ranks
    return f"{first}" if first == last else f"{first}-{last}{' =' if first == 1 else ''}"


def _difference(row: Row) -> str:
    if row.difference is None:
        return "baseline" if row.compared_to == row.label else "-"
    difference, low, high = map(points, row.difference)
    return f"{difference} ({low} to {high})"


def _seeds(row: Row) -> str:
    number = f"{len(row.seeds) or '-'}"
    spreads = [row.seed_spread, row.probe_spread]
    if spreads == [None, None]:
        return number
    return f"{number} ({'/'.join('-' if spread is None else f'{100 * spread:.2f}' for spread in spreads)})"


def _ratio(spread: Spread | None) -> str:
    return f"{spread[0]:.2f} ({spread[1]:.2f}-{spread[2]:.2f})" if spread else "-"


def no_minus_zero(text: str) -> str:
    """A number without the minus that rounding has left before a zero."""
    return text.removeprefix("-") if text.startswith("-") and float(text) == 0 else text


def _first(spread: Spread | None) -> float | None:
    """The middle of a spread, which comes first."""
    return None if spread is None else spread[0]


def _megabytes(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 1e6:.0f}"
