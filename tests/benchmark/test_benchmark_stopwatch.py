"""Records of timings: what they are called, and what a failed one leaves behind."""

import json
import subprocess

import pytest
from grid_fixtures import FakeWork
from s3prl_attention.benchmark import environment, grid, memory, stopwatch
from s3prl_attention.benchmark.names import BASELINE, MEL
from s3prl_attention.benchmark.plan import Request, make_plan
from s3prl_attention.benchmark.steps import Step, steps_of
from s3prl_attention.upstream.fixed_init import attention


def test_times_are_known_by_gpu_pytorch_and_the_way_of_linear_layers(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    known = {stopwatch.machine_of("cpu"), stopwatch.machine_of("cuda")}
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        for name in ("A100", "V100"):
            patch.setattr("torch.cuda.get_device_name", lambda device, name=name: name)
            known.add(stopwatch.machine_of("cuda"))
    for other in (True, False):
        monkeypatch.setattr(stopwatch, "worthwhile", lambda other=other: other)
        known.add(stopwatch.machine_of("cpu"))
    monkeypatch.setattr(environment, "_version", lambda package: "9.9")
    known.add(stopwatch.machine_of("cpu"))
    assert len(known) == 6  # one of the two ways is that of this machine


WORDS = ("timing.rounds=1", "timing.min_sample_s=0.0", "timing.max_retries=0", "timing.lengths_s=[1.0]")


@pytest.fixture
def plan(synthetic_tiny, tmp_path, monkeypatch):
    """To time the baseline and ``fixed_init``; memory is not weighed, which takes processes."""
    monkeypatch.setattr(stopwatch, "peak_memory", lambda *_: {"train_bytes": 1, "inference_bytes": 1})
    return make_plan(Request("smoke", tmp_path, ("fixed_init", BASELINE), ("speaker",), overrides=WORDS))


def record_of(plan, name):
    return json.loads(plan.records[name].read_text())


def test_what_failed_is_logged_and_timed_again_by_the_next_run(plan, monkeypatch, caplog):
    def broken(self, x, keep):
        raise RuntimeError("planted:\nno memory")

    with monkeypatch.context() as patch:
        patch.setattr(attention.Attention, "forward", broken)
        stopwatch.time_upstreams(plan.studies, plan.records, 1, "cpu", WORDS)
    reason = "train_step: RuntimeError: planted: no memory"
    assert f"timing of fixed_init failed: {reason}" in caplog.messages
    assert record_of(plan, "fixed_init")["error"] == reason
    assert not any(record_of(plan, name)["error"] for name in (BASELINE, MEL))
    cell = next(cell for cell in plan.cells if cell.study.upstream == "fixed_init")
    assert Step("timing", "fixed_init") in steps_of(plan, [cell])[plan.path(cell)]
    work = FakeWork(monkeypatch)
    grid.run(plan.request)
    assert work.of("time") == [("fixed_init", MEL, BASELINE)]
    stopwatch.time_upstreams(plan.studies, plan.records, 1, "cpu", WORDS)
    assert record_of(plan, "fixed_init")["error"] is None
    assert set(record_of(plan, "fixed_init")["time"]["phases"]) == {"features", "inference_1s", "train_step"}


def test_what_kills_the_process_that_weighs_it_does_not_run_in_this_one(plan, monkeypatch, caplog):
    def weigh(name, *others):
        if name == "fixed_init":
            raise memory.ProcessDied("planted: it died")
        return {"train_bytes": 1, "inference_bytes": 1}

    def deadly(self, x, keep):
        raise AssertionError("it takes all memory here")

    monkeypatch.setattr(stopwatch, "peak_memory", weigh)
    monkeypatch.setattr(attention.Attention, "forward", deadly)
    stopwatch.time_upstreams(plan.studies, plan.records, 1, "cpu", WORDS)
    assert caplog.messages[0] == "timing of fixed_init failed: planted: it died"
    record = record_of(plan, "fixed_init")
    assert (record["error"], record["memory"]) == ("planted: it died", None)
    assert set(record["time"]["phases"]) == {"features"}
    assert record["time"]["interleaved_with"] == [BASELINE]
    assert record_of(plan, BASELINE)["error"] is None
    assert "train_step" in record_of(plan, BASELINE)["time"]["phases"]


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        (-9, memory.ProcessDied, r"died \(it was killed, as the system does when memory runs out\)"),
        (7, memory.ProcessDied, r"died \(exit code 7\)"),
        (1, RuntimeError, "measuring the memory of fixed_init failed: ValueError: planted"),
    ],
)
def test_a_process_that_dies_is_told_from_one_that_raises(code, kind, told, monkeypatch):
    done = subprocess.CompletedProcess([], code, "", "Traceback\nValueError: planted\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RuntimeError, match=told) as raised:
        memory.peak_memory("fixed_init", "smoke", [], 1, "cpu")
    assert type(raised.value) is kind
