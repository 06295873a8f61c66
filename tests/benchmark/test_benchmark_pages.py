"""The page and the terminal: what must be said beside the numbers, and text that must not break them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from benchmark_fixtures import failed, fill, make_cell, mel, outcomes, read, save
from s3prl_attention.benchmark.columns import COLUMNS
from s3prl_attention.benchmark.leaderboard import write
from s3prl_attention.benchmark.pages import escape, markdown, terminal


def result_tables(page: str) -> list[list[list[str]]]:
    """The tables of scores alone, without the small ones by utterance length."""
    return [table for table in markdown_tables(page) if table[0][1].startswith("score")]


def markdown_tables(page: str) -> list[list[list[str]]]:
    """Tables as a markdown reader sees them: cells split at pipes that are not escaped."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
    lines = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in line] for line in block] for block in lines]


def test_tasks_corpora_and_presets_have_tables_of_their_own(tmp_path: Path):
    fill(tmp_path)
    for key, value in (("downstream", "phone_linear"), ("preset", "study"), ("corpus", "librispeech")):
        fill(tmp_path, **{f"cell__{key}": value})
    page = markdown(read(tmp_path))
    assert len(result_tables(page)) == 4
    assert "Not ranked together" not in page


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("environment__threads", 1, "environment.threads (here 1)"),
        ("environment__cpu", "Other CPU", "environment.cpu (here Other CPU)"),
        ("config__pretrain", {"steps": 9, "learning_rate": 0.001}, "config.pretrain.steps (here 9)"),
        ("data__fingerprint", "beef", "data.fingerprint (here beef)"),
        ("time__setting", {"device": "cuda"}, "device (here cuda)"),
        ("data__splits", {"train": 1, "dev": 200, "test": 200}, "data.splits.train (here 1)"),
    ],
)
def test_other_settings_are_another_table_and_the_page_says_which(tmp_path: Path, key: str, value: object, told: str):
    fill(tmp_path)
    save(tmp_path, make_cell(scores__test=0.9, **{key: value}), digest="d2")
    rows = read(tmp_path)
    assert [row.score for row in rows if row.table == 1 and row.score and row.upstream != "mel"] == [0.9]
    assert rows[0].upstream == "mel"  # the 0.9 is not ranked above it
    for text in (markdown(rows), terminal(rows, 400)):
        assert told in text.replace("\\", "")
        assert "table 2 of 2" in text


def test_chance_and_reference_are_always_told(tmp_path: Path):
    fill(tmp_path)
    with_mel = read(tmp_path)
    without = [row for row in with_mel if row.upstream != "mel"]
    for make in (markdown, terminal):
        assert "Chance: 2.5 %. Log-Mel features without an encoder (mel): 58.0 %." in make(with_mel)
        assert "Chance: 2.5 %. Log-Mel features without an encoder (mel): not made yet" in make(without)


@pytest.mark.parametrize(
    ("num_disturbed", "told"),
    [
        (12, "12 of 85 timing samples were taken while other programs used the machine."),
        (
            13,
            "13 of 85 timing samples were taken while other programs used the machine, among them more than half of "
            "those of busy.",
        ),
    ],
)
def test_disturbed_samples_are_counted_once_and_the_worst_upstreams_named(
    tmp_path: Path, num_disturbed: int, told: str
):
    fill(tmp_path)
    cell = make_cell(speed=0.7, cell__upstream="busy")
    flags = np.arange(20) < num_disturbed
    for phase, some in zip(list(cell["time"]["phases"].values())[1:], flags.reshape(4, 5), strict=True):
        phase["disturbed"] = some.tolist()
    save(tmp_path, cell)
    rows = read(tmp_path)
    counts = [(row.num_disturbed, row.num_samples) for row in rows if row.upstream == "busy"]
    assert counts == [(num_disturbed, 25)]
    for text in (markdown(rows), terminal(rows, 400)):
        assert told in text  # 4 upstreams with 20 samples each, and 5 samples of the features that all share
        own = text.count("busy") - told.count("busy")
        assert own == (2 if "# Leaderboard" in text else 1)  # its row, and one by length, and no line of its own


def test_cells_that_were_not_timed_say_so(tmp_path: Path):
    save(tmp_path, make_cell(time=None, memory=None))
    assert "Not timed." in markdown(read(tmp_path))


def test_one_speaker_costs_the_interval_and_is_told(tmp_path: Path):
    save(tmp_path, make_cell(), lines=outcomes(0.55, num_speakers=1, per_speaker=200))
    assert "fewer than two speakers" in markdown(read(tmp_path))


def test_real_data_is_not_called_synthetic(tmp_path: Path):
    fill(tmp_path, data__synthetic=False, data__note="Read books.")
    page = markdown(read(tmp_path))
    assert "> synthetic-small: Read books." in page
    assert "synthetic data" not in page
    assert "synthetic data" not in terminal(read(tmp_path))


def test_local_changes_are_told(tmp_path: Path):
    fill(tmp_path, environment__git_dirty=True)
    assert "commit 0123456789ab with local changes" in markdown(read(tmp_path))


HOSTILE = "a|b\n| c | `d` <img src=x onerror=alert(1)> **e** [f](http://g) $h$ # i \x1b[31m"


def test_text_of_users_cannot_break_the_page(tmp_path: Path):
    save(tmp_path, make_cell(cell__upstream=HOSTILE, data__note=HOSTILE, task__split=HOSTILE, cell__corpus=HOSTILE))
    save(tmp_path, failed(HOSTILE, cell__upstream="bad", cell__corpus=HOSTILE))
    save(tmp_path, mel(data__note=HOSTILE, task__split=HOSTILE, cell__corpus=HOSTILE))
    written = write(tmp_path, "run\n```\n# not a heading <b>")
    page = written.markdown.read_text()
    table, by_length = markdown_tables(page)
    assert (len(table), len(by_length)) == (5, 6)
    assert {len(line) for line in table} == {len(COLUMNS)}
    assert {len(line) for line in by_length} == {len(by_length[0])}
    prose = re.sub(r"^    .*$", "", page, flags=re.MULTILINE)  # the command stands in a code block
    for mark in ("<img", "`d`", "**e**", "[f](", "$h$"):
        assert mark not in prose.replace("**a", "")
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(headings) == 3
    with written.csv.open(newline="") as file:
        assert len(list(csv.reader(file))) == 4
    text = terminal(written.rows)
    assert len(text.splitlines()) == len(text.split("\n")) - 1
    assert "\n| c |" not in text
    assert "\x1b" not in text + page


def test_names_with_underscores_stay_as_they_are():
    assert escape("fixed_init s3prl:mel_v2") == "fixed_init s3prl:mel_v2"
    assert escape("_not emphasis_") == r"\_not emphasis\_"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_table_fits_is_aligned_and_says_what_it_left_out(tmp_path: Path, width: int):
    fill(tmp_path)
    rows = read(tmp_path)
    lines = terminal(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    start = next(index for index, line in enumerate(lines) if line.startswith("upstream"))
    header, *body = lines[start : start + len(rows) + 1]
    shown = [column for column in COLUMNS if column.title in header]
    for column in shown[1:]:
        end = header.index(column.title) + len(column.title)
        for line, row in zip(body, rows, strict=True):
            text = column.text(row)
            assert line[:end].endswith("  " + text) or line[:end].endswith(" " + text)
    left_out = [column.title for column in COLUMNS if column not in shown]
    told = next((line for line in " ".join(" ".join(lines).split()).split("Not here, but in leaderboard.md: ")[1:]), "")
    assert "scores and times by utterance length." in told
    assert all(title in told.split(".")[0] for title in left_out)
    assert bool(left_out) == (width < 200)
    assert "xbox: failed (seed 0): RuntimeError: boom" in lines


def test_terminal_and_page_show_the_same_numbers(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    (table,) = result_tables(markdown(rows))
    text = terminal(rows, 400).splitlines()
    for page_line, line in zip(table[2:6], text[2:6], strict=True):
        assert page_line == re.split(r"\s{2,}", line)


def test_reasons_are_told_once_and_as_what_they_are(tmp_path: Path):
    fill(tmp_path)
    for name in ("one", "two"):
        save(tmp_path, {**failed("no labels", cell__upstream=name), "status": "skipped"})
    save(tmp_path, {**failed("took over 60 min", cell__upstream="slow", cell__probe_seed=1), "status": "timeout"})
    rows = read(tmp_path)
    for text in (markdown(rows), terminal(rows, 400)):
        assert text.count("one, two: skipped (seed 0): no labels") == 1
        assert "slow: timeout (seed 0, probe seed 1): took over 60 min" in text
        assert "xbox: failed (seed 0): RuntimeError: boom" in text
    (table,) = result_tables(markdown(rows))
    assert [line[1] for line in table[-4:]] == ["failed", "skipped", "skipped", "timeout"]


def test_a_task_that_nobody_could_do_is_told_without_an_empty_table(tmp_path: Path):
    fill(tmp_path)
    for name in ("mel", "fixed_init"):
        changes = {"cell__upstream": name, "cell__downstream": "emotion"}
        save(tmp_path, {**failed("no column emotion", **changes), "status": "skipped"})
    rows = read(tmp_path)
    assert len(result_tables(markdown(rows))) == 1
    for text in (markdown(rows), terminal(rows)):
        assert "emotion on synthetic-small, preset demo" in text
        assert "fixed_init, mel: skipped (seed 0): no column emotion" in text


def test_the_smallest_difference_that_the_test_set_could_show_is_told(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    smallest = sorted(row.detectable for row in rows if row.detectable)
    assert len(smallest) == 3
    told = (
        f"The smallest difference to self_attention that this test set could show: {100 * smallest[1]:.1f} percent "
        "points, with 40 speakers and 200 items"
    )
    for text in (markdown(rows), terminal(rows, 400)):
        assert told in text


def test_the_page_names_the_gpu_of_what_ran_on_one(tmp_path: Path):
    fill(tmp_path, environment__device="cuda", environment__gpu="Tesla T9")
    assert ", 2 cores, Tesla T9, " in markdown(read(tmp_path))


def test_few_speakers_can_show_nothing_and_the_page_says_so(tmp_path: Path):
    for name, score in (("self_attention", 0.2), ("fixed_init", 0.9)):
        lines = outcomes(score, num_speakers=5, per_speaker=40)
        save(tmp_path, make_cell(cell__upstream=name, scores__test=score), lines=lines)
    rows = read(tmp_path)
    assert [row.ranks for row in rows] == [(1, 2), (1, 2)]
    assert "With fewer than 6 test speakers no two rows can be told apart." in markdown(rows)
    assert "smallest difference" not in markdown(rows)


def test_differences_are_to_mel_where_self_attention_is_absent(tmp_path: Path):
    fill(tmp_path)
    rows = read(tmp_path)
    for path in tmp_path.glob("cells/**/self_attention*"):
        path.unlink()
    without = read(tmp_path)
    assert {row.compared_to for row in rows if row.score} == {"self_attention"}
    assert {row.compared_to for row in without if row.score} == {"mel"}
    (table,) = result_tables(markdown(without))
    assert table[0][3] == "diff to mel"
    assert "**diff to mel**" in markdown(without)
    for path in tmp_path.glob("cells/**/mel*"):
        path.unlink()
    assert "No differences: neither self_attention nor mel has a score." in markdown(read(tmp_path))


def test_what_probes_chose_is_told_and_ends_of_the_grid_are_named(tmp_path: Path):
    rates = (0.001, 0.003, 0.01)
    tried = [{"learning_rate": rate, "dev": [0.5, 0.5, None]} for rate in rates]
    for name, chosen in (("end", (0.01, 0.01, 0.003)), ("middle", (0.01, 0.003, 0.003))):
        choices = [{"learning_rate": rate} for rate in chosen]
        save(tmp_path, make_cell(cell__upstream=name, probe__tried=tried, probe__chosen=choices))
    page = markdown(read(tmp_path))
    told = "learning rates 0.001, 0.003, 0.01, one chosen on dev in each fold of each cell: 0.001 in 0, 0.003 in 3, "
    assert told + "0.01 in 3 of 6." in page
    assert "The loss of 6 of 18 heads was not finite." in page
    assert "in more than half of the folds, and perhaps better beyond: end (0.01)." in page


@pytest.mark.parametrize(("ended", "told"), [(None, "3"), (15, "15"), (0, "")])
def test_when_learning_rates_were_dropped_is_told(tmp_path: Path, ended: int | None, told: str):
    probe = {} if ended is None else {"probe__race_ended": ended}
    tried = [{"learning_rate": rate, "dev": [0.5]} for rate in (0.01, 0.03)]
    config = {"probe": {"learning_rates": [0.01, 0.03], "race_epochs": 3}}  # what tells it in files of older versions
    save(tmp_path, make_cell(config=config, probe__tried=tried, probe__chosen=[{"learning_rate": 0.01}], **probe))
    sentence = f" After {told} epochs only the one that dev liked best was trained on."
    assert (sentence in markdown(read(tmp_path))) == bool(told)
    assert ("dev liked best" in markdown(read(tmp_path))) == bool(told)


def test_an_error_rate_is_told_as_one_that_should_be_low(tmp_path: Path):
    changes = {"task__higher_is_better": False, "task__metric": "phone error rate", "scores__chance": 1.0}
    for name, score in (("self_attention", 0.55), ("good", 0.6)):  # of outcomes: right items
        lines = outcomes(score)
        save(tmp_path, make_cell(cell__upstream=name, **{**changes, "scores__test": 1 - score}), lines=lines)
    rows = read(tmp_path)
    assert [row.upstream for row in rows] == ["good", "self_attention"]
    page = markdown(rows)
    assert "## speaker on synthetic-small (synthetic data), preset demo: phone error rate, lower is better" in page
    assert "Chance: 100.0 %" in page
    (table,) = result_tables(page)
    assert table[2][1].startswith("40.0 (")
    assert table[2][3].startswith("-5.0 (-")
