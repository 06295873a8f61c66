"""leaderboard.html as text: everything that the other pages have, nothing that asks a network, whatever is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from benchmark_fixtures import failed, fill, make_cell, outcomes, read, save
from cost_fixtures import invented_audit
from report_fixtures import fill_all, save_analysis, save_audit, write_log
from s3prl_attention.benchmark import leaderboard
from s3prl_attention.benchmark.columns import COLUMNS, columns
from s3prl_attention.benchmark.facts import facts, reading, remarks
from s3prl_attention.benchmark.leaderboard import main
from s3prl_attention.benchmark.plot import Point
from s3prl_attention.benchmark.report import curves
from s3prl_attention.benchmark.report.attention import analyses
from s3prl_attention.benchmark.report.audit import find_audit
from s3prl_attention.benchmark.report.axes import Axis, horizontal
from s3prl_attention.benchmark.report.curves import MOST_POINTS, groups
from s3prl_attention.benchmark.report.names import GAP, Name, place
from s3prl_attention.benchmark.report.page import page
from s3prl_attention.benchmark.report.scatter import front
from s3prl_attention.benchmark.report.styles import styles
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.benchmark.rows import by_table, rows

VOID = {"meta", "link", "br", "wbr", "img", "input", "circle", "path"}


class Reader(HTMLParser):
    """The texts of a page, its rows (texts of their cells) and its attributes; its tags must fit together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("result")
    fill_all(folder)
    return folder


@pytest.fixture(scope="module")
def made(out: Path) -> Reader:
    return Reader(
        page(read(out), out, ["cells/broken.json is not readable"], "python run_benchmark.py", "Unfinished: 2")
    )


def show(out: Path) -> Reader:
    """What a page made of a folder has, its cells all readable."""
    return Reader(page(read(out), out))


def test_every_number_of_the_other_pages_is_there(out: Path, made: Reader):
    shown = [[cell.replace(" ", "") for cell in row] for row in made.rows]
    told = {text.strip() for text in made.texts}
    for table in by_table(read(out)):
        for row in table:
            if table[0].score is None:
                assert [row.label, row.status, (row.reason or "").replace(" ", "")] in [line[:3] for line in shown]
            else:
                texts = [column.text(row).replace(" ", "") for column in columns(table)]
                assert texts in [[*line[:2], *line[3:-1]] for line in shown]  # but for intervals and files
        if table[0].score is not None:
            assert {*reading(table), *remarks(table), *facts(table)} <= told
    assert {"Unfinished: 2", "cells/broken.json is not readable", *(column.title for column in COLUMNS)} <= told


def test_nothing_in_it_has_an_address_elsewhere_and_links_lead_somewhere(out: Path, made: Reader):
    addresses = [(tag, value) for tag, name, value in made.attributes if name in ("href", "src", "action", "srcset")]
    links = {value for tag, value in addresses if tag == "a" and not value.startswith("#")}
    pages = {"leaderboard.md", "leaderboard.csv", "leaderboard_by_length.csv"}
    assert all((out / unquote(link)).exists() for link in links - pages)
    assert len([link for link in links if link.startswith("cells/synthetic-small/demo/")]) == 19
    anchors = {value for _, name, value in made.attributes if name == "id"}
    assert {value[1:] for tag, value in addresses if tag == "a" and value.startswith("#")} <= anchors
    assert all(value.startswith("data:") for tag, value in addresses if tag != "a")
    names = [name for _, name, _ in made.attributes]
    assert not any(name == "style" or name.startswith("on") for name in names)  # the policy would forbid them


def test_names_are_escaped_and_odd_ones_link_to_their_file(tmp_path: Path):
    name = "s3prl:a<b>&\"'"
    save(tmp_path, make_cell(cell__upstream=name, cell__downstream="50% <i>", task__split="\x1b[31m\u202ered"))
    text = page(read(tmp_path), tmp_path)
    assert '<b>&"' not in text
    assert "<i>" not in text
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    found = Reader(text)
    assert name in [cell for row in found.rows for cell in row]
    (link,) = {value for tag, _, value in found.attributes if tag == "a" and value.startswith("cells/synth")}
    assert (tmp_path / unquote(link)).is_file()


def test_the_page_is_made_of_the_folder_alone(out: Path, tmp_path: Path):
    shutil.copytree(out, tmp_path / "other")
    assert page(read(out), out) == page(read(tmp_path / "other"), tmp_path / "other")


def spoil_audit(content: str):
    return lambda out: (out / "cost" / "cost.json").write_text(content)


def spoil_analysis(**changes):
    return lambda out: save_analysis(out, **changes)


NO_AUDIT = dict.fromkeys(("baseline", "fit_from", "settings", "runs", "rows", "cells"), 0)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_audit("{"), "cost/cost.json is not a readable audit"),
        (spoil_audit(json.dumps({"schema": 1, **NO_AUDIT})), "cost/cost.json is not a readable audit ('int' object"),
        (
            spoil_audit(json.dumps({**invented_audit({"self_attention": 2.0}), "cells": []})),
            "cost/cost.json is not a readable audit (it has no cells)",
        ),
        (spoil_audit(json.dumps({**invented_audit({"self_attention": 2.0}), "rows": 0})), "cost/cost.json: TypeError"),
        (spoil_analysis(schema=2), "attention/synthetic-small/demo/self_attention--seed0/analysis.json is no readable"),
        (spoil_analysis(cases={}), "is no readable analysis (KeyError: 'by_layer'): make it again"),
        (spoil_analysis(table=3), "is no readable analysis (TypeError"),
    ],
)
def test_what_cannot_be_read_is_told_and_the_rest_is_shown(spoil, told: str, tmp_path: Path):
    fill(tmp_path)
    save_audit(tmp_path)
    save_analysis(tmp_path)
    spoil(tmp_path)
    found = show(tmp_path)
    assert told in "".join(found.texts)
    assert str(tmp_path) not in "".join(found.texts)
    assert len([row for row in found.rows if row[0] == "fixed_init"]) > 0


def test_nothing_but_cells_is_enough_and_not_even_these(tmp_path: Path):
    assert "No finished cell yet." in "".join(show(tmp_path).texts)
    save(tmp_path, failed("no corpus"))
    assert ["fixed_init", "failed", "no corpus", "JSON "] in show(tmp_path).rows
    fill(tmp_path)
    ids = [value for _, name, value in show(tmp_path).attributes if name == "id"]
    assert not {"cost", "attention", "overview"} & set(ids)


@pytest.mark.parametrize("loss", ["NaN", "null", '"low"', "{}"])
def test_a_log_whose_held_out_loss_is_no_number_is_named(loss: str, tmp_path: Path):
    save(tmp_path, make_cell(pretrain__log="log.jsonl"))
    line = f'{{"step": 1, "loss": 0.5, "elapsed_s": 1, "valid_loss": {loss}}}'
    (tmp_path / "log.jsonl").write_text(line + "\n")
    assert any(text.startswith("No readable log of fixed_init, seed 0") for text in show(tmp_path).texts)


def test_logs_that_are_missing_or_damaged_are_named(tmp_path: Path):
    for number, name in enumerate(("self_attention", "fixed_init", "uniform")):
        save(tmp_path, make_cell(cell__upstream=name, pretrain__log=f"pretrain/{name}.jsonl"), digest=str(number))
    write_log(tmp_path / "pretrain" / "self_attention.jsonl")
    (tmp_path / "pretrain" / "uniform.jsonl").write_text('{"step": 1, "loss": NaN, "elapsed_s": 1}\n')
    found = show(tmp_path)
    told = (
        "No readable log of fixed_init, seed 0 (pretrain/fixed_init.jsonl); uniform, seed 0 (pretrain/uniform.jsonl)."
    )
    assert told in found.texts
    assert [value for _, name, value in found.attributes if name == "class" and value.startswith("curve ")] == [
        "curve k1",
        "curve k1",
    ]


def test_curves_are_those_of_the_logs_and_many_points_are_averaged(tmp_path: Path):
    save(tmp_path, make_cell(pretrain__log="short.jsonl"))
    save(tmp_path, make_cell(cell__upstream="uniform", pretrain__log="long.jsonl", pretrain__valid_loss=0.3))
    write_log(tmp_path / "short.jsonl", num_lines=4)
    write_log(tmp_path / "long.jsonl", num_lines=3 * MOST_POINTS - 1)
    found = read(tmp_path)
    (group,) = groups(found, tmp_path, styles(row.label for row in found))
    assert group.averaged
    assert [entry.label for entry in group.legend] == ["uniform", "fixed_init"]  # the best first
    for plot in group.plots:
        by_label = {curve.label: re.findall(r"[\d.]+ [\d.]+", curve.path) for curve in plot.curves}
        assert (len(by_label["fixed_init"]), len(by_label["uniform"])) == (4, MOST_POINTS)
    steps, seconds = group.plots
    assert not steps.x_label.endswith("logarithmic")
    assert seconds.x_label.endswith("logarithmic")  # one took many times as long
    x, y = np.array([place.split() for place in by_label["uniform"]], float).T
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()  # downwards
    assert y[-1] > y[0] + 100


def test_a_point_of_a_curve_is_the_mean_over_its_span(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(curves, "MOST_POINTS", 2)
    lines = [{"step": step, "loss": float(step)} for step in (1, 2, 3, 4, 5)]
    steps, losses = curves._averaged(lines, "step")
    assert (steps.tolist(), losses.tolist()) == ([3, 5], [2.0, 4.5])


def test_other_ways_to_pretrain_are_other_pictures(tmp_path: Path):
    for number, steps in enumerate((1000, 2000)):
        changes = {"pretrain__log": f"{steps}.jsonl", "config__pretrain": {"steps": steps}}
        save(tmp_path, make_cell(**changes), digest=f"d{number}")
        write_log(tmp_path / f"{steps}.jsonl")
    cells, _ = read_cells(tmp_path / "cells")
    found = rows(cells)
    one, two = groups(found, tmp_path, styles(row.label for row in found))
    assert {one.apart, two.apart} == {"pretrain.steps (here 1000)", "pretrain.steps (here 2000)"}


def test_the_front_is_what_nothing_beats_in_both():
    places = {
        "slow and best": (9, 70),
        "fast": (1, 50),
        "as fast, worse": (1, 40),
        "beaten": (5, 45),
        "better": (4, 60),
    }
    points = [Point(label, *place) for label, place in {**places, "as good, slower": (6, 60)}.items()]
    assert [point.label for point in front(points, True)] == ["fast", "better", "slow and best"]
    assert [point.label for point in front(points, False)] == ["as fast, worse"]


@pytest.mark.parametrize(
    ("axis", "texts"),
    [
        (horizontal(0, 1200), ["0", "200", "400", "600", "800", "1,000", "1,200"]),
        (horizontal(0.43, 0.62), ["0.45", "0.5", "0.55", "0.6"]),
        (horizontal(3, 250, logarithmic=True), ["5", "10", "20", "50", "100", "200"]),
        (horizontal(1e-3, 1e4, logarithmic=True), ["0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000"]),
    ],
)
def test_ticks_are_round_and_on_the_axis(axis: Axis, texts: list[str]):
    ticks = axis.ticks()
    assert [tick.text for tick in ticks] == texts
    assert all(axis.start <= tick.place <= axis.end for tick in ticks)
    assert [tick.place for tick in ticks] == axis.places([float(text.replace(",", "")) for text in texts])
    assert axis.places([axis.low, axis.high]) == [axis.start, axis.end]


def test_names_stand_beside_their_points_and_never_over_anything():
    taken = np.array([[300.0, 90.0, 320.0, 110.0]])
    here, there = (290.0, 100.0), (200.0, 200.0)
    found = place([("first", [here]), ("second", [here, there]), ("third", [here]), ("long" * 20, [there])], taken)
    assert found["first"] == Name(290 - GAP, 100, "end")  # right of it something is
    assert found["second"] == Name(200 + GAP, 200, "start")
    assert set(found) == {"first", "second"}  # no room for the others


def test_an_audit_is_worked_out_again_when_its_file_changes(tmp_path: Path):
    assert find_audit(tmp_path) is None
    save_audit(tmp_path)
    before = find_audit(tmp_path)
    assert before is find_audit(tmp_path)
    assert before is not None
    assert [entry.label for entry in before.legend] == ["uniform", "self_attention"]
    path = tmp_path / "cost" / "cost.json"
    audit = json.loads(path.read_text())
    path.write_text(json.dumps({**audit, "runs": [{**audit["runs"][0], "command": "another"}]}))
    after = find_audit(tmp_path)
    assert after is not None
    assert after.commands == ["another"]


def test_an_analysis_has_its_cases_heads_and_pictures(tmp_path: Path):
    folder = save_analysis(tmp_path)
    (found,), problems = analyses(tmp_path)
    assert problems == []
    assert found.title == "Self-attention on synthetic-small, preset demo, seed 0"
    assert found.cases == [["layer", "near-diagonal", "flat"], ["1", "0", "2"], ["2", "1", "1"]]
    assert found.columns == ["layer", "head", "case", "detail", "globalness"]
    assert [cell.text for cell in found.table[3]] == ["2", "1", "flat", "-", "2.00"]
    there, lost = found.pictures
    assert there.address is not None
    assert there.address.startswith("data:image/png;base64,iVBOR")
    assert there.size == (1, 1)
    assert (lost.address, lost.title) == (None, "What was lost: lost.png is not there, or neither PNG nor SVG")
    (folder.parent / "outside.png").write_bytes(b"secret")
    save_analysis(tmp_path, pictures=[{"file": "../outside.png", "title": "T", "alt": ""}])
    assert analyses(tmp_path)[0][0].pictures[0].address is None  # only what stands beside it


def test_the_command_writes_the_pages_again(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(leaderboard, "picture", lambda rows: b"")
    fill(tmp_path)
    cell = {"upstream": "mel", "downstream": "speaker", "seed": 0, "probe_seed": 0, "path": "cells/not-made.json"}
    request = {
        "schema": 1, "command": "python run_benchmark.py", "started": "2026-01-01", "ended": None, "budget_s": None,
        "process": {"pid": 1, "machine": "m", "born": None}, "steps": {}, "doing": None,
        "cells": [{**cell, "estimate_s": None}],
    }  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    main(["--out", str(tmp_path)])
    assert f"written: {tmp_path / 'leaderboard.html'}, " in capsys.readouterr().out
    for name in ("leaderboard.html", "leaderboard.md"):
        text = (tmp_path / name).read_text()
        assert "Unfinished: 1 of the 1 cells that were asked for" in text
        assert "python run_benchmark.py" in text
    with pytest.raises(SystemExit, match="holds no result"):
        main(["--out", str(tmp_path / "nowhere")])


def test_many_rows_and_long_logs_stay_small(tmp_path: Path):
    for number in range(40):
        name = f"upstream_number_{number}"
        cell = make_cell(speed=0.5 + number / 50, cell__upstream=name, pretrain__log=f"{number}.jsonl")
        save(tmp_path, cell, digest=str(number), lines=outcomes(0.55, per_speaker=5))
        if number < 10:
            write_log(tmp_path / f"{number}.jsonl", num_lines=400)
    text = page(read(tmp_path), tmp_path)
    assert len(text) < 200_000  # ten times as many stay below 2 MB
