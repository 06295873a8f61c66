"""The audit's command: every row is measured or said why not, nothing is measured twice, nothing finished is lost."""

import json
import subprocess
import sys

import pytest
from cost_fixtures import GREEDY_BYTES, twin  # noqa: F401 (a fixture)
from s3prl_attention.benchmark import cost, cost_file, cost_measure
from s3prl_attention.benchmark.cost_case import ATTENTION, LAYER, PHASES, TRAIN

SIZES = ["--hidden-dim", "32", "--num-heads", "8", "--rounds", "2", "--threads", "1", "--min-sample-s", "0"]
PAGES = ("cost.json", "cost.md", "cost.csv", "cost.png", "cost.svg")


def run(out, *arguments, lengths=("16", "32")):
    cost.main([*SIZES, "--out", str(out), "--lengths", *lengths, "--fit-from", "16", *arguments])


def cells(out):
    audit = json.loads((out / "cost.json").read_text())
    return {(cell["row"], cell["num_frames"]): cell for cell in audit["cells"]}


@pytest.fixture
def measured(monkeypatch):
    """Notes what is measured, and invents the numbers."""
    asked = []

    def invent(rows, num_frames, settings, orders, past, weigh_only):
        asked.append((num_frames, list(rows)))
        if num_frames == 13:
            raise KeyboardInterrupt
        time = {"samples_s": [2.0 * len(asked)], "baseline_samples_s": [1.0], "disturbed": [False], "repeats": 1}
        memory = {"peak_bytes": 1, "first_call_s": 1.0, "module_bytes": 1}
        return [
            {
                "row": row,
                "num_frames": num_frames,
                "time": {} if weigh_only else {phase: {**time, "interleaved_with": []} for phase in PHASES},
                "timed": not weigh_only,
                "memory": dict.fromkeys(PHASES, memory),
                "problems": {},
            }
            for row in rows
        ]

    monkeypatch.setattr(cost, "measure_length", invent)
    return asked


def test_every_row_is_measured_or_says_why_not(twin, tmp_path, capsys):  # noqa: F811
    run(tmp_path, "--upstream", "twin", "fixed_init", lengths=("16",))
    found = cells(tmp_path)
    rows = ["self_attention", "twin", "twin[broken]", "twin[deadly]", "twin[greedy]", "fixed_init"]
    assert set(found) == {(row, 16) for row in rows}
    for (row, _), cell in found.items():
        sound = {"twin[broken]": (), "twin[deadly]": (ATTENTION, LAYER)}.get(row, PHASES)
        assert set(cell["time"]) == set(sound), row
        assert set(cell["problems"]) == set(PHASES) - set(sound), row
        for time in cell["time"].values():
            assert len(time["samples_s"]) == len(time["baseline_samples_s"]) == len(time["disturbed"]) == 2
            assert min(time["samples_s"]) > 0
            assert {"self_attention", row} <= set(time["interleaved_with"])
    for phase in PHASES:
        base = found["self_attention", 16]["time"][phase]["samples_s"]
        assert found["fixed_init", 16]["time"][phase]["baseline_samples_s"] == base
        assert found["fixed_init", 16]["time"][phase]["samples_s"] != base
    assert set(found["twin[broken]", 16]["problems"].values()) == {"RuntimeError: broken on purpose"}
    assert "its process died (exit code 9)" in found["twin[deadly]", 16]["problems"][TRAIN]
    assert found["twin", 16]["memory"][LAYER]["peak_bytes"] < found["twin[greedy]", 16]["memory"][LAYER]["peak_bytes"]
    facts = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert facts["twin[greedy]"]["order"] == "n"
    assert facts["twin"]["order"] == "n^2"
    assert facts["twin"]["macs"]["4096"] == 7 * 4096
    page = (tmp_path / "cost.md").read_text()
    assert "- twin\\[broken\\] at 16, attention forward, layer forward, layer forward+backward: RuntimeError" in page
    assert capsys.readouterr().out == f"written: {', '.join(str(tmp_path / name) for name in PAGES)}\n"

    before = {name: (tmp_path / name).read_bytes() for name in PAGES}
    for name in PAGES[1:]:
        (tmp_path / name).unlink()
    cost.main(["--report", str(tmp_path)])
    assert before == {name: (tmp_path / name).read_bytes() for name in PAGES}


def test_the_same_command_measures_only_what_is_missing(measured, tmp_path):
    run(tmp_path, "--upstream", "fixed_init")
    first = cells(tmp_path)
    run(tmp_path, "--upstream", "fixed_init", lengths=("64", "16", "32"))
    run(tmp_path, "--upstream", "fixed_init", lengths=("16", "32", "64"))
    run(tmp_path, "--upstream", "synthesizer_random", lengths=("16",))
    both = ["self_attention", "fixed_init"]
    assert measured == [(16, both), (32, both), (64, both), (16, ["synthesizer_random"])]
    now = cells(tmp_path)
    assert len(now) == 7
    assert all(now[key] == cell for key, cell in first.items())
    audit = json.loads((tmp_path / "cost.json").read_text())
    assert len(audit["runs"]) == 3  # the third measured nothing
    runs = [now[key]["run"] for key in (("fixed_init", 16), ("fixed_init", 64), ("synthesizer_random", 16))]
    assert runs == [0, 1, 2]


def test_what_was_weighed_is_timed_later_and_not_weighed_again(tmp_path):
    run(tmp_path, "--upstream", "fixed_init", "--weigh-only")
    before = cells(tmp_path)
    assert all(set(cell["memory"]) == set(PHASES) and not cell["time"] for cell in before.values())
    assert "- fixed_init at 16, 32: weighed, not timed yet" in (tmp_path / "cost.md").read_text()
    run(tmp_path, "--upstream", "fixed_init", "--weigh-only")
    assert cells(tmp_path) == before
    run(tmp_path, "--upstream", "fixed_init")
    after = cells(tmp_path)
    assert set(after) == set(before)
    for key, cell in after.items():
        assert set(cell["time"]) == set(PHASES)
        assert cell["timed"]
        assert cell["memory"] == before[key]["memory"], "weighed twice: no two first calls take the same time"


def test_what_a_busy_machine_had_no_memory_for_is_weighed_again(twin, tmp_path, monkeypatch):  # noqa: F811
    with monkeypatch.context() as busy:
        busy.setattr(cost_measure, "available_bytes", lambda: GREEDY_BYTES * 3 // 4)
        run(tmp_path, "--upstream", "twin[greedy]", "--weigh-only", lengths=("64",))
    full = cells(tmp_path)
    assert full["twin[greedy]", 64]["problems"] == dict.fromkeys(PHASES, "out of memory: needs more than 0.1 GB")
    assert full["self_attention", 64]["problems"] == {}
    run(tmp_path, "--upstream", "twin[greedy]", lengths=("64",))
    now = cells(tmp_path)
    assert all(cell["problems"] == {} for cell in now.values())
    assert all(set(cell["memory"]) == set(cell["time"]) == set(PHASES) for cell in now.values())
    assert now["self_attention", 64]["memory"] == full["self_attention", 64]["memory"]


def test_weighing_anew_keeps_measured_times_until_there_are_newer_ones(measured, tmp_path, monkeypatch):
    run(tmp_path, "--upstream", "fixed_init")
    old = cells(tmp_path)
    monkeypatch.setattr(cost_file, "source_hash", lambda name: "new")
    for _ in range(2):  # the second has nothing to do
        run(tmp_path, "--upstream", "fixed_init", "--weigh-only")
        audit = json.loads((tmp_path / "cost.json").read_text())
        assert [cell["time"] for cell in audit["cells"] if cell["timed"]] == [cell["time"] for cell in old.values()]
        assert len(audit["cells"]) == 8
        assert len(audit["runs"]) == 2
    assert all(cell["timed"] for row in audit["rows"] for cell in cost_file.cells_of(audit, row).values())
    page = (tmp_path / "cost.md").read_text()
    assert "- fixed_init at 16, 32: measured with older code" in page
    past = cost_file.past_cells(audit, 64)
    assert sorted((cell["row"], cell["num_frames"], cell["timed"]) for cell in past) == [
        (row, num_frames, False) for row in ("fixed_init", "self_attention") for num_frames in (16, 32)
    ]
    run(tmp_path, "--upstream", "fixed_init")
    new = json.loads((tmp_path / "cost.json").read_text())["cells"]
    assert len(new) == 4
    assert all(cell["timed"] and cell["source_hash"] == "new" for cell in new)


def test_a_stop_loses_no_finished_length(measured, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, "--upstream", "fixed_init", lengths=("12", "13"))
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert set(cells(tmp_path)) == {("self_attention", 12), ("fixed_init", 12)}


HOLDER = """
import sys
from pathlib import Path
from s3prl_attention.benchmark.claims import claims_of
with claims_of(Path(sys.argv[1])).hold("cost.json") as ours:
    print(ours, flush=True)
    sys.stdin.readline()
"""


def test_two_audits_do_not_write_one_file(measured, tmp_path):
    pytest.importorskip("fcntl", reason="claims are POSIX locks")
    run(tmp_path, "--upstream", "fixed_init", lengths=("16",))
    before = (tmp_path / "cost.json").read_bytes()
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with pytest.raises(SystemExit, match=f"^error: another audit is measuring into {tmp_path}: wait for its end"):
            run(tmp_path, "--upstream", "fixed_init")
        assert (tmp_path / "cost.json").read_bytes() == before
        other.communicate("\n")
    run(tmp_path, "--upstream", "fixed_init")
    assert measured == [(number, ["self_attention", "fixed_init"]) for number in (16, 32)]


def test_changed_code_is_measured_anew(measured, tmp_path, monkeypatch):
    run(tmp_path, "--upstream", "fixed_init")
    old = cells(tmp_path)["fixed_init", 16]["time"]
    monkeypatch.setattr(cost_file, "source_hash", lambda name: f"new {name == 'fixed_init'}")
    run(tmp_path, "--upstream", "fixed_init", lengths=("16",))
    assert measured[-1] == (16, ["self_attention", "fixed_init"])
    new = cells(tmp_path)
    assert new["fixed_init", 16]["time"] != old
    assert len(new) == 4


def test_other_settings_are_refused_and_nothing_is_lost(measured, tmp_path):
    run(tmp_path, "--upstream", "fixed_init")
    before = (tmp_path / "cost.json").read_bytes()
    with pytest.raises(SystemExit, match=r"^error: .* measured with hidden_dim=32, rounds=2: give the same"):
        run(tmp_path, "--hidden-dim", "64", "--rounds", "3")
    assert (tmp_path / "cost.json").read_bytes() == before


def test_times_of_another_pytorch_are_not_put_beside_the_old_ones(measured, tmp_path):
    run(tmp_path, "--upstream", "fixed_init", lengths=("16",))
    audit = json.loads((tmp_path / "cost.json").read_text())
    audit["runs"][0]["environment"]["packages"]["torch"] = "1.0"
    (tmp_path / "cost.json").write_text(json.dumps(audit))
    with pytest.raises(SystemExit, match=r"^error: .* measured with torch=1.0: give the same options, on the same"):
        run(tmp_path, "--upstream", "fixed_init")
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--upstream", "fixed"], "unknown upstream 'fixed': did you mean 'fixed_init'"),
        (["--upstream", "fixed_init[fast]"], r"unknown row 'fixed_init\[fast\]': fixed_init has no variant 'fast'"),
        (["--lengths", "16", "0"], "--lengths must be at least 1, got 0"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--num-heads", "5"], "hidden_dim must be even and a multiple of num_heads"),
        (["--max-case-s", "-1"], "--max-case-s must not be negative"),
    ],
)
def test_a_wrong_request_is_one_line(measured, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        run(tmp_path, *arguments)
    assert not measured
    assert not list(tmp_path.iterdir())


KEYS = ("baseline", "fit_from", "settings", "runs", "rows")
CELLS = ([{}], [dict.fromkeys(cost_file.CELL_KEYS, 0)], [0], [])
DAMAGED = [json.dumps({"schema": 1, **{key: {} for key in KEYS}, "cells": cells}) for cells in CELLS]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema": 2}', '{"schema": 1, "rows": {}}', *DAMAGED])
def test_a_file_that_is_no_audit_is_named(measured, tmp_path, content):
    if content is not None:
        (tmp_path / "cost.json").write_text(content)
    with pytest.raises(SystemExit, match=r"^error: .*cost.json is not a readable audit"):
        cost.main(["--report", str(tmp_path)])
    if content is not None:
        with pytest.raises(SystemExit, match=r"^error: .*cost.json is not a readable audit"):
            run(tmp_path, "--upstream", "fixed_init")
        assert (tmp_path / "cost.json").read_text() == content


def test_an_upstream_that_cannot_be_imported_is_told_and_the_others_go_on(twin, measured, tmp_path):  # noqa: F811
    (tmp_path / "site" / "cost_twin" / "attention.py").write_text("raise RuntimeError('no luck')")
    run(tmp_path / "out", "--upstream", "twin", "fixed_init", lengths=("16",))
    assert measured == [(16, ["self_attention", "fixed_init"])]
    assert "- twin: the upstream 'twin' cannot be imported" in (tmp_path / "out" / "cost.md").read_text()


def test_the_default_is_every_upstream(measured, tmp_path):
    from s3prl_attention.upstream import names

    run(tmp_path, lengths=("16",))
    told = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert {row.partition("[")[0] for row in told} == set(names())
