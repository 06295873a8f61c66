"""Rows ``NAME[option=value]``: one name for equal ones, files of their own, and plain rows as they always were."""

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark_fixtures import by_pair, make_cell, save
from s3prl_attention.benchmark import cell as cell_module
from s3prl_attention.benchmark import prepare, stopwatch
from s3prl_attention.benchmark.cell import Cell
from s3prl_attention.benchmark.cli import _parse
from s3prl_attention.benchmark.difference import causes, one_sided
from s3prl_attention.benchmark.explain import explain
from s3prl_attention.benchmark.find_cell import find_cell
from s3prl_attention.benchmark.plan import Request, make_plan
from s3prl_attention.benchmark.prepare import source_of_maps
from s3prl_attention.benchmark.remake import command, obstacles
from s3prl_attention.benchmark.result_files import read_cell, safe_name
from s3prl_attention.benchmark.settings import difference, load_study
from s3prl_attention.benchmark.sources import source_hash
from s3prl_attention.benchmark.status import unfinished_trainings
from s3prl_attention.benchmark.steps import steps_of
from s3prl_attention.upstream.checkpoint import load_checkpoint
from s3prl_attention.upstream.maps_file import fingerprint


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("fixed_init[init=raw]", "fixed_init[init=raw]"),
        ("fixed_init[ eps=1e-4, init=raw ]", "fixed_init[init=raw]"),
        ("fixed_init[init=log]", "fixed_init"),
        ("fixed_init[eps=1e-5,init=raw]", "fixed_init[init=raw,eps=1e-05]"),
        ("xbox[mode=bucketed]", "xbox[bucketed]"),
        ("xbox[num_keys=16,bucketed]", "xbox[bucketed,num_keys=16]"),
        ("xbox[mode=exact]", "xbox"),
        ("mean_map[frozen=false]", "mean_map[trained]"),
    ],
)
def test_equal_rows_have_one_name_which_is_read_back_the_same(written, name):
    study = load_study(written, "smoke")
    assert study.upstream == study.label == name
    assert study.recipe.upstream == name.partition("[")[0]
    assert load_study(name, "smoke") == study
    assert source_hash(name) == source_hash(study.recipe.upstream)


def test_options_for_all_rows_are_not_part_of_a_rows_name():
    study = load_study("fixed_init[init=raw]", "smoke", ["attention.eps=0.01"])
    assert study.label == "fixed_init[init=raw]"
    assert study.recipe.attention["eps"] == 0.01
    assert difference(study.upstream, "smoke", ["attention.eps=0.01"]) == {
        "attention.init": "raw",
        "attention.eps": 0.01,
    }


def test_a_file_of_maps_is_named_in_full_to_load_it_and_without_folders_to_publish(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study("fixed_init[init=maps,maps=some/of.safetensors]", "smoke")
    path = str((tmp_path / "some" / "of.safetensors").resolve())
    assert study.recipe.attention["maps"] == path
    assert study.label == "fixed_init[init=maps,maps=of.safetensors]"
    assert load_study(f"fixed_init[maps={path},init=maps]", "smoke") == study


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("fixed_init[int=raw]", "has no option 'int': did you mean 'init'.* options: init, eps, maps$"),
        ("fixed_init[init=rw]", "has no init 'rw': did you mean 'raw'. known: log, maps, random, raw"),
        ("fixed_init[eps=few]", "eps must be float, got 'few'"),
        ("fixed_init[init]", "no variant 'init': give the option a value, init=VALUE"),
        ("xbox[buckted]", "has no variant 'buckted': did you mean 'bucketed'.* num_keys, .*; variants: bucketed"),
        ("self_attention[init=raw]", "self_attention has no attention options"),
        ("mel[init=raw]", "mel has no attention"),
        ("fixed_init[]", "sets nothing: write .* options: init, eps, maps"),
        ("fixed_init[init=raw", "is no row: write NAME or"),
        ("fixed_init[init=raw,init=log]", "sets init twice"),
        ("xbox[bucketed,mode=exact]", "sets mode twice"),
        ("fixed_int[init=raw]", "unknown upstream 'fixed_int': did you mean 'fixed_init'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(row, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        make_plan(Request("smoke", tmp_path, (row,), ("speaker",)))
    assert "\n" not in str(raised.value)


def test_a_row_and_the_options_for_all_rows_may_not_set_the_same():
    with pytest.raises(ValueError, match="both set init: leave out one"):
        load_study("fixed_init[init=raw]", "smoke", ["attention.init=raw"])


PLAIN = [
    ("self_attention", [], "fcbc77cafc96", "eaad3cbadabb"),
    ("fixed_init", [], "c6fad6a0ec28", "943a2090be22"),
    ("fixed_init", ["attention.init=raw"], "8364773c75b9", "891b16857b18"),
    ("mean_map", [], "b4b3b0c3b180", "10bdd294ffd3"),
    ("xbox", ["attention.mode=bucketed"], "6a877c6c2f0a", "57c5d1ee1138"),
    ("mel", [], "fcbc77cafc96", "b7be5c5aca68"),
    ("s3prl:fbank", [], "fcbc77cafc96", "97d821ec4723"),
]  # digits of timing and lineage, older than rows with brackets; other digits mean that all results are made anew


@pytest.mark.parametrize(("name", "overrides", "of_timing", "of_lineage"), PLAIN)
def test_the_files_of_plain_rows_are_called_as_before(name, overrides, of_timing, of_lineage, monkeypatch):
    for module in (cell_module, prepare, stopwatch):
        monkeypatch.setattr(module, "source_hash", lambda name: "0" * 12)
    monkeypatch.setattr(cell_module, "task_hash", lambda name: "0" * 12)
    part = SimpleNamespace(name="made-up", fingerprint="f00d", speech_fingerprint="beef")
    speech = SimpleNamespace(pretraining=part, probing=part)
    study, safe = load_study(name, "smoke", overrides), name.replace(":", "%3A")
    of_cell = prepare.digest([[of_lineage, "speaker", asdict(study.probe), 0, "f00d"], "0" * 12])
    assert Cell(study, "speaker", 1, 0).path(Path(), speech).name == f"{safe}--speaker--seed1.0--{of_cell}.json"
    assert stopwatch.timing_path(Path(), study, 2, "made-up cpu").name == f"{safe}--{of_timing}.json"
    assert prepare.run_name(study, speech, 1) == f"{name}--seed1--{of_lineage}"


def test_rows_and_paths_with_an_equals_sign_are_no_settings():
    words = ["pretrain.steps=3", "steps=3", "attention.init='[a/b]'"]
    options, settings = _parse(["--upstream", "fixed_init[init=raw]", "--out", "runs/lr=0.1", "--root=/a=b", *words])
    assert settings == words
    assert (options.upstream, str(options.out), options.root) == (["fixed_init[init=raw]"], "runs/lr=0.1", "/a=b")
    _, settings = _parse(["--upstream", "s3prl:fake:/no=where/x.ckpt", "../lr=1/c.ckpt"])
    assert settings == []


ROWS = ("fixed_init", "fixed_init[init=raw]", "fixed_init[init=maps]", "xbox[bucketed]")


def test_every_row_has_files_of_its_own_whose_names_can_be_read_and_typed(synthetic_tiny, tmp_path):
    request = Request("smoke", tmp_path, (*ROWS, "fixed_init[eps=1e-4,init=raw]", "xbox[mode=bucketed]"), ("speaker",))
    plan = make_plan(request)
    assert [cell.study.upstream for cell in plan.cells] == [*ROWS, "mel"]
    for name in (plan.path(plan.cells[1]).name, plan.records["fixed_init[init=raw]"].name):
        assert name.startswith("fixed_init+init=raw--")
    files = [*(plan.path(cell) for cell in plan.cells), *(plan.records[name] for name in ROWS)]
    files += [Path(prepare.run_name(plan.studies[name], plan.speech, 0)) for name in ROWS]
    assert len(set(files)) == 3 * len(ROWS) + 1
    assert all(re.fullmatch(r"[\w+=.,-]+", file.name) for file in files)
    assert safe_name("s3prl:a[b]") == "s3prl%3Aa%5Bb%5D"


def test_a_row_that_starts_from_maps_takes_those_of_its_own_seed(synthetic_tiny, tmp_path):
    plan = make_plan(Request("smoke", tmp_path, ("fixed_init[init=maps]",), ("speaker",), (0, 1)))
    study = plan.studies["fixed_init[init=maps]"]
    assert source_of_maps(study) == load_study("self_attention", "smoke")
    cell = next(cell for cell in plan.cells if (cell.study, cell.seed) == (study, 1))
    kinds = [(step.kind, step.upstream, step.seed) for step in steps_of(plan, [cell])[plan.path(cell)]]
    assert [kind for kind in kinds if kind[0] in ("pre-training", "mean maps")] == [
        ("pre-training", "self_attention", 1),
        ("mean maps", "self_attention", 1),
        ("pre-training", "fixed_init[init=maps]", 1),
    ]


def cell_of(row, overrides=(), **changes):
    """A cell as the benchmark would write it for a row at the smoke preset."""
    study = load_study(row, "smoke", overrides)
    return make_cell(
        cell__upstream=study.label,
        cell__preset="smoke",
        config=study.resolved(),
        difference=difference(study.upstream, "smoke", overrides),
        upstream__source_hash=source_hash(study.upstream),
        **changes,
    )


@pytest.mark.parametrize(
    ("row", "overrides"),
    [
        ("fixed_init[init=raw]", ["attention.eps=0.01", "pretrain.steps=7"]),
        ("xbox[bucketed,num_keys=16]", []),
        ("fixed_init[init=maps,maps=/a/b.safetensors]", []),
    ],
)
def test_the_command_of_a_cell_leads_to_its_row_again(row, overrides, tmp_path):
    cell = cell_of(row, overrides)
    options, words = _parse(shlex.split(command(cell, tmp_path))[2:])
    assert load_study(*options.upstream, options.preset, words) == load_study(row, "smoke", overrides)
    assert not any("configuration" in problem or "upstream" in problem for problem in obstacles(cell))


def test_a_cell_is_found_and_explained_by_the_name_of_its_row(tmp_path):
    save(tmp_path, cell_of("fixed_init"))
    path = save(tmp_path, cell_of("fixed_init[init=raw]"))
    for wanted in ("fixed_init[init=raw]", "fixed_init+init=raw--speaker"):
        assert find_cell(wanted, tmp_path) == (read_cell(path), path)
    told = explain(read_cell(path), path)
    assert "fixed_init[init=raw] (Fixed initialisation)" in told
    assert 'changed      attention.init="raw"' in told
    assert "--upstream 'fixed_init[init=raw]' --downstream" in told


def test_rows_of_one_upstream_differ_in_their_options_and_not_in_what_only_one_knows():
    one, other = cell_of("fixed_init"), cell_of("fixed_init[init=raw]")
    assert causes(one, other)["configuration"] == {
        "upstream": ('"fixed_init"', '"fixed_init[init=raw]"'),
        "attention.init": ('"log"', '"raw"'),
    }
    other["upstream"]["source_hash"] = "changed"
    assert causes(one, other)["code"] == {"upstream source": (source_hash("fixed_init"), "changed")}
    assert not one_sided(one, other)


def test_a_running_pre_training_is_told_by_the_name_of_its_row(tmp_path):
    log = tmp_path / "pretrain" / "corpus" / "fixed_init+init=raw--seed3--0123" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 2, "loss": 0.5, "elapsed_s": 4.0}\n')
    ((key, text, left_s),) = unfinished_trainings(tmp_path, {"fixed_init": 99, "fixed_init[init=raw]": 10}, 0.0)
    assert key == ("fixed_init[init=raw]", 3)
    assert text.startswith("pre-training fixed_init[init=raw], seed 3: step 2 of 10")
    assert left_s == 16.0


def test_a_row_is_pre_trained_from_its_options_and_probed(synthetic_tiny, tmp_path):
    overrides = ("pretrain.steps=2", "probe.num_epochs=1")
    plan = make_plan(Request("smoke", tmp_path, ("fixed_init[init=maps]",), ("speaker",), overrides=overrides))
    cell = plan.cells[0]
    ready = prepare.prepare(cell.study, plan.speech, plan.tasks, 0, tmp_path, "cpu")
    cell_module.run_cell(cell, ready, plan.speech, None, overrides, tmp_path, "cpu")
    found = by_pair(tmp_path)["fixed_init[init=maps]", "speaker"]
    note = "starts from the maps of a trained self_attention, whose pre-training is not counted"
    assert found["upstream"]["note"] == note
    saved = load_checkpoint(tmp_path / found["pretrain"]["checkpoint"])[0]
    assert (saved["upstream"], saved["options"]["init"]) == ("fixed_init", "maps")
    (maps,) = (tmp_path / "maps").rglob("self_attention--seed0--*.safetensors")
    assert saved["lineage"]["recipe"]["attention"]["maps"] == fingerprint(maps)
