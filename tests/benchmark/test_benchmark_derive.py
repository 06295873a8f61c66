"""Sets of maps from a trained upstream: prototypes of known maps, how they are dealt, and what starts from the file.

Legend: L layers, H heads, N frames.
"""

import hashlib

import pytest
import torch
import yaml
from s3prl_attention.benchmark.attention import derive as module
from s3prl_attention.benchmark.attention.cases import FLAT, NEAR, SIDED, VERTICAL, describe
from s3prl_attention.benchmark.attention.mean_maps import write_mean_maps
from s3prl_attention.benchmark.attention.metrics import by_offset, spread
from s3prl_attention.benchmark.attention.prototypes import Prototype, dealt, drawn, prototypes, relative
from s3prl_attention.recipes.config import load_recipe
from s3prl_attention.recipes.lineage import pretrain_part
from s3prl_attention.recipes.pretrain import pretrain
from s3prl_attention.upstream import load
from s3prl_attention.upstream.contract import entry
from s3prl_attention.upstream.kernels.hand_crafted import NAMES, hand_crafted
from s3prl_attention.upstream.maps_file import fingerprint, read_maps
from safetensors.torch import load_file

N = 64
CASES = (
    (NEAR, "self", 0), (NEAR, "next", 1), (NEAR, "previous", -1), (SIDED, "past", 0), (SIDED, "future", 0),
    (VERTICAL, "end", 0), (VERTICAL, "start", 0),
)  # fmt: skip


def noisy(maps, share=0.2):
    noise = torch.randn(maps.shape, generator=torch.manual_seed(0)).softmax(-1)
    return (1 - share) * maps + share * noise


def test_a_prototype_for_every_pattern_found_the_most_frequent_first():
    patterns = hand_crafted(N)
    even = torch.full((1, N, N), 1 / N)
    layers = [
        torch.cat([patterns, even]),
        torch.cat([patterns[[2, 2, 1, 2, 2, 1]], noisy(even, 1.0), even]),
    ]
    found = prototypes(noisy(torch.stack(layers)))
    assert [(p.case, p.detail, p.shift) for p in found[:3]] == [CASES[2], (NEAR, "next", 1), (FLAT, "even", 0)]
    assert {(p.case, p.detail, p.shift) for p in found} == {*CASES, (FLAT, "even", 0)}
    assert found[0].heads == ((0, 2), (1, 0), (1, 1), (1, 3), (1, 4))
    assert found[1].heads == ((0, 1), (1, 2), (1, 5))
    assert sorted(at for p in found for at in p.heads) == [(layer, head) for layer in (0, 1) for head in range(8)]
    for prototype in found:
        assert describe(drawn(prototype, N)).name == prototype.case


@pytest.mark.parametrize("frames", [20, N, 150])
@pytest.mark.parametrize("pattern", range(7))
def test_a_prototype_is_its_pattern_at_every_length(pattern, frames):
    """Relative ones go on as they were; columns are counted from the end where the pattern is at the end."""
    (prototype,) = prototypes(hand_crafted(N)[pattern][None, None])
    got = drawn(prototype, frames)
    torch.testing.assert_close(got.sum(-1), torch.ones(frames))
    want = hand_crafted(frames)[pattern]
    if prototype.case == NEAR:
        torch.testing.assert_close(got, want, atol=1e-3, rtol=0)
    elif prototype.case == SIDED:
        assert prototype.detail == describe(got).detail
        beyond = torch.ones(frames, frames).tril(-N).bool() | torch.ones(frames, frames).triu(N).bool()
        assert not got[beyond].any()
    else:
        assert torch.equal(got, got[:1].expand_as(got))
        row = hand_crafted(N)[pattern][0]
        row = row.flip(0) if prototype.detail == "end" else row
        one = got[0].flip(0) if prototype.detail == "end" else got[0]
        kept = min(frames, N)
        torch.testing.assert_close(one[:kept], row[:kept] / row[:kept].sum())
        assert not one[kept:].any()


def test_a_relative_map_is_given_back_and_any_other_has_its_mass_by_offset_kept():
    profile = torch.rand(2 * N - 1, generator=torch.manual_seed(0), dtype=torch.float64) ** 4
    exact = spread(profile)
    exact = exact / exact.sum(-1, keepdim=True)
    torch.testing.assert_close(drawn(Prototype(SIDED, "past", 0, ((0, 0),), relative(exact)), N).double(), exact)
    other = noisy(hand_crafted(N)[3]).double()
    made = drawn(Prototype(SIDED, "past", 0, ((0, 0),), relative(other)), N).double()
    torch.testing.assert_close(by_offset(made), by_offset(other), atol=1e-7, rtol=1e-4)


def test_a_prototype_is_of_the_mean_of_its_heads():
    first, second = torch.eye(N), noisy(torch.eye(N), 0.5)
    (prototype,) = prototypes(torch.stack([first, second])[None])
    torch.testing.assert_close(by_offset(drawn(prototype, N)), by_offset((first + second) / 2), atol=1e-6, rtol=1e-4)
    third = noisy(hand_crafted(N)[6], 0.5)
    (prototype,) = prototypes(torch.stack([hand_crafted(N)[6], third])[None])
    torch.testing.assert_close(drawn(prototype, N)[9], (hand_crafted(N)[6] + third).mean(0) / 2)
    (even,) = prototypes(noisy(torch.full((1, 1, N, N), 1 / N)))
    assert torch.equal(drawn(even, 40), torch.full((40, 40), 1 / 40))


def test_each_prototype_has_a_head_in_every_layer_and_the_others_are_random():
    found = prototypes(hand_crafted(N)[None, :5])
    maps = dealt(found, 3, 8, 100, seed=0)
    assert maps.shape == (3, 8, 100, 100)
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 8, 100))
    for layer in maps:
        assert all(torch.equal(layer[head], drawn(found[head], 100)) for head in range(5))
    logits = maps[:, 5:].log()
    assert float(logits.std(-1).mean()) == pytest.approx(1, abs=0.05), "as softmax of N(0, 1)"
    assert len({float(maps[layer, head, 0, 0]) for layer in range(3) for head in (5, 6, 7)}) == 9
    assert torch.equal(maps, dealt(found, 3, 8, 100, seed=0))
    assert not torch.equal(maps[:, 5:], dealt(found, 3, 8, 100, seed=1)[:, 5:])
    with pytest.raises(ValueError, match=r"^5 prototypes were found, .* 4 heads .*: ask for --heads 5 or more"):
        dealt(found, 3, 4, 100, seed=0)


# --- the command

TINY = ("model.hidden_dim=16", "model.max_frames=60", "pretrain.steps=2")


@pytest.fixture(scope="module")
def corpus(synthetic_tiny):
    return pretrain_part(synthetic_tiny, [])


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    """An upstream of hand-crafted maps, so that the cases found are known."""
    folder = tmp_path_factory.mktemp("fixed_init")
    recipe = load_recipe("fixed_init", "smoke", [*TINY, "attention.eps=1e-6"])
    return pretrain(recipe, corpus, folder).checkpoint


def test_a_file_that_cannot_be_written_is_told_in_a_line(checkpoint, tmp_path):
    (tmp_path / "set.yaml").mkdir()
    with pytest.raises(SystemExit, match=r"^error: .*set\.yaml"):
        run(checkpoint, tmp_path / "set.safetensors")


def run(checkpoint, out, *words):
    module.main([str(checkpoint), "--utterances", "3", "--out", str(out), *words])
    return out


def test_prototypes_are_written_told_and_taken_by_those_that_start_from_maps(checkpoint, tmp_path, capsys):
    path = run(checkpoint, tmp_path / "set.safetensors")
    written = [tmp_path / f"set{ending}" for ending in (".safetensors", ".yaml", ".png", ".svg")]
    assert capsys.readouterr().out.splitlines() == [f"written: {file}" for file in written]
    told = yaml.safe_load((tmp_path / "set.yaml").read_text(encoding="utf-8"))
    assert told["maps"] == {"file": "set.safetensors", "sha256": fingerprint(path), "shape": [2, 8, 60, 60]}
    weights = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert told["made_of"]["weights"] == f"sha256:{weights}"
    assert (told["what"], told["made_of"]["upstream"], told["made_of"]["utterances"]) == ("prototypes", "fixed_init", 3)
    assert f"--out {path}" in told["command"]
    heads = told["heads"]
    assert [line["head"] for line in heads] == list(range(1, 9))
    assert [(line["case"], line["detail"], line["shift"]) for line in heads if line["case"] != FLAT] == list(CASES)
    assert heads[NAMES.index("previous")]["from"] == ["layer 1 head 3", "layer 2 head 3"]
    assert heads[7] == {
        "head": 8, "case": FLAT, "detail": "even", "shift": 0, "made": "uniform",
        "from": ["layer 1 head 8", "layer 2 head 8"],
    }  # fmt: skip
    maps = read_maps(path, 2, 8, 60)
    sizes = {"hidden_dim": 16, "num_heads": 8, "num_layers": 2, "max_frames": 60, "maps": str(path)}
    for expert in (load("fixed_init", **sizes, init="maps"), load("mean_map", **sizes)):
        for layer in range(2):
            start = expert.encoder.layers[layer].attention.core.logits.softmax(-1)
            torch.testing.assert_close(start, (maps[layer] + 1e-4) / (1 + 60e-4))
    cut = load("fixed_init", **{**sizes, "max_frames": 30}, init="maps")
    assert cut.encoder.layers[1].attention.core.logits.shape == (8, 30, 30)


def test_maps_over_other_speech_than_the_checkpoints_are_told(checkpoint, synthetic_tiny, tmp_path, caplog):
    run(checkpoint, tmp_path / "own.safetensors")
    assert "other speech" not in caplog.text
    other = next(name for name in synthetic_tiny.subsets() if not name.startswith("train"))
    run(checkpoint, tmp_path / "set.safetensors", f"data.pretrain_subsets=[{other}]")
    assert f"{checkpoint} was pre-trained on other speech, of corpus {synthetic_tiny.name}, " in caplog.text


def test_pretraining_starts_from_a_set_of_other_sizes(checkpoint, corpus, tmp_path):
    path = run(checkpoint, tmp_path / "set.safetensors", "--heads", "12", "--layers", "1", "--max-frames", "80")
    told = yaml.safe_load((tmp_path / "set.yaml").read_text(encoding="utf-8"))
    assert told["maps"]["shape"] == [1, 12, 80, 80]
    assert told["heads"][8:] == [{"head": head, "case": "random", "seed": 0} for head in (9, 10, 11, 12)]
    sizes = (
        "model.num_heads=12",
        "model.num_layers=1",
        "model.max_frames=80",
        "model.hidden_dim=24",
        "pretrain.steps=1",
    )
    for words in (("mean_map",), ("fixed_init", "attention.init=maps")):
        recipe = load_recipe(words[0], "smoke", [*sizes, *words[1:], f"attention.maps={path}"])
        done = pretrain(recipe, corpus, tmp_path / words[0])
        logits = load_file(done.checkpoint / "model.safetensors")["encoder.layers.0.attention.core.logits"]
        torch.testing.assert_close(logits.softmax(-1), load_file(path)["maps"][0], atol=0.02, rtol=0)


def test_means_are_the_mean_maps_and_each_is_told(checkpoint, corpus, tmp_path):
    path = run(checkpoint, tmp_path / "means.safetensors", "--what", "means")
    same = write_mean_maps(checkpoint, corpus, tmp_path / "same.safetensors", most=3)
    assert fingerprint(path) == fingerprint(same)
    told = yaml.safe_load((tmp_path / "means.yaml").read_text(encoding="utf-8"))
    lines = told["heads"]
    assert [(line["layer"], line["head"]) for line in lines] == [(i, j) for i in (1, 2) for j in range(1, 9)]
    assert [(line["case"], line["detail"], line["shift"]) for line in lines[8:15]] == list(CASES)


def test_rows_that_no_utterance_reached_decide_no_case(corpus, tmp_path):
    """Mean maps have identity there, which must not make an even map a diagonal one."""
    recipe = load_recipe("self_attention", "smoke", [*TINY[:1], "model.max_frames=390", "pretrain.steps=1"])
    done = pretrain(recipe, corpus, tmp_path / "run")
    run(done.checkpoint, tmp_path / "means.safetensors", "--what", "means")
    told = yaml.safe_load((tmp_path / "means.yaml").read_text(encoding="utf-8"))
    assert told["maps"]["shape"][-1] == 390
    assert told["made_of"]["frames"] < 260
    assert {line["case"] for line in told["heads"]} <= {FLAT, VERTICAL}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--heads", "5"], "8 prototypes were found, and a set of 5 heads has no room for one each: ask for --heads 8"),
        (["--heads", "0"], "must be at least 1"),
        (["--what", "means", "--heads", "9"], "leave out --layers, --heads and --max-frames"),
        (["--utterances", "0"], "at least 1 utterance, got 0"),
        (["--out", "set.pt"], "set.pt must end in .safetensors"),
    ],
)
def test_a_mistake_is_answered_in_one_line(checkpoint, tmp_path, words, message):
    with pytest.raises(SystemExit) as told:
        run(checkpoint, tmp_path / "set.safetensors", *words)
    assert str(told.value.code).startswith("error: ")
    assert message in str(told.value.code)
    assert "\n" not in str(told.value.code)
    assert list(tmp_path.iterdir()) == []


def test_an_upstream_without_maps_is_told(checkpoint, tmp_path, monkeypatch):
    monkeypatch.delattr(entry("fixed_init").attention, "weights")
    with pytest.raises(SystemExit, match=r"^error: the attention of fixed_init has no maps"):
        run(checkpoint, tmp_path / "set.safetensors")
