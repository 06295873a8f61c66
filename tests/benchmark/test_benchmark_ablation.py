"""The ablation page: what it reads off known curves, seconds of the timing lane, spread over seeds, and the picture."""

import itertools
import json
import re

import numpy as np
import pytest
from benchmark_fixtures import failed, make_cell, mel, save
from matplotlib.backends.backend_agg import FigureCanvasAgg
from s3prl_attention.benchmark import ablation
from s3prl_attention.benchmark.ablation_curves import Curve, ablations, crossed, mean_curve, settled
from s3prl_attention.benchmark.ablation_plot import draw, figure
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.benchmark.rows import rows

STEPS = range(100, 1001, 100)
RAW = "fixed_init[init=raw]"


def add(out, name, seed=0, start=0.9, fall=0.0004, speed=1.0, score=0.5, task="speaker", log=True, **changes):
    """A cell whose validation loss falls along a line, with its log; the training loss is 0.1 lower."""
    losses = [start - fall * step for step in STEPS]
    place = f"pretrain/{name.strip(']').replace('[', '+')}--seed{seed}.jsonl"
    if log:
        (out / "pretrain").mkdir(parents=True, exist_ok=True)
        lines = [{"step": s, "loss": v - 0.1, "valid_loss": v} for s, v in zip(STEPS, losses, strict=True)]
        (out / place).write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"cell__upstream": name, "cell__seed": seed, "cell__downstream": task, "scores__test": score}
    own |= {"config__attention": {"init": name.partition("=")[2].strip("]") or "none"}}
    done = {"steps": 1000, "valid_loss": losses[-1], "train_loss": losses[-1] - 0.1, "seconds": 9999.0, "log": place}
    save(out, make_cell(speed, **own, **{"pretrain": done, **changes}))


def found(out):
    return ablations(rows(read_cells(out / "cells")[0]), out)


def tables(page):
    """The tables of a page: a list of {header: cell} for each of the three."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    split = [[[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in b.splitlines()] for b in blocks]
    return [{line[0].replace("\\", ""): dict(zip(head[1:], line[1:], strict=True)) for line in rest}
            for head, _, *rest in split]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """The baseline ends at 0.5; fixed_init is there in half the steps, raw with one seed of two, uniform never."""
    for seed in (0, 1):
        add(tmp_path, "self_attention", seed, score=0.4)
        add(tmp_path, "fixed_init", seed, start=0.9 + 0.02 * seed, fall=0.0008, speed=0.75, score=0.6 + 0.1 * seed)
        add(tmp_path, RAW, seed, start=0.9 + 0.2 * seed, fall=0.0005, speed=0.8)
        add(tmp_path, "uniform", seed, start=0.9, fall=0.0001, speed=0.5)
    other = {"task__source_hash": "phones", "data__num_folds": 3}  # settings of a task are its own
    add(tmp_path, "fixed_init", task="phone_linear", score=0.7, speed=0.75, start=0.9, fall=0.0008, **other)
    save(tmp_path, mel())
    save(tmp_path, failed("RuntimeError: boom", cell__upstream="xbox"))
    return tmp_path


def test_curves_are_crossed_between_values_and_noisy_ones_settle():
    falling = Curve((10, 20, 30), (0.9, 0.7, 0.6))
    assert crossed(falling, 0.75).step == pytest.approx(17.5)
    assert crossed(falling, 0.6).step == 30
    assert (crossed(falling, 0.95).step, crossed(falling, 0.95).at_most) == (10, True)
    assert crossed(falling, 0.5) is None
    noisy = Curve((10, 20, 30, 40), (0.9, 0.6, 0.75, 0.65))
    assert (settled(noisy, 0.7).step, settled(noisy, 0.7).at_most) == (40, False)
    assert (settled(noisy, 0.9).step, settled(noisy, 0.9).at_most) == (10, True)
    assert settled(noisy, 0.64) is None


def test_a_mean_is_taken_where_all_seeds_have_a_value():
    curves = {0: Curve((1, 2, 3), (0.9, 0.8, 0.7)), 1: Curve((2, 3), (0.6, 0.5))}
    assert mean_curve(curves) == Curve((2, 3), (pytest.approx(0.7), pytest.approx(0.6)))
    assert mean_curve({}) == Curve((), ())


def test_losses_are_shown_at_shares_of_the_steps_with_their_spread(folder):
    (group,) = found(folder)
    assert [learner.label for learner in group.learners] == ["self_attention", "fixed_init", RAW, "uniform", "mel"]
    losses, _, _ = tables(ablation.page([group]))
    assert list(losses) == ["self_attention", "fixed_init", RAW, "uniform"]
    shown = {"step 100 (10 %)", "step 300 (30 %)", "step 500 (50 %)", "step 800 (80 %)", "end, step 1000"}
    assert shown < set(losses["fixed_init"])
    assert losses["fixed_init"]["end, step 1000"] == "0.110 (0.100 to 0.120)"
    assert losses["fixed_init"]["step 500 (50 %)"] == "0.510 (0.500 to 0.520)"
    assert losses["uniform"]["end, step 1000"] == "0.800"
    assert losses["uniform"]["end against self_attention"] == "+60.0 %"
    assert losses["uniform"]["seeds"] == "0 1"


def test_seconds_are_steps_at_the_pace_of_the_lane_and_not_those_of_the_training(folder):
    (group,) = found(folder)
    _, until, _ = tables(ablation.page([group]))
    columns = {name: list(row.values()) for name, row in until.items()}
    step_s = 0.5 * 1.2  # the median of the baseline's rounds
    assert columns["self_attention"] == ["1.00 (1.00 to 1.00)", "600", "1000", "600", "1000", "600"]
    assert columns["fixed_init"][0] == "0.75 (0.75 to 0.75)"
    assert columns["fixed_init"][1] == f"{1000 * 0.75 * step_s:.0f}"
    assert columns["fixed_init"][2:4] == ["512 (500 to 525)", f"{512.5 * 0.75 * step_s:.0f}"]
    assert columns["fixed_init"][4] == "600 (500 to 600)"  # the first line at or below the loss
    assert columns[RAW][2:4] == ["1000 (1 of 2 seeds)", "480"]
    assert columns["uniform"][2:4] == ["not reached", "-"]
    assert "9999" not in ablation.page([group])


def test_long_runs_are_told_without_an_exponent(folder):
    add(folder, "xbox", speed=10.0)
    (group,) = found(folder)
    _, until, _ = tables(ablation.page([group]))
    assert until["xbox"]["whole run, s"] == "6000"


@pytest.mark.parametrize(
    "log",
    ['{"step": 100, "loss": 0.7}', '{"step": 100, "valid_loss": 0.7}', '{"step": 100, "loss": 0.7, "valid_loss": NaN}',
     '{"loss": 0.7, "valid_loss": 0.7}', '{"step": 100, "loss": 0.7, "valid_loss": null}', "7", ""],
)  # fmt: skip
def test_a_damaged_log_leaves_the_last_loss(log, folder):
    add(folder, "routing", fall=0.0002)
    (folder / "pretrain" / "routing--seed0.jsonl").write_text(log + "\n")
    page = ablation.page(found(folder))
    assert tables(page)[0]["routing"]["end, step 1000"] == "0.700"
    assert "no readable pretrain/routing--seed0.jsonl" in page
    assert draw(found(folder))


def test_scores_have_their_spread_and_rows_without_training_stand_beside(folder):
    (group,) = found(folder)
    page = ablation.page([group])
    _, _, scores = tables(page)
    speaker, phone = "speaker (accuracy, higher is better)", "phone_linear (accuracy, higher is better)"
    assert scores["fixed_init"][speaker] == "65.0 (60.0 to 70.0)"
    assert scores["fixed_init"][phone] == "70.0"
    assert scores["self_attention"] == {speaker: "40.0", phone: "-"}
    assert scores["mel"][speaker] == "58.0"
    assert "xbox: failed (seed 0): RuntimeError: boom" in page


def test_scores_of_every_table_of_a_task_are_shown(folder):
    for name in ("self_attention", "fixed_init"):
        add(folder, name, task="speaker", score=0.9, task__source_hash="later", data__num_folds=5)
    tasks = {task for group in found(folder) for learner in group.learners for task in learner.scores}
    assert {"speaker, table 1", "speaker, table 2", "phone_linear"} <= tasks
    _, _, scores = tables(ablation.page(found(folder)))
    assert {"90.0", "70.0"} <= set(scores["fixed_init"].values()), "of seed 0 in one table, of seed 1 in the other"


def test_a_row_of_which_something_is_missing_says_so(folder):
    add(folder, "routing", fall=0.0002, log=False, time=None)
    (group,) = found(folder)
    page = ablation.page([group])
    losses, until, _ = tables(page)
    assert losses["routing"]["step 500 (50 %)"] == "-"
    assert losses["routing"]["end, step 1000"] == "0.700"
    assert list(until["routing"].values())[:2] == ["-", "-"]
    assert "routing: its curve is missing, as there is no readable pretrain/routing--seed0.jsonl" in page
    assert "Not timed, and not in the right panel: routing." in page
    assert len(figure([group]).axes[1].lines) < len(figure([group]).axes[0].lines)


def test_rows_of_other_settings_stand_in_a_group_of_their_own(folder):
    add(folder, "sparse_fixed", config__pretrain={"steps": 1000, "learning_rate": 0.01})
    groups = found(folder)
    assert [len(group.learners) for group in groups] == [5, 2]  # the reference fits both
    page = ablation.page(groups)
    assert "## synthetic-small, preset demo, group 2 of 2" in page
    assert "No steps until the last loss of self_attention: it has no finished cell here." in page
    assert len(figure(groups).axes) == 4


def test_a_ratio_within_its_lane_decides_where_rows_were_timed_apart(folder):
    slow = make_cell(0.75)["time"]
    phase = slow["phases"]["train_step"]
    slow["phases"]["train_step"] = {**phase, **{key: [3 * s for s in phase[key]] for key in phase if "samples" in key}}
    for number in range(2):
        add(folder, "routing", number, time=slow)
    (group,) = found(folder)
    own = next(learner for learner in group.learners if learner.label == "routing")
    assert own.step_s / group.step_s == pytest.approx(0.75)
    assert "Not all rows were timed in one run of the lane" in ablation.page([group])


def test_the_picture_has_a_line_and_a_band_for_each_row_and_labels_apart(folder):
    for number in range(8):
        add(folder, f"made_up_{number}[option=long_value]", start=0.9, fall=0.0004 + 1e-6 * number)
    (group,) = found(folder)
    drawn = figure([group])
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    page = drawn.bbox.padded(1)
    for axis in drawn.axes:
        curves = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
        assert set(curves) == {learner.label for learner in group.learners if learner.valid}
        bands = dict(zip(curves, axis.collections, strict=True))
        last = bands["fixed_init"].get_paths()[0].vertices
        assert sorted(set(last[last[:, 0] == last[:, 0].max()][:, 1].round(6))) == [0.1, 0.12]
        texts = [text for text in axis.texts if text.get_text()]
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
        assert len(boxes) == len(curves)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert all(page.contains(*corner) for box in boxes for corner in (box.min, box.max))
        assert all(text.get_fontsize() >= 7 for text in [*texts, axis.xaxis.label, axis.title])
        np.testing.assert_allclose(curves["uniform"].get_ydata(), [0.9 - 0.0001 * step for step in STEPS])
    left, right = (axis.lines for axis in drawn.axes)
    by_name = {line.get_label(): line.get_xdata()[-1] for line in right}
    assert {line.get_label(): line.get_xdata()[-1] for line in left}["uniform"] == 1000
    assert by_name["uniform"] == pytest.approx(1000 * 0.5 * 0.6)
    assert drawn.get_figwidth() == 6.9


def test_the_command_writes_page_and_pictures_the_same_each_time(folder, capsys):
    ablation.main(["--out", str(folder)])
    files = [folder / f"ablation.{kind}" for kind in ("md", "svg", "png")]
    before = [path.read_bytes() for path in files]
    assert set(capsys.readouterr().out.removeprefix("written: ").strip().split(", ")) == set(map(str, files))
    assert "(ablation.svg)" in files[0].read_text()
    assert b"fixed_init" in before[1], "text in the svg is text"
    assert draw(found(folder)) == {"ablation.svg": before[1], "ablation.png": before[2]}


def test_a_folder_without_a_pre_training_is_refused(tmp_path):
    save(tmp_path, mel())
    with pytest.raises(SystemExit, match="has no finished cell of a pre-trained row: give --out"):
        ablation.main(["--out", str(tmp_path)])
