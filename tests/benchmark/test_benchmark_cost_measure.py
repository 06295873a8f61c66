"""What the cost audit decides before and while it measures: memory foretold, groups, rounds, calls to settle."""

from functools import partial

import pytest
from cost_fixtures import GREEDY_BYTES, twin  # noqa: F401 (a fixture)
from s3prl_attention.benchmark.cost_case import ATTENTION, LAYER, PHASES, TRAIN, Case, entry_of, rows_of, weighed
from s3prl_attention.benchmark.cost_measure import groups
from s3prl_attention.benchmark.cost_memory import empty_cell, expected_s, foretell, told, weigh
from s3prl_attention.benchmark.cost_time import num_rounds, settle
from s3prl_attention.benchmark.workers import Worker

GB = 10**9


def cell(num_frames, peak=0, module=0, first_s=1.0, samples_s=()):
    """Everything measured, the same in each phase."""
    made = empty_cell("self_attention", num_frames)
    memory = {"peak_bytes": peak, "module_bytes": module, "first_call_s": first_s}
    made["memory"] = dict.fromkeys(PHASES, memory)
    made["time"] = {phase: {"samples_s": list(samples_s)} for phase in PHASES if samples_s}
    return made


def problems(shorter, num_frames, max_bytes, order="n^2", max_case_s=60.0):
    case = Case("self_attention", num_frames, 32, 8, 1, max_bytes)
    found = empty_cell(case.row, num_frames)
    foretell(found, case, shorter, expected_s(shorter, num_frames, order), max_case_s)
    return found["problems"]


def test_a_call_is_foretold_by_the_declared_order_from_the_longest_that_was_timed():
    shorter = [cell(1024, samples_s=(9.0, 9.0)), cell(2048, samples_s=(4.0, 5.0, 90.0)), cell(512, first_s=0.1)][:2]
    assert expected_s(shorter, 4096, "n^2") == dict.fromkeys(PHASES, 20.0)
    assert expected_s(shorter, 4096, "n") == dict.fromkeys(PHASES, 10.0)
    assert expected_s([cell(1024, first_s=3.0)], 2048, "n") == dict.fromkeys(PHASES, 6.0)
    assert problems(shorter, 4096, None, max_case_s=19) == dict.fromkeys(
        PHASES, "not run: one call would take about 20 s"
    )
    assert problems(shorter, 4096, None, max_case_s=21) == {}


def test_memory_is_foretold_from_how_it_grew():
    linear, squared = (
        [cell(1024, peak=GB), cell(2048, peak=2 * GB)],
        [cell(1024, peak=GB), cell(2048, peak=4 * GB)],
    )
    assert problems(linear, 4096, 5 * GB) == {}
    assert problems(linear, 4096, 4 * GB) == dict.fromkeys(PHASES, "out of memory: needs about 4.0 GB")
    assert problems(squared, 4096, 16 * GB) == dict.fromkeys(PHASES, "out of memory: needs about 16.0 GB")
    assert problems(squared, 4096, 17 * GB) == {}
    assert problems(squared[1:], 4096, 5 * GB) == {}  # one length tells nothing of growth


def test_training_needs_parameters_softmax_and_the_gradients_of_both():
    shorter = [cell(1024, module=GB // 4), cell(2048, module=GB)]
    assert problems(shorter, 4096, 10 * GB) == {TRAIN: "out of memory: needs about 16.0 GB"}
    assert set(problems(shorter, 4096, 8 * GB)) == set(PHASES)


def test_without_a_shorter_length_parameters_are_foretold_from_small_modules():
    case = Case("fixed_init", 8192, 32, 8, 1, 3 * GB)
    found = empty_cell(case.row, case.num_frames)
    foretell(found, case, [], {}, 60)
    assert {phase: text.partition(" about ")[0] for phase, text in found["problems"].items()} == dict.fromkeys(
        PHASES, "out of memory: needs"
    )
    assert found["problems"][ATTENTION].endswith("4.3 GB")  # 8 heads x 8192^2 x 4 bytes, twice
    assert problems([], 8192, 3 * GB) == {}  # self-attention has no such parameters


def test_groups_hold_what_fits_and_a_row_too_large_stands_alone():
    needed = {"big": 9, "a": 2, "b": 3, "huge": 50}
    assert groups(needed, 5) == [["a", "b"], ["big"], ["huge"]]
    assert groups(needed, 100) == [["a", "b", "big", "huge"]]
    assert groups({}, 5) == [[]]


def test_rounds_are_cut_to_the_time_but_not_below_two():
    assert num_rounds(5, 30, 1) == 5
    assert num_rounds(5, 30, 10) == 3
    assert num_rounds(5, 30, 100) == 2
    assert num_rounds(1, 30, 100) == 1


@pytest.mark.parametrize(
    ("lasts_s", "expected", "calls"),
    [
        ([9.0, 5.0, 4.5, 1.0], None, 3),
        ([5.0, 5.0], None, 2),
        ([5.0], 5.0, 1),
        ([30.0, 9.0, 5.0], 5.0, 3),
        ([64.0, 32.0, 16.0, 8.0, 4.0], 1.0, 4),
    ],
)
def test_calls_are_repeated_until_they_settle(lasts_s, expected, calls):
    left = list(lasts_s)
    assert settle(lambda: left.pop(0), expected) == lasts_s[calls - 1]
    assert len(lasts_s) - len(left) == calls


def test_lack_of_memory_is_told_in_its_own_words():
    case = Case("xbox", 8, 32, 8, 1, 2 * GB)
    torch_text = "xbox: RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 5 bytes"
    assert told(ValueError(torch_text), case) == "out of memory: needs more than 2.0 GB"
    assert told(ValueError("ValueError: xbox: needs 9 heads"), case) == "needs 9 heads"


def test_peak_memory_counts_what_a_phase_takes_and_not_the_module(twin):  # noqa: F811
    peaks = {}
    for row in ("twin", "twin[greedy]"):
        worker = Worker(partial(weighed, Case(row, 64, 32, 8, 1)), row)
        peaks[row] = [worker.ask(phase)["peak_bytes"] for phase in PHASES]
        worker.stop()
    for plain, greedy in zip(*peaks.values(), strict=True):
        assert GREEDY_BYTES <= greedy - plain + (1 << 20) <= GREEDY_BYTES + (4 << 20)
    worker = Worker(partial(weighed, Case("fixed_init", 512, 32, 8, 1)), "fixed_init")
    maps_bytes = 8 * 512 * 512 * 4
    for phase, maps in ((ATTENTION, 1), (LAYER, 1), (TRAIN, 3)):  # the softmax; its gradient, and that of the logits
        found = worker.ask(phase)
        assert maps_bytes <= found["module_bytes"] < 1.1 * maps_bytes
        assert 0.9 * maps * maps_bytes < found["peak_bytes"] < (2.2 if maps == 1 else 6) * maps_bytes, phase
    worker.stop()


def test_too_much_memory_is_a_problem_of_each_call_and_not_the_end_of_the_process(twin):  # noqa: F811
    found = empty_cell("twin[greedy]", 64)
    weigh(found, Case("twin[greedy]", 64, 32, 8, 1, 50_000_000), 60)
    assert found["problems"] == dict.fromkeys(PHASES, "out of memory: needs more than 0.1 GB")
    found = empty_cell("twin[greedy]", 64)
    weigh(found, Case("twin[greedy]", 64, 32, 8, 1, 300_000_000), 60)
    assert found["problems"] == {}
    found = empty_cell("twin[greedy]", 64)
    weigh(found, Case("twin[greedy]", 64, 32, 8, 1), 0)
    assert found["problems"] == dict.fromkeys(PHASES, "not timed: one call took 0 s")


def test_rows_are_the_upstream_and_its_variants(twin):  # noqa: F811
    assert rows_of("twin") == ["twin", "twin[broken]", "twin[deadly]", "twin[greedy]"]
    assert rows_of("twin[greedy]") == ["twin[greedy]"]
    assert rows_of("twin[manner=greedy]") == ["twin[greedy]"]
    assert rows_of("twin[manner=loud]") == ["twin[manner=loud]"]
    assert rows_of("twin[manner=sound]") == ["twin"]
    assert entry_of("twin[manner=loud]").own == {"manner": "loud"}
    assert entry_of("twin[greedy]").info.order_with(entry_of("twin[greedy]").own) == "n"
    with pytest.raises(ValueError, match=r"^unknown row 'twin\[gredy\]': .* did you mean 'greedy'"):
        rows_of("twin[gredy]")
    with pytest.raises(ValueError, match=r"^unknown upstream 'twinn': did you mean 'twin'"):
        rows_of("twinn[greedy]")
