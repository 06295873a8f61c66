"""The analysis of attention: running means, what is explained by them, marks of crops, and the command.

Legend: T frames of a crop, P places, H heads.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from s3prl_attention.benchmark.__main__ import main
from s3prl_attention.benchmark.attention import collect as module
from s3prl_attention.benchmark.attention.analysis import by_layer, heads, how_many_cases, projected
from s3prl_attention.benchmark.attention.cases import CASES, FLAT, NEAR, SIDED, VERTICAL
from s3prl_attention.benchmark.attention.collect import Crop, collect, crops, turns, utterances_for
from s3prl_attention.benchmark.attention.metrics import spread
from s3prl_attention.benchmark.pages import where_made
from s3prl_attention.benchmark.settings import telling
from s3prl_attention.upstream import load
from s3prl_attention.upstream.kernels.hand_crafted import NAMES, hand_crafted

T = 32
SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 3, "max_frames": 64, "stack": 2, "num_mels": 3, "dropout": 0.5}


def noise_crops(count, **marks):
    generator = torch.Generator().manual_seed(3)
    return [Crop(str(number), torch.randn(T, 6, generator=generator), marks) for number in range(count)]


@pytest.mark.parametrize("shared_layers", [False, True])
def test_running_means_are_plain_means(shared_layers):
    torch.manual_seed(0)
    expert = load("self_attention", **SIZES, shared_layers=shared_layers)
    found = noise_crops(11)
    got = collect(expert.train(), iter(found), samples=9)
    assert got.layers == [1, 2, 3], "shared layers see different input"
    assert got.ids == [str(number) for number in range(11)]
    for place in range(3):
        layers = expert.eval().encoder.layers
        each = torch.cat([
            layers[place % len(layers)].attention.weights(expert.encoder(crop.frames[None], None)[place], None)
            for crop in found
        ])  # fmt: skip
        torch.testing.assert_close(got.mean[place].float(), each.mean(0), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(
            got.spread[place].float(), (each - 1 / T).square().sum((-2, -1)).mean(0), rtol=1e-3, atol=0
        )
        torch.testing.assert_close(got.samples[:, place].float(), each[:9], atol=1e-3, rtol=1e-3)
        entropies = torch.special.entr(each).sum(-1).mean(-1)
        torch.testing.assert_close(got.globalness[place].float(), entropies.mean(0), atol=1e-4, rtol=1e-4)


def test_shared_layers_without_input_have_one_place():
    expert = load("fixed_init", **SIZES, shared_layers=True)
    assert collect(expert, noise_crops(8)).mean.shape == (1, 8, T, T)
    apart = load("fixed_init", **SIZES)
    got = collect(apart, noise_crops(8))
    assert got.mean.shape == (3, 8, T, T)
    torch.testing.assert_close(got.explained, torch.ones(3, 8, dtype=torch.float64))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_what_is_common_is_told_from_few_crops_without_bias(share):
    """Maps with a common part and one of their own, whose squared sizes are as share to 1 - share."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 64, T, T, generator=generator, dtype=torch.float64)
    found = []
    for _ in range(2):  # of 10 crops: the mean of ten keeps a tenth of what is not common
        sums = module._Sums(0)
        for number in range(10):
            own = torch.randn(1, 1, 64, T, T, generator=generator, dtype=torch.float64)
            sums.add(
                [Crop(str(number), torch.empty(T, 0), {})],
                1 / T + math.sqrt(share) * common + math.sqrt(1 - share) * own,
            )
        found.append(sums.result([1]).explained)
    assert torch.cat(found).mean().item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_what_hangs_on_the_offset_is_told_from_few_crops_without_bias(share):
    """The same, with a common part of which a half in squared size hangs on key - query alone."""
    generator = torch.Generator().manual_seed(0)
    profile = torch.randn(1, 64, 2 * T - 1, generator=generator, dtype=torch.float64)
    relative = spread(profile)
    relative = relative / relative.square().mean((-2, -1), keepdim=True).sqrt()
    common = (0.5**0.5) * (relative + torch.randn(1, 64, T, T, generator=generator, dtype=torch.float64))
    sums = module._Sums(0)
    for number in range(10):
        own = torch.randn(1, 1, 64, T, T, generator=generator, dtype=torch.float64)
        maps = 1 / T + math.sqrt(share) * common + math.sqrt(1 - share) * own
        sums.add([Crop(str(number), torch.empty(T, 0), {})], maps)
    found = sums.result([1])
    assert found.explained.mean().item() == pytest.approx(share, abs=0.01)
    by_chance = (2 * T - 1) / T**2  # of the other half
    assert found.explained_by_offset.mean().item() == pytest.approx(share / 2 * (1 + by_chance), abs=0.01)


def test_where_all_maps_are_even_nothing_is_explained():
    got = collect(load("uniform", **SIZES), noise_crops(8))
    assert got.explained.isnan().all()
    assert {row["explained"] for row in heads(got)} == {None}, "JSON has no NaN"
    assert {row["case"] for row in heads(got)} == {FLAT}


def test_mass_within_marks_is_told_beside_chance():
    mark = torch.arange(T) // 8
    got = collect(load("no_attention", **SIZES), noise_crops(8, phone=mark))
    assert got.chance == {"phone": pytest.approx(0.25)}
    assert torch.allclose(got.within["phone"], torch.ones((), dtype=torch.float64))
    even = collect(load("uniform", **SIZES), noise_crops(8, phone=mark))
    assert even.within["phone"].mean().item() == pytest.approx(0.25)


def test_an_attention_without_maps_is_refused(monkeypatch):
    expert = load("uniform", **SIZES)
    monkeypatch.delattr(type(expert.encoder.layers[0].attention), "weights")
    with pytest.raises(ValueError, match="the attention of uniform has no maps"):
        collect(expert, noise_crops(8))


def test_fewer_than_eight_crops_are_refused():
    with pytest.raises(ValueError, match="at least 8 crops, got 7"):
        collect(load("self_attention", **SIZES), noise_crops(7))


def test_crops_are_marked_by_what_is_said_at_their_frames(synthetic_tiny):
    expert = load("self_attention", **{**SIZES, "stack": 3, "num_mels": 80})
    chosen = utterances_for(synthetic_tiny, T, 3, 12)
    assert len(chosen) == 12
    found = list(crops(expert, synthetic_tiny, chosen, T))
    again = list(crops(expert, synthetic_tiny, chosen, T))
    starts = np.random.default_rng(0)
    for utterance, crop, same in zip(chosen, found, again, strict=True):
        assert crop.frames.shape == (T, 240)
        assert torch.equal(crop.frames, same.frames)
        start = int(starts.integers(utterance.num_frames - 3 * T + 1))
        labels = utterance.phones.frame_labels(utterance.num_frames)[start + 1 : start + 3 * T : 3]
        assert crop.marks["phone"].tolist() == labels.tolist(), "the label of the middle one of three"
        changes = crop.marks["phone"].diff() != 0
        assert not (changes & (crop.marks["segment"].diff() == 0)).any(), "another phone is another segment"


def test_corpora_of_short_utterances_are_refused(synthetic_tiny):
    with pytest.raises(ValueError, match=r"has 0 utterances of 4000 stacked frames \(120 s\).*--frames"):
        utterances_for(synthetic_tiny, 4000, 3, 256)


def test_turns_are_halves_of_two_speakers():
    one = noise_crops(6)
    speakers = {"0": "a", "1": "a", "2": "b", "3": "a", "4": "b", "5": "a"}
    found = list(turns(one, speakers))
    assert [crop.id for crop in found] == ["0 + 2", "1 + 4"]
    assert torch.equal(found[0].frames, torch.cat([one[0].frames[: T // 2], one[2].frames[T // 2 :]]))
    assert found[0].marks["turn"].tolist() == [0] * (T // 2) + [1] * (T // 2)


# --- the table, projections

EXPECTED = [NEAR, NEAR, NEAR, SIDED, SIDED, VERTICAL, VERTICAL, FLAT]


@pytest.fixture(scope="module")
def hand_made():
    """fixed_init at its start: seven hand-crafted heads and one at random, alike in three layers."""
    torch.manual_seed(0)
    return collect(load("fixed_init", **{**SIZES, "max_frames": T}), noise_crops(8))


def test_the_table_has_every_head_with_its_case(hand_made):
    table = heads(hand_made)
    assert [(row["layer"], row["head"]) for row in table] == [
        (layer, head) for layer in (1, 2, 3) for head in range(1, 9)
    ]
    assert [row["case"] for row in table] == 3 * EXPECTED
    assert by_layer(table) == [[3, 2, 2, 1]] * 3
    assert [sum(row) for row in by_layer(table)] == [8, 8, 8]
    identity, following = table[0], table[1]
    assert identity["diagonality"] == pytest.approx(0, abs=0.01)
    assert following["distance_frames"] == pytest.approx(1, abs=0.1)
    assert following["shift"] == 1
    assert identity["explained_by_offset"] == pytest.approx(1, abs=0.01)
    assert table[5]["explained_by_offset"] < 0.5, "columns do not hang on the offset"


def test_four_kinds_of_maps_are_four_clusters():
    kinds = [hand_crafted(T)[NAMES.index(name)] for name in ("identity", "left context", "towards the end")]
    kinds.append(torch.full((T, T), 1 / T))
    generator = torch.Generator().manual_seed(0)
    maps = torch.stack([
        0.9 * kind + 0.1 * torch.randn(T, T, generator=generator).softmax(-1) for kind in kinds for _ in range(6)
    ])[None]  # fmt: skip
    sums = module._Sums(samples=0)
    for number in range(8):
        sums.add([Crop(str(number), torch.empty(T, 0), {})], maps[None])
    made = sums.result([1])
    found = projected(made, heads(made), seed=0)["mean maps"]
    assert found["agreement"] == 1.0
    assert len(found["pca"]) == len(found["tsne"]) == len(found["head"]) == 24
    sentence = how_many_cases("mean maps", found)
    assert "four is the best number" in sentence
    assert "1.00 (adjusted Rand index)" in sentence
    other = {**found, "silhouettes": {"2": 0.9, "3": 0.2, "4": 0.5}}
    assert "2 is the best number, not four" in how_many_cases("mean maps", other)


def test_maps_that_are_all_the_same_are_not_projected():
    got = collect(load("uniform", **SIZES), noise_crops(8))
    found = projected(got, heads(got), seed=0)["mean maps"]
    assert "pca" not in found
    assert "only 1 of the 24 maps are different" in how_many_cases("mean maps", found)


# --- the command

SMOKE = ["attention", "--preset", "smoke", "--frames", "64", "--samples", "4"]


@pytest.fixture(scope="module")
def analysed(synthetic_tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("attention")
    main([*SMOKE, "--upstream", "self_attention", "fixed_init", "--out", str(out)])
    return out


def test_the_command_writes_an_analysis_a_page_and_pictures(analysed, synthetic_tiny):
    for name, pictures in (
        ("self_attention", {"gallery", "dependence", "projections"}),
        ("fixed_init", {"gallery", "training", "projections"}),
    ):
        folder = analysed / "attention" / synthetic_tiny.name / "smoke" / f"{name}--seed0"
        found = json.loads((folder / "analysis.json").read_text())
        assert len(found["table"]) == 2 * 8
        assert {row["case"] for row in found["table"]} <= set(CASES)
        assert {"same_phone", "same_segment", "same_turn"} <= set(found["table"][0])
        assert found["chance"]["turn"] == pytest.approx(0.5)
        assert {picture["file"] for picture in found["pictures"]} == {f"{picture}.png" for picture in pictures}
        page = (folder / "attention.md").read_text()
        for picture in found["pictures"]:
            assert (folder / picture["file"]).stat().st_size > 5000
            assert (folder / picture["file"]).with_suffix(".svg").is_file()
            assert picture["file"] in page
            assert picture["alt"]
        assert all(f"| {row['layer']}.{row['head']} |" in page for row in found["table"])
        assert "| -0.00 |" not in page
        assert "python -m s3prl_attention.benchmark attention --preset smoke" in page
        (run,) = (analysed / "pretrain" / synthetic_tiny.name).glob(f"{name}--*")
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        assert f"to a masked L1 of {last['valid_loss']:.3f} on held-out utterances, in float32" in page
        assert "\n".join(where_made([found["environment"]])) in page
    start = found["start"]
    assert [row["case"] for row in start] == 2 * EXPECTED


def test_a_row_with_options_and_settings_has_a_folder_of_its_own(analysed, synthetic_tiny):
    main([*SMOKE, "--out", str(analysed), "--upstream", "fixed_init[init=random]", "pretrain.steps=5"])
    folder = analysed / "attention" / synthetic_tiny.name / "smoke" / "fixed_init+init=random--seed0--pretrain.steps=5"
    found = json.loads((folder / "analysis.json").read_text())
    assert found["upstream"] == "fixed_init[init=random]"
    assert found["steps"] == 5, "settings may stand behind rows"
    assert {row["case"] for row in found["start"]} == {FLAT}, "no hand-crafted head"


def test_options_that_a_row_does_not_take_are_not_in_the_name_of_its_folder():
    words = ["pretrain.steps=5", "attention.init=raw", "data.root=/data"]
    assert telling(["self_attention"], words) == ["pretrain.steps=5"]
    assert telling(["self_attention", "fixed_init"], words) == ["attention.init=raw", "pretrain.steps=5"]


def test_other_speech_than_that_of_pre_training_can_be_looked_at(analysed, synthetic_tiny):
    other = next(name for name in synthetic_tiny.subsets() if not name.startswith("train"))
    heard = {u.id for u in synthetic_tiny.select(other).utterances if u.num_frames >= 64 * 3}
    main([*SMOKE, "--out", str(analysed), "--subsets", other])
    folder = analysed / "attention" / synthetic_tiny.name / "smoke" / f"self_attention--seed0--{other}"
    found = json.loads((folder / "analysis.json").read_text())
    assert (found["subsets"], found["utterances"]) == ([other], len(heard))
    assert f"one an utterance, of the subsets {other}." in (folder / "attention.md").read_text()
    assert len(list((analysed / "pretrain" / synthetic_tiny.name).glob("self_attention--seed0--*"))) == 1
    with pytest.raises(SystemExit, match=r"has no subset 'tset'"):
        main([*SMOKE, "--out", str(analysed), "--subsets", "tset"])


def test_it_uses_what_is_pretrained_already(analysed, synthetic_tiny, monkeypatch):
    checkpoints = list(analysed.glob("pretrain/*/*/checkpoint/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in checkpoints]
    main([*SMOKE, "--upstream", "fixed_init", "--out", str(analysed)])
    assert [path.stat().st_mtime_ns for path in checkpoints] == before
    assert list(analysed.glob("pretrain/*/*/checkpoint/model.safetensors")) == checkpoints


def test_a_result_folder_may_move_away_from_the_maps_that_a_row_started_from(analysed, synthetic_tiny, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(analysed / "pretrain", before / "pretrain")
    main([*SMOKE, "--upstream", "mean_map", "--out", str(before)])
    place = Path("attention") / synthetic_tiny.name / "smoke" / "mean_map--seed0"
    assert "start" in json.loads((before / place / "analysis.json").read_text())
    shutil.rmtree(before / "attention")
    before.rename(after)
    main([*SMOKE, "--upstream", "mean_map", "--out", str(after)])
    found = json.loads((after / place / "analysis.json").read_text())
    assert found["notes"][-1].startswith("Maps before pre-training are not shown: ")
    assert {picture["file"] for picture in found["pictures"]} == {"gallery.png", "projections.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "8"], "--frames must be at least 16, got 8"),
        (["--seed", "-1"], "a seed must be a whole number from 0 and below 2**63, got -1"),
        (["--crops", "4"], "--crops must be at least 8"),
        (["--upstream", "mel"], "mel has no attention"),
        (["--upstream", "fixed_init[ini=raw]"], "fixed_init has no option 'ini'"),
        (["--upstream", "self_atention"], "self_attention"),
        (["--frames", "3000"], "at most 100 stacked frames, and --frames asks for 3000: choose 100 or fewer"),
        (["--upstream", "fixed_init", "model.max_frames=400", "--frames", "400"], "shorter crops with --frames"),
        (["attention.init=raw"], "self_attention has no attention options: leave out attention.init"),
        (["--upstream", "fixed_init", "attention.ini=raw"], "no option 'ini'"),
    ],
)
def test_wrong_requests_are_told_in_a_line(words, message, synthetic_tiny, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main([*SMOKE, "--out", str(tmp_path), *words])
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())
