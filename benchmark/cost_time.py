"""The cost audit's times: every phase of a group of rows, interleaved with the baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .cost_case import PHASES, Case, timed
from .cost_memory import Cell, told
from .lane import OtherLoad
from .names import BASELINE
from .timing import Samples, measure_interleaved
from .workers import Worker, cpu_s

MOST_SETTLING_CALLS = 4
MAX_RETRIES = 3


@dataclass(frozen=True)
class CostSettings:
    """What decides the numbers.

    Args:
        hidden_dim: D.
        num_heads: heads of every attention.
        threads: of PyTorch.
        rounds: interleaved rounds.
        phase_s: rounds are cut to 2 at the least so that a phase at one length lasts no longer than this, if it can.
        min_sample_s: a sample shorter than this is made of several calls.
        max_case_s: a row of which one call takes longer is not timed.
    """

    hidden_dim: int
    num_heads: int
    threads: int
    rounds: int
    phase_s: float
    min_sample_s: float
    max_case_s: float


def time_together(
    cells: Mapping[str, Cell],
    cases: Sequence[Case],
    settings: CostSettings,
    expected: Mapping[str, Mapping[str, float]],
) -> None:
    """Time every phase of the rows in ``cells``, interleaved, and put samples and problems into them.

    ``expected`` maps a row to the seconds that a call of a phase should take, where that is known.
    """
    workers: dict[str, Worker] = {}
    try:
        for case in cases:
            phases = [phase for phase in PHASES if phase not in cells[case.row]["problems"]]
            if phases:
                try:
                    workers[case.row] = Worker(partial(timed, case), case.row)
                except ValueError as error:
                    cells[case.row]["problems"].update(dict.fromkeys(phases, told(error, case)))
        for phase in PHASES:
            _time_phase(phase, cells, cases, workers, settings, expected)
    finally:
        for worker in workers.values():
            worker.stop()


def _time_phase(
    phase: str,
    cells: Mapping[str, Cell],
    cases: Sequence[Case],
    workers: Mapping[str, Worker],
    settings: CostSettings,
    expected: Mapping[str, Mapping[str, float]],
) -> None:
    stopwatch = _Stopwatch()
    calls: dict[str, Callable[[], None]] = {}
    round_s = 0.0
    for case in cases:
        problems = cells[case.row]["problems"]
        if phase in problems:
            continue
        ask = partial(workers[case.row].ask, phase)
        try:
            seconds = settle(ask, expected[case.row].get(phase))
        except ValueError as error:
            problems[phase] = told(error, case)
            continue
        if seconds > settings.max_case_s:
            problems[phase] = f"not timed: one call took {seconds:.0f} s"
            continue
        calls[case.row] = partial(stopwatch.run, ask)
        round_s += max(seconds, settings.min_sample_s)
    if not calls:
        return
    measured = measure_interleaved(
        calls,
        num_rounds(settings.rounds, settings.phase_s, round_s),
        warmup=0,
        max_retries=MAX_RETRIES,
        min_sample_s=settings.min_sample_s,
        clock=stopwatch.read,
        other_load=partial(OtherLoad, own_s=partial(cpu_s, [worker.pid for worker in workers.values()])),
        title=f"n={cases[0].num_frames} {phase}",
    )
    base = measured.get(BASELINE, Samples())
    for case in cases:
        samples, cell = measured.get(case.row), cells[case.row]
        if samples is None:
            continue
        if samples.error:
            cell["problems"][phase] = told(ValueError(samples.error), case)
            continue
        cell["time"][phase] = {
            "samples_s": list(samples.samples_s),
            "baseline_samples_s": list(base.samples_s),
            "disturbed": list(samples.disturbed),
            "repeats": samples.repeats,
            "interleaved_with": [name for name, other in measured.items() if not other.error],
        }


def settle(call: Callable[[], float], expected_s: float | None) -> float:
    """Call until it takes about what was expected or is no longer a fifth faster than the call before: the first calls
    fetch memory from the system. Returns the seconds of the last."""
    seconds = call()
    for _ in range(MOST_SETTLING_CALLS - 1):
        if expected_s is not None and seconds <= 1.2 * expected_s:
            break
        before_s, seconds = seconds, call()
        if seconds > 0.8 * before_s:
            break
    return seconds


def num_rounds(rounds: int, phase_s: float, round_s: float) -> int:
    """As many as fit into ``phase_s``, at most ``rounds``, at least 2 of them."""
    return min(rounds, max(2, int(phase_s / round_s) if round_s > 0 else rounds))


class _Stopwatch:
    """Adds up the seconds that workers report, so that the way to them and back does not count."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def read(self) -> float:
        return self.total_s

    def run(self, call: Callable[[], float]) -> None:
        self.total_s += call()
