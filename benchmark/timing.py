"""Interleaved timing: A B C, A B C, ... so that drift and disturbance meet every case alike."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tqdm import tqdm

from .lane import OtherLoad


class Load(Protocol):
    """What `OtherLoad` offers: the share of the machine that others have used since construction, None if unknown."""

    def share(self) -> float | None: ...  # noqa: D102 (told above)


@dataclass(frozen=True)
class Samples:
    """Raw times of one case: a sample and a disturbed flag for each round; both empty when the case failed."""

    samples_s: tuple[float, ...] = ()
    disturbed: tuple[bool, ...] = ()
    repeats: int = 1  # calls within a sample, of which samples_s is the mean
    error: str | None = None  # why the case failed; the others went on without it


def measure_interleaved(
    cases: Mapping[str, Callable[[], None]],
    rounds: int,
    warmup: int = 1,
    max_retries: int = 5,
    busy_limit: float = 0.1,
    min_sample_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    other_load: Callable[[], Load] = OtherLoad,
    title: str = "timing",
) -> dict[str, Samples]:
    """Time each case once a round for ``rounds`` rounds, after ``warmup`` calls of each that are dropped.

    A case that does its work on a GPU must wait for it. Round i of one case belongs to round i of every other.
    Where others used more than ``busy_limit`` of the machine during a sample or over a round, the whole round is taken
    again, at most ``max_retries`` times in all; after that disturbed samples are kept and marked. A case faster than
    ``min_sample_s`` is called several times within a sample. A case that raises is dropped, and its error kept.
    """
    assert rounds >= 1, "timing needs at least one round"
    repeats: dict[str, int] = {}
    errors: dict[str, str] = {}
    taken: list[dict[str, tuple[float, bool]]] = []
    retries_left = max_retries
    with _no_garbage_collection(), tqdm(total=rounds, desc=title, unit="round", leave=False, disable=None) as progress:
        for name, case in cases.items():
            with _recorded(name, errors):
                for _ in range(warmup):
                    case()
                repeats[name] = _enough_repeats(case, min_sample_s, clock)
        while len(taken) < rounds and len(errors) < len(cases):
            gc.collect()  # between rounds, because it takes a while and disturbs nobody here
            sampled: dict[str, tuple[float, bool]] = {}
            round_load = other_load()
            for name, case in cases.items():
                if name in errors:
                    continue
                with _recorded(name, errors):
                    load = other_load()
                    sample_s = _sample(case, repeats[name], clock)
                    sampled[name] = (sample_s, (load.share() or 0.0) > busy_limit)
            if (round_load.share() or 0.0) > busy_limit:
                sampled = {name: (sample_s, True) for name, (sample_s, _) in sampled.items()}
            if retries_left > 0 and any(disturbed for _, disturbed in sampled.values()):
                retries_left -= 1
                continue
            taken.append(sampled)
            progress.update()
    return {
        name: Samples(error=errors[name])
        if name in errors
        else Samples(
            samples_s=tuple(sampled[name][0] for sampled in taken),
            disturbed=tuple(sampled[name][1] for sampled in taken),
            repeats=repeats[name],
        )
        for name in cases
    }


def _sample(case: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    """Mean seconds of ``repeats`` calls."""
    start_s = clock()
    for _ in range(repeats):
        case()
    return (clock() - start_s) / repeats


def _enough_repeats(case: Callable[[], None], min_sample_s: float, clock: Callable[[], float]) -> int:
    """Calls that together last ``min_sample_s``, found by trying."""
    repeats = 1
    while min_sample_s > 0:
        lasted_s = _sample(case, repeats, clock) * repeats
        if lasted_s >= min_sample_s:
            break
        wanted = math.ceil(1.1 * repeats * min_sample_s / lasted_s) if lasted_s > 0 else 10 * repeats
        repeats = max(repeats + 1, min(wanted, 10 * repeats))
    return repeats


@contextmanager
def _recorded(name: str, errors: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
