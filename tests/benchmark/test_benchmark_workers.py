"""A worker answers, tells its errors and goes on, and its death is an error and not the parent's end."""

import os
from functools import partial

import pytest
from s3prl_attention.benchmark.workers import Worker, cpu_s


def build(start: int):
    if start < 0:
        raise RuntimeError("no start\nbelow 0")
    total = start

    def work(request):
        nonlocal total
        if request == "die":
            os._exit(3)
        if request == "burn":
            return sum(i * i for i in range(3_000_000))
        if request > 100:
            raise ValueError(f"{request} is too much")
        total += request
        return total, os.getpid()

    return work


@pytest.fixture
def worker():
    made = Worker(partial(build, 5), "adder")
    yield made
    made.stop()


def test_it_works_in_a_process_of_its_own_and_remembers(worker):
    assert worker.ask(2) == (7, worker.pid)
    assert worker.ask(3)[0] == 10
    assert worker.pid != os.getpid()


def test_an_error_is_told_and_it_goes_on(worker):
    with pytest.raises(ValueError, match=r"^adder: 101 is too much$"):
        worker.ask(101)
    with pytest.raises(ValueError, match=r"^adder: TypeError: '>' not supported"):
        worker.ask("what")
    assert worker.ask(1)[0] == 6


def test_its_death_is_an_error_now_and_later(worker):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^adder: its process died \(exit code 3\): is there enough memory"):
            worker.ask("die")


def test_a_failed_start_is_told_on_one_line():
    with pytest.raises(ValueError, match=r"^adder: RuntimeError: no start below 0$"):
        Worker(partial(build, -1), "adder")


def test_its_cpu_time_is_known(worker):
    before_s = cpu_s([worker.pid])
    worker.ask("burn")
    assert cpu_s([worker.pid]) > before_s
    assert cpu_s([]) == 0
