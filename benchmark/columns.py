"""The columns of the leaderboard's tables: what they are called, show and mean, and how numbers are written."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .rows import REFERENCE, Row, Spread


@dataclass(frozen=True)
class Column:
    """A column of the tables. When the terminal is narrow the columns with the highest ``drop`` go first, those with 0
    never."""

    title: str
    text: Callable[[Row], str]
    meaning: str
    drop: int = 0


COLUMNS = (
    Column(
        "upstream", lambda r: r.label, f"the attention; `{REFERENCE}` is the same head on log-Mel features, no encoder"
    ),
    Column(
        "score % (95 %)",
        lambda r: _score(r),
        "share of right answers on the test split, with its 95 % interval (bootstrap over speakers: with few speakers "
        "it is too narrow)",
    ),
    Column("chance %", lambda r: percent(r.chance), "what guessing scores on the same test split", 2),
    Column("seeds", lambda r: _seeds(r), "number of seeds averaged, with the lowest and highest score", 7),
    Column("dev %", lambda r: percent(r.dev), "the score on the dev split, which choices were made on", 8),
    Column("order", lambda r: r.order or "-", "of attention's time in the number of frames n, as declared", 11),
    Column("params", lambda r: count(r.parameters), "parameters of the upstream", 3),
    Column("MACs", lambda r: count(r.macs_10s), "multiply-accumulates of the encoder for 10 s of audio", 10),
    Column("loss", lambda r: number(r.pretrain_loss), "masked-L1 loss of pre-training on held-out data", 9),
    Column("pretrain s", lambda r: number(r.pretrain_s), "wall-clock seconds of pre-training (not interleaved)", 6),
    Column("train x", lambda r: _ratio(r.train_ratio), "time of a training step, as a ratio to the baseline", 1),
    Column("infer x", lambda r: _ratio(r.inference_ratio), "time of encoder inference, as a ratio to the baseline", 1),
    Column(
        "RTF",
        lambda r: number(r.real_time_factor),
        "real-time factor: seconds of computing (features and encoder) per second of audio; smaller is faster",
        4,
    ),
    Column(
        "MB tr/inf",
        lambda r: f"{_megabytes(r.train_bytes)}/{_megabytes(r.inference_bytes)}",
        "peak memory of training and of inference, 10^6 bytes",
        5,
    ),
)


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


def _score(row: Row) -> str:
    if row.score is None:
        return f"{row.status}: {row.reason}" if row.reason else row.status
    interval = "-".join(map(percent, row.interval)) if row.interval else "-"
    return f"{percent(row.score)} ({interval})"


def _seeds(row: Row) -> str:
    averaged = len(row.seeds) > 1 and row.score is not None
    return f"{len(row.seeds)} ({percent(row.score_min)}-{percent(row.score_max)})" if averaged else f"{len(row.seeds)}"


def _ratio(spread: Spread | None) -> str:
    return f"{spread[0]:.2f} ({spread[1]:.2f}-{spread[2]:.2f})" if spread else "-"


def _megabytes(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 1e6:.0f}"
