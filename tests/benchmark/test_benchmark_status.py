"""The status of a result folder, from made-up files: finished, failed, skipped, missing, running, interrupted."""

import json
import os
import platform
from datetime import datetime

import pytest
from benchmark_fixtures import failed, make_cell, save
from s3prl_attention.benchmark import durations, request_file, status
from s3prl_attention.benchmark.cli import main

NAMES = ("fixed_init", "self_attention", "xbox")
NEVER = {"pid": 1, "machine": platform.node(), "born": "never"}


def ask(out, cells, process=NEVER, **changes):
    """Write the request of a run that asked for these cells."""
    content = {
        "schema": 1,
        "command": "python run_benchmark.py --preset demo",
        "started": "2026-01-01T00:00:00+00:00",
        "ended": None,
        "process": process,
        "budget_s": None,
        "steps": dict.fromkeys(NAMES, 1000),
        "doing": "probing fixed_init",
        "cells": cells,
    }
    (out / request_file.FILE).write_text(json.dumps(content | changes))


def asked(path, out, upstream="fixed_init", downstream="speaker", seed=0, estimate_s=None):
    below = path.relative_to(out).as_posix()
    key = {"upstream": upstream, "downstream": downstream, "seed": seed, "probe_seed": 0}
    return {**key, "path": below, "estimate_s": estimate_s}


def log(out, name, seed, steps, finished=False):
    folder = out / "pretrain" / "synthetic-small" / f"{name}--seed{seed}--0123456789ab"
    folder.mkdir(parents=True)
    lines = [{"step": step, "loss": 1 / step, "elapsed_s": 0.5 * step} for step in steps]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 99')
    if finished:
        (folder / "checkpoint").mkdir()


@pytest.fixture
def half_done(tmp_path):
    """One finished cell, one failed, one skipped, three missing; one pre-training in the middle."""
    done = save(tmp_path, make_cell())
    broken = save(tmp_path, failed(cell__upstream="xbox"))
    skipped = save(
        tmp_path, {**failed("budget 1 h: no time", cell__upstream="xbox", cell__seed=1), "status": "skipped"}
    )
    missing = [tmp_path / "cells" / f"{number}.json" for number in range(3)]
    ask(
        tmp_path,
        [
            asked(done, tmp_path),
            asked(broken, tmp_path, "xbox"),
            asked(skipped, tmp_path, "xbox", seed=1),
            asked(missing[0], tmp_path, "self_attention"),
            asked(missing[1], tmp_path, "fixed_init", seed=1),
            {**asked(missing[2], tmp_path, "fixed_init"), "probe_seed": 1},
        ],
    )
    log(tmp_path, "self_attention", 0, [100, 200])
    log(tmp_path, "fixed_init", 0, [1000], finished=True)
    return tmp_path


def test_cells_are_counted_and_named(half_done):
    lines = status.status(half_done).splitlines()
    assert lines[0].endswith("6 cells asked for, 1 finished, 1 failed, 1 skipped, 3 missing")
    assert "failed: xbox on speaker, seed 0: RuntimeError: boom" in lines
    assert "skipped: xbox on speaker, seed 1, probe seed 0: budget 1 h: no time" in lines
    assert "missing: fixed_init on speaker, seed 1, probe seed 0" in lines


def test_a_pre_training_tells_step_loss_and_what_is_left(half_done):
    text = status.status(half_done)
    assert "interrupted: pre-training self_attention, seed 0: step 200 of 1000, about 6.7 min left; loss 0.005" in text
    assert "was stopped while probing fixed_init; the same command goes on" in text
    assert "pre-training fixed_init" not in text
    process = {"pid": os.getpid(), "machine": platform.node(), "born": request_file.born(os.getpid())}
    ask(half_done, json.loads((half_done / request_file.FILE).read_text())["cells"], process)
    lines = status.status(half_done).splitlines()
    assert lines[2].startswith(f"running (process {os.getpid()} on")
    assert lines[3].startswith("pre-training self_attention, seed 0: step 200 of 1000")


def test_time_left_is_counted_from_what_finished_cells_took(half_done):
    # three probes, extractions of the two upstreams and seeds without one, a pre-training, the rest of another
    expected_s = 3 * 3.5 + 2 * 2.5 + 61.2 + 400
    text = f"time left: about {durations.told(expected_s)}, by what the finished cells took"
    assert text in status.status(half_done)


def test_time_left_is_the_estimate_when_nothing_is_finished(tmp_path):
    (tmp_path / "cells").mkdir()
    cells = [asked(tmp_path / "cells" / f"{n}.json", tmp_path, estimate_s=30.0) for n in range(4)]
    ask(tmp_path, cells)
    assert "about 2.0 min at most, by the estimate before the run" in status.status(tmp_path)
    ask(tmp_path, [{**cell, "estimate_s": None} for cell in cells])
    assert "time left: not known before a cell is finished; --dry-run measures it" in status.status(tmp_path)


def age(path, started="2026-01-01T00:00:00+00:00"):
    """As if it had been written a day before a run started."""
    written_s = datetime.fromisoformat(started).timestamp() - 86_400
    os.utime(path, (written_s, written_s))


def test_a_cell_that_an_earlier_run_left_out_is_missing_until_this_one_ends(half_done):
    request = json.loads((half_done / request_file.FILE).read_text())
    for cell in request["cells"][:3]:
        age(half_done / cell["path"])
    assert "6 cells asked for, 1 finished, 0 failed, 0 skipped, 5 missing" in status.status(half_done)
    expected_s = 5 * 3.5 + 4 * 2.5 + 3 * 61.2 + 400
    assert f"time left: about {durations.told(expected_s)}, by what" in status.status(half_done)
    ask(half_done, request["cells"], refused=["speaker"])  # these it does not try
    assert "1 failed, 1 skipped, 3 missing" in status.status(half_done)
    ask(half_done, request["cells"], ended="2026-01-01T00:00:09+00:00")
    assert "1 failed, 1 skipped, 3 missing" in status.status(half_done)


def test_logs_of_earlier_runs_are_no_news(half_done):
    assert "pre-training self_attention" in status.status(half_done)
    age(next(half_done.glob("pretrain/*/self_attention*/log.jsonl")))
    assert "pre-training self_attention" not in status.status(half_done)


def test_a_run_that_ended_by_an_error_tells_it(half_done):
    cells = json.loads((half_done / request_file.FILE).read_text())["cells"]
    ask(half_done, cells, ended="2026-01-01T00:00:09+00:00", error="OSError: disk full", doing="timing xbox")
    told = status.status(half_done)
    assert "ended 2026-01-01T00:00:09+00:00 by an error while timing xbox: OSError: disk full; last change" in told


def test_the_last_change_is_told(half_done):
    newest = max(path.stat().st_mtime for path in half_done.rglob("*"))
    assert "; last change 42 s ago" in status.status(half_done, now_s=newest + 42)


def test_another_machine_is_not_taken_for_a_dead_process(half_done):
    ask(half_done, [], {"pid": 1, "machine": "elsewhere", "born": "5"})
    assert "process 1 on elsewhere is not seen from here; it last said: probing fixed_init" in status.status(half_done)


def test_nothing_is_written(half_done):
    before = {path: path.stat().st_mtime_ns for path in half_done.rglob("*")}
    status.status(half_done)
    assert {path: path.stat().st_mtime_ns for path in half_done.rglob("*")} == before


def test_an_empty_or_foreign_folder_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "photo.jpg").touch()
    for folder, what in ((tmp_path, "holds no result"), (tmp_path / "nowhere", "is no folder")):
        assert main(["--status", "--out", str(folder)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert (
            told.err
            == f"error: {folder} {what}{' of run_benchmark.py' if what[0] == 'h' else ''}: give --out a "
            + ("folder that a run has written to\n")
        )


def test_a_folder_of_an_older_version_is_counted(tmp_path):
    save(tmp_path, make_cell())
    (tmp_path / request_file.FILE).write_text("{}")
    assert "1 finished, 0 failed, 0 skipped, 0 missing; no request is stored" in status.status(tmp_path)
