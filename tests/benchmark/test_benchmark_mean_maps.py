"""Maps derived from a trained upstream: the plain mean, whole files, and the benchmark that makes them by itself.

Legend: n stacked frames, L distinct layers, H heads, N max_frames.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from s3prl_attention.benchmark.attention import mean_maps as module
from s3prl_attention.benchmark.attention.mean_maps import chosen, crops, mean_maps
from s3prl_attention.benchmark.claims import claims_of
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.prepare import Speech, lineage, source_of_maps
from s3prl_attention.benchmark.result_files import read_cell
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.benchmark.workloads import encoder_for
from s3prl_attention.recipes.config import load_recipe
from s3prl_attention.recipes.pretrain import lineage as pretrain_lineage
from s3prl_attention.recipes.pretrain import main as pretrain_main
from s3prl_attention.recipes.pretrain import pretrain_part
from s3prl_attention.upstream import load
from s3prl_attention.upstream.checkpoint import load_checkpoint
from s3prl_attention.upstream.maps_file import fingerprint, read_maps
from safetensors import safe_open
from safetensors.torch import save_file

FRAMES, INPUT_DIM = 12, 6
SIZES = {
    "hidden_dim": 16, "num_heads": 8, "num_layers": 3, "max_frames": FRAMES, "stack": 2, "num_mels": 3, "dropout": 0.5,
}  # fmt: skip


def speech(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, INPUT_DIM, generator=generator) for length in lengths]


def plain_mean(expert, utterances):
    """The same, with all maps in memory and a loop over rows."""
    depth, distinct = expert.options.num_layers, len(expert.encoder.layers)
    rows = {}
    for frames in utterances:
        states = expert.encoder(frames[None], None)
        for place in range(depth):
            maps = expert.encoder.layers[place % distinct].attention.weights(states[place], None)[0]
            for query in range(len(frames)):
                row = torch.zeros(8, FRAMES)
                row[:, : len(frames)] = maps[:, query]
                rows.setdefault((place % distinct, query), []).append(row)
    mean = torch.eye(FRAMES).repeat(distinct, 8, 1, 1)
    for (layer, query), found in rows.items():
        mean[layer, :, query] = torch.stack(found).mean(0)
    return mean


@pytest.mark.parametrize("shared_layers", [False, True])
@pytest.mark.parametrize("lengths", [(12, 12, 12), (9, 4, 7, 1)], ids=["full length", "shorter"])
def test_the_running_mean_is_the_plain_one(lengths, shared_layers):
    torch.manual_seed(0)
    expert = load("self_attention", **SIZES, shared_layers=shared_layers)
    got = mean_maps(expert.train(), iter(speech(*lengths)))
    assert got.shape == (1 if shared_layers else 3, 8, FRAMES, FRAMES)
    torch.testing.assert_close(got, plain_mean(expert.eval(), speech(*lengths)))
    torch.testing.assert_close(got.sum(-1), torch.ones(got.shape[:3]))
    unseen = max(lengths)
    assert torch.equal(got[:, :, unseen:], torch.eye(FRAMES)[unseen:].expand(*got.shape[:2], -1, -1))


def sized(max_frames):
    return load("self_attention", hidden_dim=16, num_heads=8, num_layers=1, max_frames=max_frames)


def test_utterances_that_fill_a_crop_are_chosen_and_always_the_same(synthetic_tiny):
    lengths = {u.id: -(-u.num_frames // 3) for u in synthetic_tiny.utterances}
    longest = sorted(lengths.values())[-5]
    expert = sized(longest)
    ids = chosen(expert, synthetic_tiny, 256)
    assert sorted(ids) == sorted(id for id in lengths if lengths[id] >= longest)
    assert chosen(expert, synthetic_tiny, 3) == ids[:3]
    found = list(crops(expert, synthetic_tiny, ids))
    assert {tuple(crop.shape) for crop in found} == {(longest, 240)}
    assert all(torch.equal(*pair) for pair in zip(found, crops(expert, synthetic_tiny, ids), strict=True))


def test_where_none_fills_a_crop_shorter_ones_are_used_and_it_is_said(synthetic_tiny, caplog):
    expert = sized(5000)
    ids = chosen(expert, synthetic_tiny, 4)
    assert len(ids) == 4
    assert "no utterance has 5000 stacked frames" in caplog.text
    wanted = {u.id: -(-u.num_frames // 3) for u in synthetic_tiny.utterances}
    assert [len(crop) for crop in crops(expert, synthetic_tiny, ids)] == [wanted[id] for id in ids]


# --- the command

TINY = ("model.hidden_dim=16", "model.num_layers=2", "model.max_frames=60", "pretrain.steps=4")


@pytest.fixture(scope="module")
def checkpoint(synthetic_tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("self_attention")
    pretrain_main(["self_attention", "--preset", "smoke", *TINY, "--out", str(out)])
    return out / "checkpoint"


def derive(checkpoint, path, *words):
    module.main([str(checkpoint), "--preset", "smoke", "--utterances", "5", "--out", str(path), *words])
    return path


def test_the_command_writes_maps_that_pretraining_takes(checkpoint, synthetic_tiny, tmp_path, capsys):
    path = derive(checkpoint, tmp_path / "maps.safetensors")
    assert capsys.readouterr().out == f"written: {path}\n"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert (about["upstream"], about["utterances"], about["corpus"]) == ("self_attention", "5", synthetic_tiny.name)
    assert about["source"].startswith("sha256:")
    expert = load("self_attention", ckpt=checkpoint)
    part = pretrain_part(synthetic_tiny, [])
    want = mean_maps(expert, crops(expert, part, chosen(expert, part, 5)))
    assert torch.equal(read_maps(path, 2, 8, 60), want)
    run = tmp_path / "run"
    pretrain_main(["mean_map", "--preset", "smoke", *TINY, f"attention.maps={path}", "--out", str(run)])
    logits = load_checkpoint(run / "checkpoint")[1]["encoder.layers.1.attention.core.logits"]
    torch.testing.assert_close(logits.softmax(-1), (want[1] + 1e-4) / (1 + 60e-4))
    moved = path.rename(tmp_path / "elsewhere.safetensors")
    pretrain_main(["mean_map", "--preset", "smoke", *TINY, f"attention.maps={moved}", "--out", str(run)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--utterances", "0"], "at least 1 utterance, got 0"),
        (["--corpus", "timit"], "unknown corpus 'timit'"),
        (["--device", "banana"], "banana"),
    ],
)
def test_the_command_answers_a_mistake_in_one_line(checkpoint, tmp_path, words, message):
    with pytest.raises(SystemExit) as told:
        derive(checkpoint, tmp_path / "maps.safetensors", *words)
    assert str(told.value.code).startswith("error: ")
    assert message in str(told.value.code)
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_what_the_checkpoint_decides(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        derive(checkpoint, tmp_path / "maps.safetensors", "model.num_layers=3")
    assert "only data.option=value has a meaning here" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: .* is no checkpoint"):
        derive(tmp_path, tmp_path / "maps.safetensors")


@pytest.mark.parametrize("words", [["mean_map"], ["fixed_init", "attention.init=maps"]])
def test_pretraining_without_a_file_names_the_command_that_makes_one(words, tmp_path):
    with pytest.raises(SystemExit) as told:
        pretrain_main([*words, "--preset", "smoke", "--out", str(tmp_path / "run")])
    assert "got no file of them: pre-train self_attention, derive them" in str(told.value.code)
    assert "python -m s3prl_attention.benchmark.attention.mean_maps CHECKPOINT" in str(told.value.code)
    assert not (tmp_path / "run").exists()


# --- lineage


def maps_in(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"maps": torch.randn(2, 8, 100, 100, generator=torch.manual_seed(seed)).softmax(-1)}, path)
    return path


def both_lineages(corpus, *overrides, upstream="mean_map", seed=0):
    study = load_study(upstream, "smoke", overrides)
    own = lineage(study, Speech(corpus, corpus), seed)
    return own, json.dumps(pretrain_lineage(study.recipe, corpus, seed))


def test_the_content_of_the_maps_decides_lineage_and_their_path_does_not(synthetic_tiny, tmp_path):
    here, there, other = (maps_in(tmp_path / name / "m", seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    of = {path: both_lineages(synthetic_tiny, f"attention.maps={path}") for path in (here, there, other)}
    assert of[here] == of[there]
    assert of[here][0] != of[other][0]
    assert of[here][1] != of[other][1]


@pytest.mark.parametrize("words", [("mean_map",), ("fixed_init", "attention.init=maps")])
def test_the_lineage_of_maps_to_be_made_has_that_of_their_source(words, synthetic_tiny, monkeypatch):
    from s3prl_attention.benchmark import prepare

    upstream, overrides = words[0], words[1:]
    before = both_lineages(synthetic_tiny, *overrides, upstream=upstream)[0]
    assert both_lineages(synthetic_tiny, *overrides, upstream=upstream)[0] == before
    real = prepare.source_hash
    monkeypatch.setattr(prepare, "source_hash", lambda name: real(name) + "changed" * (name == "self_attention"))
    assert both_lineages(synthetic_tiny, *overrides, upstream=upstream)[0] != before
    random = both_lineages(synthetic_tiny, upstream="synthesizer_random")[0]
    monkeypatch.undo()
    assert both_lineages(synthetic_tiny, upstream="synthesizer_random")[0] == random, "it starts from no maps"


def test_the_source_is_trained_as_the_benchmark_trains_it(synthetic_tiny):
    overrides = ["pretrain.steps=7", "model.num_layers=4", "attention.eps=1e-3"]
    source = source_of_maps(load_study("mean_map", "smoke", overrides))
    own = load_study("self_attention", "smoke", overrides)
    assert source.recipe == own.recipe
    both = Speech(synthetic_tiny, synthetic_tiny)
    assert lineage(source, both, 0) == lineage(own, both, 0)


def test_with_a_file_or_without_the_option_nothing_else_is_trained(tmp_path):
    assert source_of_maps(load_study("mean_map", "smoke", [f"attention.maps={maps_in(tmp_path / 'm')}"])) is None
    assert source_of_maps(load_study("fixed_init", "smoke")) is None
    assert source_of_maps(load_study("mel", "smoke")) is None


@pytest.mark.parametrize("words", [("mean_map",), ("fixed_init", "attention.init=maps")])
@pytest.mark.parametrize("given", [False, True])
def test_timing_needs_no_maps_and_takes_any_length(words, given, tmp_path):
    overrides = [*words[1:], *([f"attention.maps={maps_in(tmp_path / 'm')}"] if given else [])]
    encoder = encoder_for(load_recipe(words[0], "smoke", overrides), 150, torch.device("cpu"))
    assert encoder(torch.randn(1, 150, 240), None)[-1].shape == (1, 150, 32)


# --- the benchmark


SMOKE = ("--preset", "smoke", "--upstream", "mean_map", "--downstream", "speaker")


@pytest.fixture(scope="module")
def finished(synthetic_tiny, tmp_path_factory):
    """A result folder of ``mean_map`` at smoke size."""
    out = tmp_path_factory.mktemp("result")
    assert main([*SMOKE, "--out", str(out)]) == 0
    return out


def one(out: Path, pattern: str) -> Path:
    (path,) = out.glob(pattern)
    return path


def test_the_benchmark_trains_self_attention_and_starts_from_its_maps(finished, synthetic_tiny):
    cell = read_cell(one(finished, "cells/**/mean_map--*.json"))
    assert cell["status"] == "ok"
    assert cell["config"]["attention"] == {"maps": "", "frozen": True, "eps": 1e-4}
    source = load("self_attention", ckpt=one(finished, "pretrain/*/self_attention--seed0--*/checkpoint"))
    part = pretrain_part(synthetic_tiny, [])
    want = mean_maps(source, crops(source, part, chosen(source, part, 256)))
    maps = one(finished, "maps/*/self_attention--seed0--*.safetensors")
    torch.testing.assert_close(read_maps(maps, 2, 8, 100), want)
    config, tensors = load_checkpoint(one(finished, "pretrain/*/mean_map--*/checkpoint"))
    for layer in range(2):
        weights = tensors[f"encoder.layers.{layer}.attention.core.logits"].softmax(-1)
        torch.testing.assert_close(weights, (want[layer] + 1e-4) / (1 + 100e-4))
    assert config["lineage"]["recipe"]["attention"]["maps"] == fingerprint(maps)


@pytest.mark.parametrize("made_by_another", [False, True])
def test_two_processes_make_maps_once(made_by_another, synthetic_tiny, tmp_path, monkeypatch):
    from s3prl_attention.benchmark import prepare

    study, made = load_study("mean_map", "smoke"), []
    both = Speech(synthetic_tiny, synthetic_tiny)
    source = prepare.run_name(source_of_maps(study), both, 0)
    maps = tmp_path / "maps" / synthetic_tiny.name / f"{source}--v{module.VERSION}.safetensors"

    def pretrain(recipe, corpus, folder, seed, device):
        if folder.name == source and made_by_another:
            maps_in(maps)
        return SimpleNamespace(checkpoint=folder / "checkpoint")

    def write(checkpoint, corpus, path, device):
        with pytest.raises(RuntimeError, match="this process has claimed"), claims_of(tmp_path).hold(path.name):
            pass
        made.append(path)

    monkeypatch.setattr(prepare, "pretrain", pretrain)
    monkeypatch.setattr(module, "write_mean_maps", write)
    prepare._pretrained(study, both, 0, tmp_path, "cpu")
    assert made == ([] if made_by_another else [maps])


def test_a_moved_folder_is_finished_and_shares_its_maps(finished, tmp_path, capsys):
    out = tmp_path / "moved"
    shutil.copytree(finished, out)
    assert main([*SMOKE, "--out", str(out)]) == 0
    assert "0 made now" in capsys.readouterr().out
    one(out, "cells/**/mean_map--*.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.glob("pretrain/**/*.safetensors")}
    shutil.rmtree(one(out, "pretrain/*/self_attention--*"))  # not needed any more: the maps are there
    assert main([*SMOKE, "--out", str(out)]) == 0
    assert "1 made now, 0 failed" in capsys.readouterr().out
    now = {path: path.stat().st_mtime_ns for path in out.glob("pretrain/**/*.safetensors")}
    assert now.items() <= before.items()
    assert len(now) == 1


def test_a_file_that_is_not_there_is_told_before_any_work(synthetic_tiny, tmp_path, capsys):
    assert main([*SMOKE, "--out", str(tmp_path / "out"), "attention.maps=/nowhere/at/all"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: /nowhere/at/all is no file of maps")
    assert list((tmp_path / "out").iterdir()) == []
