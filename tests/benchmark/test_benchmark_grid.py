"""The grid with made-up work: its order, what it does once, what it never overwrites, and what a budget leaves out."""

import pytest
from grid_fixtures import TASKS, FakeWork, statuses, write_ok
from s3prl_attention import downstream
from s3prl_attention.benchmark import executors, grid, schedule, steps
from s3prl_attention.benchmark import plan as plan_module
from s3prl_attention.benchmark.budget import Budget
from s3prl_attention.benchmark.claims import Claims
from s3prl_attention.benchmark.estimate import Estimate
from s3prl_attention.benchmark.plan import Request, make_plan
from s3prl_attention.benchmark.remake import command
from s3prl_attention.benchmark.request_file import read_request
from s3prl_attention.benchmark.result_files import read_cell, write_cell
from s3prl_attention.benchmark.status import status
from s3prl_attention.benchmark.steps import Step, steps_of
from s3prl_attention.downstream.task import NotApplicable

UPSTREAMS = ("fixed_init", "fixed_patterns")


def request(out, **changes) -> Request:
    return Request(**{"preset": "smoke", "out": out, "upstreams": UPSTREAMS, "downstreams": TASKS, **changes})


def test_seeds_come_last_and_what_neighbours_share_is_prepared_once(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    done = grid.run(request(tmp_path, seeds=(0, 1)))
    assert (done.num_cells, done.num_made, done.num_failed, done.num_skipped) == (16, 16, 0, 0)
    later = [("fixed_init", 1), ("fixed_init", 0), ("fixed_patterns", 1), ("fixed_patterns", 0), ("mel", 0)]
    assert work.of("prepare") == [("fixed_init", 0), ("fixed_patterns", 0), ("mel", 0), *later]
    assert {call[2:] for call in work.of("probe")[:6]} == {(0, 0)}
    assert [call[2:] for call in work.of("probe")[6:10]] == [(1, 0), (1, 0), (0, 1), (0, 1)]
    assert grid.run(request(tmp_path, seeds=(0, 1))).num_made == 0


def test_finished_cells_of_other_timing_or_device_stay_and_are_counted(synthetic_tiny, tmp_path, monkeypatch, caplog):
    FakeWork(monkeypatch)
    plan = make_plan(request(tmp_path))
    for number, cell in enumerate(plan.cells):
        path = plan.path(cell)
        write_ok(path, cell.key(plan.speech))
        found = read_cell(path)
        found["config"] = cell.study.resolved()
        found["environment"]["device"] = "cuda" if number == 0 else "cpu"
        write_cell(path, found)
    grid.run(request(tmp_path))
    assert [text[:40] for text in caplog.messages if "--out" in text] == ["1 finished cells were timed with other t"]
    caplog.clear()
    assert grid.run(request(tmp_path, overrides=["timing.rounds=5"])).num_made == 0
    assert f"{len(plan.cells)} finished cells" in "".join(caplog.messages)


def test_the_leaderboard_is_written_again_while_a_run_goes_on(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch, prepare_s=grid.REFRESH_S)
    grid.run(request(tmp_path))
    told = "Unfinished: 4 of the 6 cells that were asked for are not made yet; the same command goes on with them."
    assert work.pages == [told, ""]


def test_a_failed_preparation_is_tried_once_and_the_others_go_on(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch, broken=("fixed_init",))
    done = grid.run(request(tmp_path, seeds=(0, 1)))
    assert (done.num_made, done.num_failed) == (10, 6)
    assert work.of("prepare").count(("fixed_init", 0)) == 1
    states = statuses(make_plan(request(tmp_path, seeds=(0, 1))))
    assert {state for (name, *_), state in states.items() if name == "fixed_init"} == {"failed"}


def test_a_cell_that_another_process_finished_is_not_overwritten_with_a_failure(synthetic_tiny, tmp_path, monkeypatch):
    plan = make_plan(request(tmp_path))
    cell = plan.cells[0]

    class Meanwhile(FakeWork):
        def prepare(self, study, *rest):
            if study.upstream == cell.study.upstream:
                write_ok(plan.path(cell), cell.key(plan.speech))
            return super().prepare(study, *rest)

    Meanwhile(monkeypatch, broken=("fixed_init",))
    grid.run(request(tmp_path))
    assert plan.status(cell) == "ok"


def no_folds(corpus, subsets=()):
    raise NotApplicable("planted: the corpus has no phones, add alignments")


def test_a_task_that_cannot_be_is_skipped_with_its_reason(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    monkeypatch.setattr(downstream.load("phone_linear"), "folds", no_folds)
    done = grid.run(request(tmp_path))
    assert (done.num_made, done.num_failed, done.num_skipped) == (3, 0, 3)
    plan = make_plan(request(tmp_path))
    skipped = {c.task: read_cell(plan.path(c))["reason"] for c in plan.cells if plan.status(c) == "skipped"}
    assert skipped == {"phone_linear": "planted: the corpus has no phones, add alignments"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/**/*.json")}
    work.calls.clear()
    grid.run(request(tmp_path))
    assert work.calls == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/**/*.json")} == before


def budgeted(monkeypatch, probe_s: float = 1.0) -> None:
    """Every step is estimated: a preparation 10 s with all its steps, a probe ``probe_s``, of speaker a tenth."""
    parts = {"timing": 0.0, "log-Mel": 0.0, "pre-training": 8.0, "mean maps": 0.0, "extraction": 2.0}

    def estimate(plan, cells, give_up_s):
        every = {step for steps in steps_of(plan, cells).values() for step in steps}
        probes = {"phone_linear": probe_s, "speaker": probe_s / 10}
        return Estimate({s: probes[s.task] if s.kind == "probe" else parts[s.kind] for s in every})

    monkeypatch.setattr(grid, "estimate", estimate)


def test_a_budget_gives_all_upstreams_the_first_seed_first_and_the_cheaper_task(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch, prepare_s=10.0, probe_s=1.0)
    budgeted(monkeypatch)
    done = grid.run(request(tmp_path, seeds=(0, 1), budget_s=37.0))
    assert [call[:2] for call in work.of("probe")[:6]] == [
        *[(name, "speaker") for name in ("mel", "fixed_init", "fixed_patterns")],
        *[(name, "phone_linear") for name in ("mel", "fixed_init", "fixed_patterns")],
    ]
    assert all(call[2:] == (0, 0) for call in work.of("probe")[:6])
    assert done.num_made + done.num_skipped == 16
    assert not any(seed == 1 for _, seed in work.of("prepare"))
    plan = make_plan(request(tmp_path, seeds=(0, 1)))
    reasons = [read_cell(plan.path(cell))["reason"] for cell in plan.cells if plan.status(cell) == "skipped"]
    assert all(text.startswith("budget 37 s: this cell needs about") and "--budget" in text for text in reasons)
    asked = read_request(tmp_path)
    assert asked is not None
    assert asked["ended"]
    assert {cell["estimate_s"] is not None for cell in asked["cells"]} == {True}
    again = grid.run(request(tmp_path, seeds=(0, 1)))
    assert again.num_made == done.num_skipped
    assert set(statuses(plan).values()) == {"ok"}


def test_what_really_happened_corrects_the_estimates(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch, prepare_s=30.0)
    budgeted(monkeypatch)
    grid.run(request(tmp_path, budget_s=45.0))
    assert work.now_s <= 45.0, "a preparation three times as slow as expected was begun again"
    assert set(work.of("prepare")) == {("mel", 0), ("fixed_init", 0)}


@pytest.mark.parametrize("kind", ["broken", "cached"])
def test_a_preparation_that_did_no_work_sets_no_pace(kind, synthetic_tiny, tmp_path, monkeypatch):
    first = {"broken": ("fixed_init",), "cached": ("mel",)}[kind]
    work = FakeWork(monkeypatch, prepare_s=10.0, **{kind: first})
    budgeted(monkeypatch)
    monkeypatch.setattr(steps, "has_log_mel", lambda corpus, num_mels: True)
    seen = []
    monkeypatch.setattr(grid, "Budget", lambda *given, **named: seen.append(Budget(*given, **named)) or seen[-1])
    done = grid.run(request(tmp_path, upstreams=("fixed_init",), budget_s=100.0))
    paces = {Step("pre-training", "x"): 8.0, Step("extraction", "mel"): 2.0}
    seen[0].estimate.seconds |= paces
    assert all(seen[0].need_s([step]) >= seconds for step, seconds in paces.items())
    assert done.num_failed == (2 if kind == "broken" else 0)
    assert all(call[0] not in work.broken for call in work.of("probe"))


def test_a_broken_upstream_fails_even_where_its_time_would_not_fit(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch, prepare_s=10.0, broken=("fixed_init",))
    budgeted(monkeypatch)  # the second of its cells would fit only if the first had not failed
    done = grid.run(request(tmp_path, upstreams=("fixed_init",), budget_s=12.3))
    assert (done.num_made, done.num_failed, done.num_skipped) == (2, 2, 0)


def test_what_was_not_timed_is_skipped_for_that_reason(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch, prepare_s=1.0)  # much faster than it seemed: in the end there is time left
    budgeted(monkeypatch)
    grid.run(request(tmp_path, downstreams=("speaker",), budget_s=15.0))
    plan = make_plan(request(tmp_path, downstreams=("speaker",)))
    (reason,) = [read_cell(plan.path(cell))["reason"] for cell in plan.cells if plan.status(cell) == "skipped"]
    assert reason.startswith(
        "budget 15 s: its upstream was not timed, because it did not seem to fit at the start; --b"
    )


def test_a_cell_that_was_not_made_remembers_its_device(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch, broken=("fixed_init",))
    monkeypatch.setattr(plan_module, "check_device", lambda device: None)
    monkeypatch.setattr(downstream.load("phone_linear"), "folds", no_folds)
    asked = request(tmp_path, upstreams=("fixed_init",), device="cuda")
    grid.run(asked)
    plan = make_plan(asked)
    made = {plan.status(cell): command(read_cell(plan.path(cell)), tmp_path) for cell in plan.cells}
    assert set(made) == {"failed", "skipped", "ok"}
    assert all("--device cuda" in made[status] for status in ("failed", "skipped"))


@pytest.mark.parametrize("trouble", ["newer", "locked"])
def test_a_result_that_cannot_be_read_here_ends_the_run_and_stays(trouble, synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    plan = make_plan(request(tmp_path))
    path = plan.path(plan.cells[0])
    write_ok(path, plan.cells[0].key(plan.speech))
    if trouble == "newer":
        path.write_text('{"schema": 99}')
    else:
        path.unlink()
        path.mkdir()  # root may read whatever its rights are
    with pytest.raises(ValueError, match=r"has schema 99, .* update" if trouble == "newer" else "cannot be read"):
        grid.run(request(tmp_path))
    assert work.calls == []
    assert path.is_dir() or path.read_text() == '{"schema": 99}'
    path.rmdir() if trouble == "locked" else path.write_text("{")
    assert plan.status(plan.cells[0]) == "missing"


def test_a_budget_too_small_for_anything_makes_nothing_and_says_so(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    budgeted(monkeypatch)
    done = grid.run(request(tmp_path, budget_s=1.0))
    assert (done.num_made, done.num_failed, done.num_skipped) == (0, 0, 6)
    assert work.calls == []
    assert set(statuses(make_plan(request(tmp_path))).values()) == {"skipped"}


def test_the_lane_times_only_what_fits(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    budgeted(monkeypatch)
    grid.run(request(tmp_path, budget_s=2.5, downstreams=("speaker",)))
    assert work.of("time") == [("mel", "self_attention")]


def test_a_failed_cell_that_does_not_fit_keeps_its_failure(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch, broken=("fixed_init",))
    grid.run(request(tmp_path))
    FakeWork(monkeypatch)
    budgeted(monkeypatch)
    done = grid.run(request(tmp_path, budget_s=1.0))
    assert (done.num_failed, done.num_skipped) == (0, 2)
    states = statuses(make_plan(request(tmp_path)))
    assert {state for (name, *_), state in states.items() if name == "fixed_init"} == {"failed"}


def test_an_error_that_ends_a_run_is_told_in_its_request(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch)

    def no_lane(*_):
        raise OSError("planted: the lock is not to be had")

    monkeypatch.setattr(grid, "time_upstreams", no_lane)
    with pytest.raises(OSError, match="planted"):
        grid.run(request(tmp_path))
    told = status(tmp_path).splitlines()[1]
    assert "by an error while timing fixed_init, fixed_patterns, mel: OSError: planted: the lock is not to be" in told


def test_an_interrupted_run_says_what_it_was_doing(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(executors, "prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        grid.run(request(tmp_path))
    asked = read_request(tmp_path)
    assert asked is not None
    assert asked["ended"] is None
    assert asked["doing"] == "pre-training and encoding with fixed_init, seed 0"
    assert work.of("time") == [("fixed_init", "fixed_patterns", "mel", "self_attention")]


class Later(executors.Inline):
    """Tells of what it did one call later, as other processes do."""

    def __init__(self, speech):
        super().__init__(speech)
        self.asked = 0

    def ended(self, wait_s):
        self.asked += 1
        return super().ended(wait_s) if self.asked % 2 == 0 else []

    def free(self):
        return super().free() if self.asked % 2 == 0 else 0


def test_a_run_waits_for_its_own_jobs_and_not_for_others(synthetic_tiny, tmp_path, monkeypatch):
    FakeWork(monkeypatch)  # which fails when a pause is made for another process
    monkeypatch.setattr(grid, "make_executor", lambda plan: (Later(plan.speech), 1))
    assert grid.run(request(tmp_path)).num_made == 6


def test_what_another_process_is_making_is_left_to_it_and_looked_at_again(synthetic_tiny, tmp_path, monkeypatch):
    work = FakeWork(monkeypatch)
    plan = make_plan(request(tmp_path))
    theirs, paused = plan.cells[0], []
    monkeypatch.setattr(Claims, "taken", lambda self, name: not paused and name == plan.path(theirs).name)

    def finish_it(seconds):
        paused.append(seconds)
        write_ok(plan.path(theirs), theirs.key(plan.speech))

    monkeypatch.setattr(schedule, "sleep", finish_it)
    done = grid.run(request(tmp_path))
    assert (done.num_cells, done.num_made, done.num_failed) == (6, 5, 0)
    assert len(paused) == 1
    assert (theirs.study.upstream, theirs.task, 0, 0) not in work.of("probe")
