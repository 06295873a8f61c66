"""Result folders with anything in them: every cell is shown or named, and whatever reads them says so in one line."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmark_fixtures import make_cell, outcomes
from fuzz_fixtures import REFUSED, RIGHT, Target, fuzz, mutated, refusal, twisted
from hypothesis import strategies as st
from s3prl_attention.benchmark.by_length import length_csv
from s3prl_attention.benchmark.difference import difference
from s3prl_attention.benchmark.explain import explain
from s3prl_attention.benchmark.leaderboard import _csv
from s3prl_attention.benchmark.pages import markdown, terminal
from s3prl_attention.benchmark.report.page import page
from s3prl_attention.benchmark.request_file import read_request
from s3prl_attention.benchmark.result_files import read_cell, read_cells, read_utterances, write_cell, write_utterances
from s3prl_attention.benchmark.rows import rows
from s3prl_attention.benchmark.status import status
from s3prl_attention.recipes.run_files import read_log

CELL = make_cell()
CELL["scores"]["utterances"] = "cell.csv"
OTHER = make_cell(speed=1.0, cell__upstream="self_attention")
FAILED: dict[str, Any] = {**make_cell(), "status": "failed", "reason": "planted", "traceback": "x"} | dict.fromkeys(
    ("upstream", "task", "data", "pretrain", "probe", "scores", "time", "memory")
)
REQUEST = {
    "schema": 1, "command": "python run_benchmark.py", "started": "2026-01-01T00:00:00+00:00", "ended": None,
    "error": None, "process": {"pid": 1, "machine": "m", "born": "7"}, "budget_s": 60.0, "steps": {"fixed_init": 10},
    "doing": "probing", "refused": [],
    "cells": [{"upstream": "fixed_init", "downstream": "speaker", "seed": 0, "probe_seed": 0, "estimate_s": 1.0,
               "path": "cells/c/p/cell.json"}],
}  # fmt: skip
CSV = "fold,utterance,speaker,correct,total,seconds,substitutions,insertions,deletions\n" + "".join(
    f"0,u{number},s{number % 4},{number % 2},1,2.5,0,0,0\n" for number in range(20)
)


def fresh(folder: Path) -> Path:
    """An empty result folder with one good cell."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    place = out / "cells" / "c" / "p"
    place.mkdir(parents=True)
    good = {**OTHER, "scores": {**OTHER["scores"], "utterances": "other.csv"}}
    write_utterances(place / "other.csv", outcomes(0.5))
    write_cell(place / "other.json", good)
    return out


def check_cells(tree: Any, folder: Path) -> str:
    """A cell beside a good one: it is read and shown everywhere, or named as a problem, and the good one stays."""
    out = fresh(folder)
    path = out / "cells" / "c" / "p" / "cell.json"
    write_utterances(path.with_suffix(".csv"), outcomes(0.55))
    path.write_text(json.dumps(tree))
    cells, problems = read_cells(out / "cells")
    assert len(cells) + len(problems) == 2
    for line in problems:
        assert str(path) in line
        assert len(line.splitlines()) == 1
    found = rows(cells)
    assert any(row.upstream == "self_attention" for row in found)
    markdown(found, problems, "command", "", "")
    terminal(found)
    _csv(found)
    length_csv(found)
    page(found, out, problems)
    for cell in cells:
        explain(cell, cell["_path"])
        difference(cells[0], cell)
    return REFUSED if problems else RIGHT


def check_text(data: bytes, folder: Path) -> str:
    path = folder / "cell.json"
    path.write_bytes(data)
    try:
        read_cell(path)
    except ValueError as error:  # ``NoCell`` and others
        return refusal(ValueError(" ".join(str(error).split())), path)
    return RIGHT


def check_outcomes(data: bytes, folder: Path) -> str:
    path = folder / "cell.json"
    path.with_suffix(".csv").write_bytes(data)
    cell = {**CELL, "_path": path, "scores": {**CELL["scores"], "items": 20}}
    try:
        columns = read_utterances(cell)
    except BaseException as error:
        return refusal(error, path.with_suffix(".csv"))
    assert columns["total"].sum() == 20
    assert len({len(column) for column in columns.values()}) == 1
    return RIGHT


def check_request(tree: Any, folder: Path) -> str:
    out = fresh(folder)
    (out / "request.json").write_text(json.dumps(tree))
    request = read_request(out)
    try:
        status(out)
    except BaseException as error:
        return refusal(error, out)
    return REFUSED if request is None else RIGHT


def check_log(data: bytes, folder: Path) -> str:
    path = folder / "log.jsonl"
    path.write_bytes(data)
    lines = read_log(path)
    assert all(isinstance(line, dict) and isinstance(line["step"], int) for line in lines)
    return RIGHT


LOG = "".join(json.dumps({"step": step, "loss": 0.5, "step_s": 0.1}) + "\n" for step in range(1, 6))
TARGETS = [
    Target("result cells", twisted(CELL, FAILED), check_cells, quick=40),
    Target("text of cells", mutated(json.dumps(CELL, indent=2), json.dumps(FAILED)), check_text, quick=80),
    Target("outcomes", mutated(CSV), check_outcomes, quick=80),
    Target("requests", twisted(REQUEST), check_request, quick=60),
    Target("logs", st.one_of(st.just(LOG.encode()), mutated(LOG)), check_log, quick=60, both=False),
]
IDS = [target.name for target in TARGETS]


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_files(target, tmp_path):
    fuzz(target, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_many_files(target, tmp_path):
    fuzz(target, tmp_path, slow=True)


def test_spreadsheets_do_not_take_names_for_formulas():
    hostile = "=HYPERLINK(1)"
    cell = make_cell(cell__upstream=hostile)
    with contextlib.suppress(KeyError):
        cell["upstream"]["note"] = "+1"
    text = _csv(rows([{**cell, "_path": Path("x.json")}]))
    assert hostile in text
    assert f",{hostile}" not in f",{text}".replace("\n", "\n,")
