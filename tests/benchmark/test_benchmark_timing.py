"""Interleaved timing on a clock and a load made for the test: nothing here takes real time."""

import gc
from collections.abc import Callable, Iterator

import pytest
from s3prl_attention.benchmark.timing import Samples, measure_interleaved


class World:
    """A clock that only the cases move, and what others do during each watch."""

    def __init__(self, shares: Iterator[float | None] | None = None) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []
        self.shares = shares

    def case(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        def run() -> None:
            assert not gc.isenabled()
            self.calls.append(name)
            self.now_s += seconds(self.calls.count(name))

        return run

    def clock(self) -> float:
        return self.now_s

    def load(self) -> "World":
        return self

    def share(self) -> float | None:
        return next(self.shares) if self.shares else 0.0

    def measure(self, cases: dict[str, Callable[[int], float]], **options) -> dict[str, Samples]:
        made = {name: self.case(name, seconds) for name, seconds in cases.items()}
        return measure_interleaved(made, clock=self.clock, other_load=self.load, **options)


def test_rounds_are_interleaved_and_warm_up_is_dropped():
    world = World()
    found = world.measure({"a": lambda n: 100.0 if n <= 2 else n, "b": lambda n: 2 * n}, rounds=3, warmup=2)
    assert world.calls == [*"aabb", *"ab", *"ab", *"ab"]
    assert found["a"] == Samples((3, 4, 5), (False,) * 3)
    assert found["b"] == Samples((6, 8, 10), (False,) * 3)


def test_a_disturbed_round_is_taken_again_as_a_whole():
    # the load is asked after a, after b, and after the round; the second round has a disturbed b
    shares = iter([0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0])
    found = World(shares).measure({"a": lambda n: n, "b": lambda n: 10 * n}, rounds=2, warmup=0)
    assert found["a"].samples_s == (1, 3)  # call 2 went with the disturbed one of b
    assert found["b"].samples_s == (10, 30)
    assert found["a"].disturbed == found["b"].disturbed == (False, False)


def test_after_the_last_retry_the_disturbed_sample_is_kept_and_marked():
    shares = iter([0.0, 0.5, 0.0] * 4)
    world = World(shares)
    found = world.measure({"a": lambda n: n, "b": lambda n: n}, rounds=2, warmup=0, max_retries=2)
    assert world.calls == [*"ab"] * 4
    assert found["a"] == Samples((3, 4), (False, False))
    assert found["b"] == Samples((3, 4), (True, True))


def test_load_that_only_the_whole_round_shows_marks_all_of_it():
    found = World(iter([0.0, 0.0, 0.2])).measure(
        {"a": lambda n: 1, "b": lambda n: 1}, rounds=1, warmup=0, max_retries=0
    )
    assert found["a"].disturbed == found["b"].disturbed == (True,)


def test_load_at_the_limit_or_unknown_is_no_disturbance():
    shares = iter([0.1, None, 0.1])
    found = World(shares).measure({"a": lambda n: 1, "b": lambda n: 1}, rounds=1, warmup=0, busy_limit=0.1)
    assert found["a"].disturbed == found["b"].disturbed == (False,)


@pytest.mark.parametrize("when", [1, 3])
def test_a_case_that_raises_ends_alone(when: int):
    def break_down(n: int) -> float:
        if n == when:
            raise RuntimeError("out of memory")
        return 1.0

    world = World()
    found = world.measure({"a": lambda n: 2.0, "bad": break_down, "c": lambda n: 3.0}, rounds=4)
    assert found["bad"] == Samples(error="RuntimeError: out of memory")
    assert found["a"].samples_s == (2.0,) * 4
    assert found["c"].samples_s == (3.0,) * 4
    assert world.calls.count("bad") == when


def test_when_all_fail_it_ends():
    def break_down(n: int) -> float:
        raise ValueError("no")

    found = World().measure({"a": break_down, "b": break_down}, rounds=100)
    assert [samples.error for samples in found.values()] == ["ValueError: no"] * 2


def test_ctrl_c_ends_it_and_garbage_collection_is_back():
    def interrupt(n: int) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        World().measure({"a": interrupt}, rounds=3)
    assert gc.isenabled()


def test_fast_cases_are_repeated_within_a_sample_and_divided():
    world = World()
    found = world.measure({"fast": lambda n: 1 / 1024, "slow": lambda n: 1.0}, rounds=2, min_sample_s=0.02)
    assert found["slow"].repeats == 1
    repeats = found["fast"].repeats
    assert 20 < repeats <= 30  # at least 20.48 calls take 20 ms
    assert found["fast"].samples_s == (1 / 1024,) * 2
    assert world.calls[-2 * (repeats + 1) :] == ([*["fast"] * repeats, "slow"]) * 2


def test_a_clock_too_coarse_to_see_one_call():
    world = World()
    ticks = {"n": 0}

    def clock() -> float:
        return ticks["n"] // 50 * 0.05

    def tick() -> None:
        ticks["n"] += 1

    found = measure_interleaved({"a": tick}, rounds=1, min_sample_s=0.02, clock=clock, other_load=world.load)
    assert found["a"].repeats >= 10
