"""What the pictures of a table show: its scores against seconds of pre-training and against time of inference."""

from collections.abc import Callable, Sequence

from .facts import direction, lengths
from .names import MEL
from .plot import Panel, Point
from .rows import Row


def panels(table: Sequence[Row], name: str) -> list[Panel]:
    """Two: scores against seconds of pre-training, and against time of inference."""
    scored = [row for row in table if row.score is not None]
    mel = next((100 * row.score for row in scored if row.upstream == MEL and row.score is not None), None)
    chance = next((100 * row.chance for row in scored if row.chance is not None), None)
    tasks = [row.cells[0]["task"] for row in scored]
    metric = next((f"{task['metric']}, % ({direction(task['higher_is_better'])})" for task in tasks), "score, %")
    reach = tuple(100 * end for row in scored if row.upstream != MEL for end in (row.score or 0, *(row.interval or ())))
    timed_on = f", timed on {lengths(scored)}" if lengths(scored) else ""
    return [
        Panel(
            title=name,
            x_label=x_label,
            y_label=f"test {metric}",
            points=_points(scored, time),
            dashed=None if mel is None else (f"{MEL}, no encoder ({mel:.1f} %)", mel),
            dotted=None if chance is None else (f"chance ({chance:.1f} %)", chance),
            reach=reach,
            if_empty=f"no finished cell with a time of {what}",
        )
        for what, x_label, time in (
            (
                "pre-training",
                "pre-training, s: its steps at the pace of the timing lane",
                lambda row: row.lane_pretrain_s,
            ),
            ("inference", f"inference with features, ms per 10 s of audio{timed_on}", inference_ms),
        )
    ]


def inference_ms(row: Row) -> float | None:
    """Of computing, for 10 s of audio."""
    return None if row.real_time_factor is None else 10_000 * row.real_time_factor


def _points(table: Sequence[Row], time: Callable[[Row], float | None]) -> tuple[Point, ...]:
    """The rows with a score and a time; the reference is a line, not a point."""
    shown = [(row, time(row)) for row in table if row.upstream != MEL]
    return tuple(
        Point(row.label, x, 100 * row.score, row.interval and (100 * row.interval[0], 100 * row.interval[1]))
        for row, x in shown
        if row.score is not None and x is not None
    )
