"""What differs between two cells: each cause is named, and noise is called noise."""

import pytest
from benchmark_fixtures import failed, make_cell, save
from s3prl_attention.benchmark import difference
from s3prl_attention.benchmark.difference import causes

OTHER = {"scores__test": 0.5}
CAUSES = [
    ("code", {"upstream__source_hash": "bbbb"}, "upstream source: aaaa -> bbbb"),
    ("data", {"data__fingerprint": "beef"}, "fingerprint: f00d -> beef"),
    ("data", {"data__splits": {"train": 1, "dev": 1, "test": 1}}, '"train": 800'),
    (
        "configuration",
        {"config__pretrain": {"steps": 7, "learning_rate": 0.002}},
        "pretrain.steps: 1000 -> 7; pretrain.learning_rate: 0.001 -> 0.002",
    ),
    ("configuration", {"cell__upstream": "xbox"}, 'upstream: "fixed_init" -> "xbox"'),
    ("seed", {"cell__seed": 1}, "seed: 0 -> 1"),
    ("seed", {"cell__probe_seed": 2}, "probe_seed: 0 -> 2"),
    ("software", {"environment__packages": {"torch": "2.15"}}, "torch: 2.14.1 -> 2.15"),
    ("machine", {"environment__cpu": "Xeon"}, "cpu: AMD EPYC -> Xeon"),
    ("threads", {"environment__threads": 4}, "threads: 2 -> 4"),
    ("timing", {"config__timing": {"rounds": 5}}, "timing.rounds: 7 -> 5"),
    ("commit", {"environment__git_commit": "fedc"}, "git_commit: 0123456789abcdef -> fedc"),
]


@pytest.mark.parametrize(("group", "changes", "told"), CAUSES, ids=[told for *_, told in CAUSES])
def test_a_single_cause_is_named_alone(group, changes, told):
    a, b = (make_cell(**{"config__timing": {"rounds": 7}, **given}) for given in ({}, changes))
    assert [name for name, pairs in causes(a, b).items() if pairs] == [group]
    line = next(line for line in difference.difference(a, b).splitlines() if line.startswith(group))
    assert told in line


def verdict(a, b) -> str:
    return difference.difference(a, b).splitlines()[-1]


def test_seeds_alone_are_the_spread_between_seeds():
    assert verdict(make_cell(), make_cell(cell__seed=1, **OTHER)).startswith("Only the seeds differ: what moved is")
    with_machine = verdict(make_cell(), make_cell(cell__seed=1, environment__cpu="Xeon", **OTHER))
    assert with_machine.startswith("Only the seeds differ, besides machine, which may move it by rounding")


def test_noise_is_called_noise():
    a = make_cell()
    assert verdict(a, make_cell(pretrain__seconds=99.0, probe__seconds=9.0)).startswith("Nothing but noise differs")
    commit = verdict(a, make_cell(environment__git_commit="fedc"))
    assert commit.endswith("The commits differ, but not in the code that is hashed for these cells.")
    changed = make_cell(cell__seed=1, data__fingerprint="x", config__pretrain={"steps": 1})
    assert "data, configuration" in verdict(a, changed)
    assert "by rounding" in verdict(a, make_cell(environment__threads=4, **OTHER))


def test_a_score_that_moves_without_a_cause_is_not_noise():
    assert verdict(make_cell(), make_cell(**OTHER)).startswith(
        "Nothing differs that is known to decide a score, and yet"
    )


def test_the_place_of_the_data_is_no_difference():
    places = ({key: f"{root}/{key}" for key in ("root", "alignments", "split_lists")} for root in ("/a", "/b"))
    a, b = (make_cell(config__data={"corpus": "librispeech", **place}) for place in places)
    assert not any(causes(a, b).values())


def test_a_hash_that_one_cell_does_not_have_is_no_change_of_code():
    assert not causes(make_cell(), make_cell(task__source_hash="cccc"))["code"]
    assert causes(make_cell(task__source_hash="dddd"), make_cell(task__source_hash="cccc"))["code"]


def test_numbers_that_moved_are_told_with_their_ratio(tmp_path, capsys):
    one, two = save(tmp_path, make_cell()), save(tmp_path, make_cell(cell__seed=1, pretrain__seconds=122.4, **OTHER))
    difference.main([str(one), "seed1.0", "--out", str(tmp_path)])
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert told[:2] == [f"A {one}", f"B {two}"]
    assert "test 0.55 -> 0.5 (-0.05, x 0.909)" in told
    assert "pretrain_s 61.2 -> 122.4 (+61.2, x 2.000)" in told
    assert not any(line.startswith("dev ") for line in told)


def test_a_failed_cell_can_be_compared():
    told = difference.difference(make_cell(), failed())
    assert not any(causes(make_cell(), failed()).values())
    assert "\nnot compared   code: upstream source, configuration: attention.init, " in told
    assert " more: only one of the cells tells\n" in told
    assert told.endswith(" What is not compared may differ as well.")


def test_options_of_timing_decide_no_score():
    one, other = (make_cell(config__timing={"rounds": rounds}) for rounds in (7, 5))
    assert verdict(one, other).startswith("Only the options of timing differ: scores are the same")


def test_what_only_a_newer_version_knows_is_no_difference():
    older = make_cell(config__probe={"num_epochs": 30, "learning_rate": 0.01}, data__pretraining=None)
    older["environment"]["packages"] = {"torch": "2.14.1"}
    del older["environment"]["ram_bytes"]
    newer = make_cell(data__pretraining={"fingerprint": "beef", "seconds": 1.0}, environment__device="cpu")
    assert not any(causes(older, newer).values())
    assert verdict(older, newer).startswith("Nothing but noise differs")
    (line,) = [line for line in difference.difference(older, newer).splitlines() if line.startswith("not compared")]
    assert "configuration: probe.learning_rate, configuration: probe.learning_rates, data: pre-training finger" in line


def test_a_cell_that_is_not_there_is_one_line(tmp_path):
    save(tmp_path, make_cell())
    with pytest.raises(SystemExit, match="error: no cell of"):
        difference.main(["speaker", "nothing", "--out", str(tmp_path)])
