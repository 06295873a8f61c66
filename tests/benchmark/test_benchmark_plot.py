"""The picture: labels that can be read, lines where they should be, and no global state of matplotlib."""

import itertools
import subprocess
import sys

import pytest
from s3prl_attention.benchmark.plot import Panel, Point, draw, figure

CROWD = tuple(Point(f"upstream_{i}", 60 + i % 3, 50.0 + i / 5, (45.0 + i / 5, 55.0 + i / 5)) for i in range(12))


def panel(points: tuple[Point, ...], **lines) -> Panel:
    return Panel(title="task", x_label="seconds", y_label="%", points=points, **lines)


def test_labels_overlap_nothing_and_stay_inside():
    drawn = figure([panel(CROWD, dashed=("mel", 58.0), dotted=("chance", 2.5))])
    (axis, _) = drawn.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) == len(CROWD)
    inside = axis.get_window_extent()
    for box in boxes:
        assert inside.x0 - 1 <= box.x0
        assert box.x1 <= inside.x1 + 1
    for one, other in itertools.combinations(boxes, 2):
        assert not one.shrunk(0.98, 0.8).overlaps(other.shrunk(0.98, 0.8))
    marks = axis.transData.transform([(point.x, point.y) for point in CROWD])
    for box, (x, y) in itertools.product(boxes, marks):
        assert not box.contains(x, y)


def test_long_labels_at_the_edge_stay_inside():
    points = (Point("a_rather_long_name_of_an_upstream", 60.0, 50.0), Point("another_rather_long_name", 1.0, 50.0))
    (axis, _) = figure([panel(points)]).axes
    inside = axis.get_window_extent()
    for text in axis.texts:
        box = text.get_window_extent()
        assert inside.x0 - 1 <= box.x0 < box.x1 <= inside.x1 + 1


def test_a_label_looks_the_same_in_all_panels_and_unlike_the_others():
    drawn = figure([panel(CROWD), panel(CROWD[4:])])
    styles: dict[str, set] = {}
    for axis in drawn.axes:
        marks = [line for line in axis.lines if line.get_marker() != "None"]
        points = CROWD if axis is drawn.axes[0] else CROWD[4:]
        for point, mark in zip(points, marks, strict=True):
            styles.setdefault(point.label, set()).add((mark.get_color(), mark.get_marker()))
    assert all(len(style) == 1 for style in styles.values())
    assert len(set.union(*styles.values())) == len(CROWD)


@pytest.mark.parametrize(("chance", "visible"), [(2.5, False), (40.0, True)])
def test_chance_far_below_is_told_instead_of_squeezing_the_points(chance: float, visible: bool):
    (axis, _) = figure([panel(CROWD, dashed=("mel", 58.0), dotted=("chance", chance))]).axes
    low, high = axis.get_ylim()
    assert bool(low <= chance <= high) is visible
    assert low < 45.0 < 57.2 + 2 < high
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["mel", "chance" if visible else "chance, below this axis"]


@pytest.mark.parametrize(("chance", "visible"), [(100.0, False), (60.0, True)])
def test_chance_far_above_is_told_too(chance: float, visible: bool):
    (axis, _) = figure([panel(CROWD, dotted=("chance", chance))]).axes
    low, high = axis.get_ylim()
    assert bool(low <= chance <= high) is visible
    assert high < 75
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["chance" if visible else "chance, above this axis"]


def test_a_wide_range_of_times_is_shown_on_a_logarithmic_axis():
    points = (Point("a", 1.0, 50.0), Point("b", 100.0, 60.0))
    near, far = figure([panel(points[:1]), panel(points)]).axes
    assert (near.get_xscale(), far.get_xscale()) == ("linear", "log")
    assert near.get_xlim()[0] == 0


def test_odd_numbers_of_panels_empty_ones_and_odd_names():
    odd = (Point("a $b$ \n c_{d", 0.0, 0.0), Point("x" * 200, 0.0, 0.0))
    png = draw([panel(()), panel(odd), panel(CROWD[:1])])
    assert png.startswith(b"\x89PNG")


def test_pyplot_is_never_loaded_and_matplotlib_only_to_draw():
    code = (
        "import sys; from s3prl_attention.benchmark import leaderboard, plot, result_files, timing;"
        "assert not {'matplotlib', 'sklearn', 's3prl.hub'} & set(sys.modules);"
        "plot.draw([plot.Panel('t', 'x', 'y', (plot.Point('a', 1, 2),))]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_neighbours_have_the_same_height_and_a_logarithmic_axis_says_so():
    few, all_of_them = (CROWD[0],), (Point("far", 5000.0, 20.0), *CROWD)
    reach = tuple(point.y for point in all_of_them)
    left, right = figure([panel(few, reach=reach), panel(all_of_them, reach=reach)]).axes
    assert left.get_ylim()[0] <= 20.0
    assert right.get_xlabel().endswith(", logarithmic")
    assert not left.get_xlabel().endswith(", logarithmic")
