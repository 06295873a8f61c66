"""The audit's pages say what the raw samples say, and the picture names every row without overlap."""

import csv
import io
from itertools import pairwise

import numpy as np
import pytest
from cost_fixtures import LENGTHS, invented_audit
from s3prl_attention.benchmark.cost_case import ATTENTION, LAYER, PHASES, TRAIN
from s3prl_attention.benchmark.cost_plot import draw, figure, spread
from s3prl_attention.benchmark.cost_report import csv_text, markdown, write_report

POWERS = {"self_attention": 2.0, "linear": 1.0, "between[odd]": 1.5}


def table(page: str, heading: str) -> dict[str, dict[str, str]]:
    """Row -> column -> text of the first table below a heading."""
    lines = page[page.index(f"## {heading}") :].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    end = next((i for i, row in enumerate(rows[2:], 2) if row[0] == "upstream"), len(rows))
    return {row[0].replace("\\", ""): dict(zip(rows[0], row, strict=True)) for row in rows[2:end]}


@pytest.fixture
def audit():
    return invented_audit(POWERS)


def lose(audit: dict, row: str, num_frames: int, problem: str, phases=PHASES) -> None:
    cell = next(c for c in audit["cells"] if (c["row"], c["num_frames"]) == (row, num_frames))
    for phase in phases:
        cell["problems"][phase] = problem
        del cell["time"][phase], cell["memory"][phase]


def test_the_summary_has_every_row_with_what_its_samples_say(audit):
    summary = table(markdown(audit), "Summary")
    assert list(summary) == ["self_attention", "between[odd]", "linear"]
    linear = summary["linear"]
    assert linear["declared order"] == "n^1"
    assert linear["fitted exponent"].startswith("1.00 (")
    assert summary["between[odd]"]["fitted exponent"].startswith("1.50 (")
    assert (linear["MACs at 1024"], linear["MACs at 4096"]) == ("1.02 G", "4.1 G")
    assert linear["layer forward at 4096, ratio"] == "0.25 (0.25 to 0.25)"
    assert summary["between[odd]"]["layer forward+backward at 4096, ratio"] == "0.50 (0.50 to 0.50)"
    assert linear["crossover"] == "2048"  # as long as the baseline at 1024
    assert summary["self_attention"]["crossover"] == "is the baseline"
    assert linear["memory exponent"] == "1.00 ± 0.00"
    assert linear["peak MB at 4096, attention"] == "8"
    assert linear["peak MB at 4096, layer forward+backward"] == "40"
    assert linear["parameters MB"] == "9"


def test_a_length_that_was_not_asked_for_is_told(audit):
    assert "Everything was." in markdown(audit)
    longest = max(cell["num_frames"] for cell in audit["cells"])
    audit["cells"] = [c for c in audit["cells"] if (c["row"], c["num_frames"]) != ("linear", longest)]
    page = markdown(audit)
    assert f"- linear at {longest}: not asked for" in page
    assert "Everything was." not in page


def test_the_exponent_is_that_of_the_attention_alone_from_the_length_asked_for(audit):
    for cell in audit["cells"]:
        if cell["num_frames"] < audit["fit_from"]:  # overhead, not growth
            cell["time"][ATTENTION]["samples_s"] = [1.0, 1.0, 1.0]
        cell["time"][LAYER]["samples_s"] = [1.0, 1.0, 1.0]
    assert table(markdown(audit), "Summary")["linear"]["fitted exponent"].startswith("1.00 (")
    audit["fit_from"] = LENGTHS[-1]
    assert table(markdown(audit), "Summary")["linear"]["fitted exponent"] == "-"


def test_what_could_not_be_measured_is_said_in_its_place(audit):
    lose(audit, "linear", 4096, "out of memory: needs about 31.0 GB", (TRAIN,))
    lose(audit, "between[odd]", 4096, "RuntimeError: a | b")
    audit["rows"]["gone"] = {**audit["rows"]["linear"], "order": "", "macs": {}, "problem": "cannot be imported"}
    page = markdown(audit)
    summary = table(page, "Summary")
    assert summary["linear"]["layer forward+backward at 4096, ratio"] == "out of memory: needs about 31.0 GB"
    assert summary["linear"]["layer forward at 4096, ratio"] == "0.25 (0.25 to 0.25)"
    assert summary["between[odd]"]["layer forward at 4096, ratio"] == "failed, see below"
    assert summary["between[odd]"]["crossover"] == "2048 (measured up to 2048)"
    assert summary["gone"]["fitted exponent"] == "-"
    assert table(page, "Layer forward+backward")["linear"]["4096"] == "out of memory: needs about 31.0 GB"
    assert "- linear at 4096, layer forward+backward: out of memory: needs about 31.0 GB\n" in page
    assert f"- between\\[odd\\] at 4096, {', '.join(PHASES)}: RuntimeError: a \\| b\n" in page
    assert "- gone: cannot be imported\n" in page


def test_none_up_to_the_longest_when_it_never_wins(audit):
    for cell in audit["cells"]:
        if (cell["row"], cell["num_frames"]) == ("linear", 4096):
            cell["time"][LAYER]["samples_s"] = [9.0, 9.0, 9.0]
    assert table(markdown(audit), "Summary")["linear"]["crossover"] == "none up to 4096"


def test_each_phase_has_all_lengths(audit):
    page = markdown(audit)
    for phase, factor in zip(PHASES, (1, 2, 6), strict=True):
        times = table(page, f"{phase[0].upper()}{phase[1:]}:")
        assert list(times) == ["self_attention", "between[odd]", "linear"]
        assert times["linear"]["512"] == f"{factor * 6.5:.3g} (2.00)"
        assert times["linear"]["2048"] == f"{factor * 26:.3g} (0.50)"


def test_the_page_says_how_it_was_made(audit):
    page = markdown(audit)
    for part in ("python -m s3prl", "A CPU", "commit 0123456789ab.", "D 768, 12 heads", "3 rounds", "9 of 108 samples"):
        assert part in page, part
    audit["runs"][0]["environment"]["git_dirty"] = True
    assert "0123456789ab with local changes" in markdown(audit)


def test_the_page_names_the_code_of_every_run_that_has_cells(audit):
    (first,) = audit["runs"]
    audit["runs"] += [{**first, "environment": {**first["environment"], "git_commit": c * 12}} for c in "ab"]
    audit["cells"][0]["run"] = 2
    told = [line for line in markdown(audit).splitlines() if line.startswith("on A CPU")]
    assert [line.partition("commit ")[2] for line in told] == ["0123456789ab.", "bbbbbbbbbbbb."]


def test_the_csv_has_a_line_for_each_row_length_and_phase(audit):
    lose(audit, "linear", 4096, "out of memory: needs about 31.0 GB", (TRAIN,))
    lines = list(csv.DictReader(io.StringIO(csv_text(audit))))
    assert len(lines) == len(POWERS) * len(LENGTHS) * len(PHASES)
    found = {(line["upstream"], line["num_frames"], line["phase"]): line for line in lines}
    assert float(found["linear", "2048", LAYER]["ratio_median"]) == pytest.approx(0.5)
    assert float(found["linear", "2048", ATTENTION]["median_s"]) == pytest.approx(0.026)
    assert found["linear", "512", LAYER]["disturbed"] == "1"
    lost = found["linear", "4096", TRAIN]
    assert (lost["median_s"], lost["peak_bytes"], lost["problem"]) == ("", "", "out of memory: needs about 31.0 GB")


def test_pages_of_an_audit_without_the_usual_lengths(tmp_path):
    audit = invented_audit(POWERS, lengths=(16, 32))
    write_report(tmp_path, audit)
    assert "layer forward at 32, ratio" in (tmp_path / "cost.md").read_text()
    lose(audit, "self_attention", 16, "broken")
    lose(audit, "self_attention", 32, "broken")
    for cell in audit["cells"]:
        for time in cell["time"].values():
            time["baseline_samples_s"] = []
    write_report(tmp_path, audit)
    summary = table((tmp_path / "cost.md").read_text(), "Summary")
    assert summary["linear"]["layer forward at 32, ratio"] == "-"
    assert summary["linear"]["crossover"] == "-"


# --- the picture


def test_every_row_is_named_once_a_panel_and_no_names_overlap():
    powers = {"self_attention": 2.0} | {f"row_{i}[some]": 1 + 0.02 * (i % 7) for i in range(26)}
    drawn = figure(invented_audit(powers))
    for axis in drawn.axes:
        labels = [text for text in axis.texts if text.get_text() in powers]
        assert sorted(label.get_text() for label in labels) == sorted(powers)
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        overlaps = [(a, b) for a, b in pairwise(boxes) if b.y0 < a.y1 - 1]
        assert not overlaps
        leaders = [line.get_ydata()[-1] for line in axis.lines if line.get_xdata()[0] < 1.1 < line.get_xdata()[-1] < 2]
        assert sorted(leaders) == sorted(label.get_position()[1] for label in labels)
        assert all(box.x0 >= 0 and box.x1 <= drawn.bbox.width for box in boxes)


def test_lines_of_a_family_share_a_colour_and_differ_otherwise():
    audit = invented_audit({"self_attention": 2.0, "a": 1.0, "b": 1.1, "c": 1.2})
    audit["rows"]["c"]["family"] = "lsh"
    plotted = {line.get_label(): line for line in figure(audit).axes[0].lines}
    looks = {
        name: (plotted[name].get_color(), plotted[name].get_linestyle(), plotted[name].get_marker()) for name in "abc"
    }
    assert looks["a"][0] == looks["b"][0] != looks["c"][0]
    assert looks["a"][1:] != looks["b"][1:]
    assert plotted["self_attention"].get_color() == "black"
    assert plotted["b"].get_ydata() == pytest.approx([13.0 * (n / 1024) ** 1.1 for n in LENGTHS])


def test_the_picture_is_the_same_for_the_same_audit(audit):
    first, second = draw(audit), draw(audit)
    assert first == second
    assert first["cost.png"].startswith(b"\x89PNG")
    assert b"<svg" in first["cost.svg"]


@pytest.mark.parametrize("wanted", [[0.5] * 5, [0.0, 0.01, 0.02], [1.0, 0.99, 0.98], [0.1, 0.9], [], [0.3]])
def test_labels_are_spread_within_their_place(wanted):
    placed = spread(wanted, 0.1, 0.0, 1.0)
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(sorted(placed)))
    assert np.array_equal(np.argsort(placed, kind="stable"), np.argsort(wanted, kind="stable"))
    if wanted == [0.1, 0.9]:
        assert placed == pytest.approx(wanted)
