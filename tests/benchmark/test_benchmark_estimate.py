"""The estimate: what is measured once counts for every step of its kind; nothing here hangs on a clock."""

import math
from dataclasses import replace

import pytest
import torch
from grid_fixtures import TASKS, write_ok
from s3prl_attention.benchmark import dry_run, estimate, measure, measure_probe
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.estimate import estimate as weigh
from s3prl_attention.benchmark.measure import Cost, measure_upstream
from s3prl_attention.benchmark.names import MEL
from s3prl_attention.benchmark.plan import Request, make_plan
from s3prl_attention.benchmark.result_files import read_cell, write_cell
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.benchmark.steps import steps_of
from s3prl_attention.downstream.probe import ProbeSettings

COST = Cost(10.0, 3.0, 2.0, 1.0, 1e6, 4e6, 0.01, (3, 32), 3)


@pytest.fixture
def measured(monkeypatch):
    """What was measured, with made-up results."""
    asked: list[tuple] = []

    def upstream(study, corpus, utterances, kinds, device):
        asked.append((study.upstream, sorted(kinds)))
        return COST

    def probe(task, corpus, shape, repeat, settings, device):
        asked.append((task, shape, repeat))
        return 7.0

    monkeypatch.setattr(estimate, "measure_upstream", upstream)
    monkeypatch.setattr(estimate, "measure_probe", probe)
    monkeypatch.setattr(estimate, "peak_memory", lambda *_: {"train_bytes": 1, "inference_bytes": 1})
    return asked


def plan_for(out, **changes):
    return make_plan(
        Request(**{"preset": "smoke", "out": out, "upstreams": ("mean_map",), "downstreams": TASKS, **changes})
    )


def by_kind(found):
    kinds: dict[str, list[float]] = {}
    for step, seconds in found.seconds.items():
        kinds.setdefault(step.kind, []).append(seconds)
    return kinds


def test_each_upstream_is_measured_once_for_all_seeds(synthetic_tiny, tmp_path, measured):
    plan = plan_for(tmp_path, seeds=(0, 1))
    found = weigh(plan, plan.cells)
    kinds = by_kind(found)
    assert kinds["pre-training"] == [10.0] * 4  # mean_map and the self_attention whose maps it starts from, two seeds
    assert kinds["mean maps"] == [3.0] * 2
    assert kinds["extraction"] == [2.0] * 3
    assert kinds["probe"] == [7.0] * 10
    assert len([one for one in measured if one[0] == "mean_map"]) == 1
    assert ("self_attention", ["mean maps", "pre-training", "timing"]) in measured
    assert [one[0] for one in measured if one[0] in TASKS] == list(TASKS)
    assert found.problems == []


def test_finished_cells_tell_what_a_probe_takes(synthetic_tiny, tmp_path, measured):
    plan = plan_for(tmp_path)
    cell = next(c for c in plan.cells if (c.study.upstream, c.task) == ("mean_map", "speaker"))
    write_ok(plan.path(cell), cell.key(plan.speech))
    done = read_cell(plan.path(cell))
    threads, cpu = estimate.torch.get_num_threads(), estimate.describe(1)["cpu"]
    done["environment"] |= {"threads": threads, "cpu": cpu}
    done["data"]["fingerprint"], done["config"] = plan.speech.probing.fingerprint, cell.study.resolved()
    done["probe"]["seconds"] = 55.0
    write_cell(plan.path(cell), done)
    found = weigh(plan, plan.cells)
    seconds = {(step.task, step.upstream): s for step, s in found.seconds.items() if step.kind == "probe"}
    assert seconds["speaker", "mean_map"] == 55.0
    assert seconds["speaker", MEL] == seconds["phone_linear", "mean_map"] == 7.0
    assert found.known == ["speaker"]
    done["config"]["probe"]["num_epochs"] = 99
    write_cell(plan.path(cell), done)
    assert weigh(plan, plan.cells).known == []


def test_what_fails_is_told_and_tried_and_what_was_not_reached_never_fits(
    synthetic_tiny, tmp_path, measured, monkeypatch
):
    plan, works = plan_for(tmp_path), estimate.measure_upstream

    def broken(study, *rest):
        if study.upstream == "mean_map":
            raise RuntimeError("planted")
        return works(study, *rest)

    monkeypatch.setattr(estimate, "measure_upstream", broken)
    found = weigh(plan, plan.cells)
    assert found.problems == ["mean_map: could not be measured (RuntimeError: planted); it is tried"]
    assert {s for step, s in found.seconds.items() if step.upstream == "mean_map" and step.kind != "timing"} == {0.0}
    seconds = iter(range(1000))
    late = weigh(plan, plan.cells, give_up_s=1.5, clock=lambda: float(next(seconds)))
    assert [text for text in late.problems if text.startswith("mean_map: not measured")]
    steps = steps_of(plan, [c for c in plan.cells if c.study.upstream == "mean_map"])
    assert all(late.total_s(needed) == math.inf for needed in steps.values())


@pytest.mark.parametrize("name", ["self_attention", "mean_map", "fixed_init", "xbox", MEL])
def test_the_measurement_does_what_a_run_does(name, synthetic_tiny, monkeypatch):
    def second(calls):
        calls[0]()
        return 1.0

    waited: list[torch.device] = []
    monkeypatch.setattr(measure, "median_s", second)
    monkeypatch.setattr(measure, "wait", waited.append)
    study = load_study(name, "smoke", [])
    corpus = synthetic_tiny.select("train-clean")
    some = list(corpus.utterances[:8])
    kinds = {"timing", "extraction"} if name == MEL else {"timing", "pre-training", "mean maps", "extraction"}
    kinds -= set() if name == "self_attention" else {"mean maps"}
    found = measure_upstream(study, corpus, some, kinds, "cpu")
    states, dim, repeat = (1, 80, 1) if name == MEL else (3, 32, 3)
    assert (found.shape, found.frame_repeat) == ((states, dim), repeat)
    exact = sum(2 * states * dim * math.ceil(u.num_frames / repeat) for u in some)
    assert found.states_bytes == pytest.approx(exact, rel=0.05)
    if name != MEL:
        assert found.pretrain_s == 10 + 2 * 1  # steps, and two validations of one batch
        assert waited == 2 * [torch.device("cpu")], "a step and a validation end when their device has done them"
        assert found.checkpoint_bytes > 4 * 80 * 3 * 32
        assert found.lane_s == (study.timing.rounds + 2) * 2
    if name == "self_attention":
        assert found.maps_s == len(corpus.utterances)


def test_an_upstream_that_starts_from_maps_is_measured_without_them():
    recipe = load_study("fixed_init", "smoke", ["attention.init=maps"]).recipe
    assert measure.fresh_expert("fixed_init", recipe).own_options.init == "log"


def test_a_probe_counts_epochs_folds_and_batches(synthetic_tiny, monkeypatch):
    def second(calls):
        calls[0]()
        return 1.0

    waited: list[torch.device] = []
    monkeypatch.setattr(measure_probe, "median_s", second)
    monkeypatch.setattr(measure_probe, "wait", waited.append)
    settings = ProbeSettings(num_epochs=3)
    # 24 utterances train in 12 batches of 2, 8 of dev and 16 of test are scored 8 a second, 8 are read in a second
    took_s = measure_probe.measure_probe("speaker", synthetic_tiny, (3, 32), 3, settings, "cpu")
    assert took_s == pytest.approx(3 * (12 + 8 / 8) + 16 / 8 / 3 + 24 / 8)
    assert waited == 2 * [torch.device("cpu")]
    assert measure_probe.measure_probe("phone_linear", synthetic_tiny, (3, 32), 3, settings, "cpu") > 3 * 16
    raced = measure_probe.measure_probe("speaker", synthetic_tiny, (3, 32), 3, replace(settings, race_epochs=1), "cpu")
    assert took_s - raced == pytest.approx((3 - 5 / 3) * (12 + 8 / 8)), "one epoch of three heads, two of one"


def test_a_dry_run_tells_plan_and_estimate_and_writes_nothing(synthetic_tiny, tmp_path, measured, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "perf_counter", lambda: 0.0)
    out = tmp_path / "out"
    words = ["--preset", "smoke", "--upstream", "mean_map", "--seed", "0", "1", "--out", str(out), "--dry-run"]
    before = sorted(tmp_path.rglob("*"))
    assert main([*words, "--budget", "1h", "--downstream", *TASKS]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    text = capsys.readouterr().out
    told = " ".join(text.split())
    for line in (
        "plan: 10 cells, 0 finished, 10 to make; preset smoke",
        "pre-training 40 s 4 x mean_map, self_attention",
        "mean maps 6.0 s 2 x self_attention",
        "hidden states 3 MB",
        "checkpoints 16 MB and 12 MB for the one in training",
        "10 of 10 cells fit",
        "assumed: ",
    ):
        assert line in told
    assert text.index("seed 0 ") < text.index("seed 1, probe seed 0")
    assert text.splitlines()[-1] == "this dry run took 0.0 s and wrote no result"


def test_a_budget_that_is_none_is_refused_in_one_line(tmp_path, capsys):
    assert main(["--preset", "smoke", "--out", str(tmp_path / "out"), "--budget", "soon"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: 'soon' is no span of time")
    assert not (tmp_path / "out").exists()
