"""Heads given other maps: exactly what it says, for every kind of attention, and the losses that come of it.

Legend: B batch, n frames, D model dim, H heads, K head dim, N max_frames, L layers.
"""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from s3prl_attention.benchmark.attention import transplant as module
from s3prl_attention.benchmark.attention.given_maps import GivenMaps, check_rebuilt, constant, fitted
from s3prl_attention.benchmark.attention.transplant import held_out, load_trained, transplant
from s3prl_attention.benchmark.attention.transplant_report import figure, markdown
from s3prl_attention.benchmark.pages import where_made
from s3prl_attention.recipes.config import load_recipe
from s3prl_attention.recipes.lineage import pretrain_part
from s3prl_attention.recipes.objective import MaskedAcousticModel
from s3prl_attention.recipes.pretrain import pretrain, validate
from s3prl_attention.upstream import load
from s3prl_attention.upstream.contract import entry
from s3prl_attention.upstream.expert import UpstreamExpert
from s3prl_attention.upstream.features import LogMel
from s3prl_attention.upstream.maps_file import read_maps
from safetensors.torch import save_file
from torch import nn

HEADS, DIM, FRAMES = 8, 32, 60
NAMES = (
    "self_attention", "shared_qk", "synthesizer_dense", "synthesizer_dense_m", "synthesizer_random", "routing",
    "sparse_strided", "sparse_fixed", "xbox", "simple_alsh", "random_keys", "fixed_init", "no_attention",
)  # fmt: skip


def built(name, variant=""):
    torch.manual_seed(0)
    found = entry(name)
    own = {**found.own, **(found.info.variants[variant].options if variant else {})}
    own = {**own, "num_keys": 5} if "num_keys" in own else own
    attention = found.attention(hidden_dim=DIM, num_heads=HEADS, max_frames=FRAMES, **own).eval()
    return GivenMaps(attention, HEADS).eval()


def speech(*lengths):
    x = torch.randn(len(lengths), max(lengths), DIM, generator=torch.manual_seed(1))
    keep = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return x, keep


def some_maps(seed=2, shape=(HEADS, FRAMES, FRAMES)):
    return (3 * torch.randn(shape, generator=torch.manual_seed(seed))).softmax(-1)


@pytest.mark.parametrize("name", [*NAMES, "xbox[bucketed]"])
@torch.no_grad()
def test_its_own_maps_change_nothing(name):
    given = built(*name.rstrip("]").split("["))
    x, keep = speech(41, 17, 1)
    for mask in (keep, None):
        want = given.attention(x, mask)
        assert torch.equal(given(x, mask), want)
        for heads in ([2], [0, 5, 7], list(range(HEADS))):
            given.give(heads, lambda x, keep, heads=heads: given.attention.weights(x, keep)[:, heads])
            torch.testing.assert_close(given(x, mask), want, rtol=0, atol=1e-5)
            given.give([], None)
    check_rebuilt(given, x, keep)
    assert torch.equal(given(x, keep), given.attention(x, keep)), "the check leaves nothing behind"


@torch.no_grad()
def test_a_head_uses_its_map_and_the_others_their_own():
    given, maps = built("self_attention"), some_maps()
    x, keep = speech(30, 12)
    given.give([6, 1], constant(maps[[6, 1]]))
    got, attention = given(x, keep), given.attention
    for row, length in enumerate((30, 12)):
        alone = x[row : row + 1, :length]
        weights, (_, _, values) = attention.weights(alone, None)[0], attention.project(alone)
        for head in (1, 6):
            cut = maps[head, :length, :length]
            weights[head] = cut / cut.sum(-1, keepdim=True)
        mixed = torch.cat([weights[head] @ values[0, head] for head in range(HEADS)], dim=-1)
        torch.testing.assert_close(got[row, :length], attention.output(mixed), rtol=0, atol=1e-5)
        assert not got[row, length:].any()


@pytest.mark.parametrize("shared_layers", [False, True])
@torch.no_grad()
def test_all_heads_given_maps_are_an_encoder_with_mean_map_of_them(shared_layers, tmp_path):
    sizes = {
        "hidden_dim": DIM,
        "num_heads": HEADS,
        "num_layers": 3,
        "max_frames": FRAMES,
        "shared_layers": shared_layers,
    }
    torch.manual_seed(0)
    source = load("self_attention", **sizes).eval()
    maps = some_maps(shape=(len(source.encoder.layers), HEADS, FRAMES, FRAMES))
    save_file({"maps": maps}, tmp_path / "m.safetensors")
    frozen = load("mean_map", **sizes, maps=str(tmp_path / "m.safetensors"), eps=1e-12).eval()
    own = {key: value for key, value in source.encoder.state_dict().items() if "attention." not in key}
    assert frozen.encoder.load_state_dict(own, strict=False).unexpected_keys == []
    for layer, (from_layer, to_layer) in enumerate(zip(source.encoder.layers, frozen.encoder.layers, strict=True)):
        attention, core = from_layer.attention, to_layer.attention.core
        core.value.weight.copy_(attention.query_key_value.weight[2 * DIM :])
        core.value.bias.copy_(attention.query_key_value.bias[2 * DIM :])
        core.output.load_state_dict(attention.output.state_dict())
        from_layer.attention = GivenMaps(attention, HEADS)
        from_layer.attention.give(range(HEADS), constant(maps[layer]))
    x, keep = speech(FRAMES, 25, 1)
    frames = torch.randn(*x.shape[:2], source.options.input_dim)
    for mask in (keep, None):
        for got, want in zip(source.encoder(frames, mask), frozen.encoder(frames, mask), strict=True):
            valid = keep if mask is not None else torch.ones_like(keep)
            torch.testing.assert_close(got[valid], want[valid], rtol=0, atol=1e-5)


def test_maps_are_cut_to_an_utterance_as_those_of_a_file_are(tmp_path):
    maps = some_maps(shape=(1, HEADS, FRAMES, FRAMES)).clone()
    maps[0, 3, 4] = torch.eye(FRAMES)[50]  # nothing is left of it among the first 20 frames
    save_file({"maps": maps}, tmp_path / "m")
    cut = fitted(maps[0], 20, None)
    torch.testing.assert_close(cut, read_maps(tmp_path / "m", 1, HEADS, 20))
    keep = torch.arange(30) < torch.tensor([20, 30])[:, None]
    both = fitted(maps[0], 30, keep)
    torch.testing.assert_close(both[:1, :, :20, :20], cut)
    assert not both[0, :, :20, 20:].any()
    torch.testing.assert_close(both[1:], fitted(maps[0], 30, None))


class Lying(nn.Module):
    """An attention with more to it than maps: a frame is also added to itself."""

    def __init__(self):
        super().__init__()
        self.inner = built("self_attention").attention

    def forward(self, x, keep):
        return self.inner(x, keep) + x

    def weights(self, x, keep):
        return self.inner.weights(x, keep)


@torch.no_grad()
def test_an_attention_that_is_no_maps_times_values_is_refused():
    x, keep = speech(20, 9)
    with pytest.raises(ValueError, match=r"more than its maps: .* differ from what it computes by"):
        check_rebuilt(GivenMaps(Lying(), HEADS), x, keep)
    with pytest.raises(ValueError, match="does not hand the mixed values of every frame to its layer 'output' once"):
        check_rebuilt(built("uniform"), x, keep)
    with pytest.raises(ValueError, match="has 0 layers called 'output'"):
        GivenMaps(nn.Linear(2, 2), HEADS)


# --- losses


LONGEST = 60
TINY = ("model.hidden_dim=16", f"model.max_frames={LONGEST}", "pretrain.steps=4", "pretrain.valid_utterances=5")


@pytest.fixture(scope="module")
def corpus(synthetic_tiny):
    return pretrain_part(synthetic_tiny, [])


def trained(corpus, folder, *overrides, upstream="self_attention"):
    return pretrain(load_recipe(upstream, "smoke", [*TINY, *overrides]), corpus, folder)


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory):
    return trained(corpus, tmp_path_factory.mktemp("self_attention"))


def test_the_loss_before_is_the_one_of_pretraining_and_the_rest_is_what_it_says(done, corpus, tmp_path):
    found = load_trained(done.checkpoint, corpus)
    assert found.notes == ()
    utterances = held_out(found, corpus)
    assert [len(u.keep) for u in utterances] == [1] * len(found.valid_ids)
    assert all(u.keep.all() for u in utterances)
    before = {key: value.clone() for key, value in found.expert.state_dict().items()}
    means = some_maps(shape=(2, HEADS, LONGEST, LONGEST))
    got = transplant(found, utterances, means)
    assert got["before"] == pytest.approx(done.valid_loss, abs=1e-6)
    assert [(line["layer"], line["head"]) for line in got["heads"]] == [(i, j) for i in (1, 2) for j in range(1, 9)]
    assert [line["layer"] for line in got["layers"]] == [1, 2]
    # the upstream is as it was
    after = found.expert.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    model = MaskedAcousticModel(found.expert, found.head)
    assert validate(model, utterances, torch.device("cpu")) == pytest.approx(got["before"], abs=1e-6)
    # and each number is the loss with exactly those heads replaced
    uniform, identity = torch.full((LONGEST, LONGEST), 1 / LONGEST), torch.eye(LONGEST)
    own = [layer.attention for layer in found.expert.encoder.layers]

    def loss(places, maps):
        for number, layer in enumerate(found.expert.encoder.layers):
            layer.attention = GivenMaps(own[number], HEADS)
            heads = [head for at, head in places if at == number]
            layer.attention.give(heads, constant(maps[number, heads]) if heads else None)
        return validate(model, utterances, torch.device("cpu"))

    everywhere = [(layer, head) for layer in (0, 1) for head in range(HEADS)]
    asked = [(got["heads"][8 + 3], [(1, 3)]), (got["layers"][0], everywhere[:8]), (got["all"], everywhere)]
    for line, places in asked:
        for kind, maps in (
            ("mean", means),
            ("uniform", uniform.expand_as(means)),
            ("identity", identity.expand_as(means)),
        ):
            assert line["loss"][kind] == pytest.approx(loss(places, maps), abs=1e-6)
            rise, low, high = line["rises"][kind]
            assert rise == pytest.approx(line["loss"][kind] - got["before"], abs=1e-6)
            assert low <= rise <= high
        assert line["less"]["uniform"][0] == pytest.approx(line["loss"]["uniform"] - line["loss"]["mean"], abs=1e-6)


def test_what_was_held_out_is_cut_on_the_cpu_wherever_the_upstream_is(done, corpus, monkeypatch):
    found = load_trained(done.checkpoint, corpus)
    here, expected = copy.deepcopy(found.expert.log_mel), held_out(found, corpus)
    found.expert.to("meta")
    monkeypatch.setattr(LogMel, "cpu", lambda self: here)  # nothing can be copied out of meta
    got = held_out(found, corpus)
    assert all(torch.equal(one.target, other.target) for one, other in zip(got, expected, strict=True))
    assert found.expert.log_mel.mean.is_meta


def run(checkpoint, out, *words):
    module.main([str(checkpoint), "--utterances", "6", "--out", str(out), *words])


def test_the_command_writes_numbers_page_and_pictures(done, corpus, tmp_path, capsys, monkeypatch):
    used = []
    real = module.mean_maps_over
    monkeypatch.setattr(
        module,
        "mean_maps_over",
        lambda expert, corpus, ids, device: used.extend(ids) or real(expert, corpus, ids, device),
    )
    run(done.checkpoint, tmp_path / "out")
    names = ["transplant.json", "transplant.md", "transplant.png", "transplant.svg"]
    assert capsys.readouterr().out.splitlines() == [f"written: {tmp_path / 'out' / name}" for name in names]
    found = json.loads((tmp_path / "out" / "transplant.json").read_text(encoding="utf-8"))
    assert set(used).isdisjoint(load_trained(done.checkpoint, corpus).valid_ids), "means are over training utterances"
    assert len(used) == found["map_utterances"] <= 6
    assert found["loss"]["before"] == pytest.approx(done.valid_loss, abs=1e-6)
    assert (found["upstream"], found["num_layers"], found["num_heads"], found["notes"]) == ("self_attention", 2, 8, [])
    page = (tmp_path / "out" / "transplant.md").read_text(encoding="utf-8")
    assert page == markdown(found)
    assert found["command"] in page
    assert "\n".join(where_made([found["environment"]])) in page
    assert f"before: **{done.valid_loss:.4f}**" in page
    line = found["loss"]["heads"][11]
    assert (
        "| 2 | 4 | {:+.4f} ({:+.4f} to {:+.4f}) |".format(*line["rises"]["mean"]).replace("-0.0000", "0.0000") in page
    )
    assert (tmp_path / "out" / "transplant.png").read_bytes().startswith(b"\x89PNG")


def test_shared_layers_and_fixed_maps_are_said_to_be_such(corpus, tmp_path):
    shared = trained(corpus, tmp_path / "shared", "model.shared_layers=true")
    run(shared.checkpoint, tmp_path / "a")
    found = json.loads((tmp_path / "a" / "transplant.json").read_text(encoding="utf-8"))
    assert (found["num_layers"], len(found["loss"]["heads"])) == (1, HEADS)
    assert "stands at 2 places with the same weights" in found["notes"][0]
    assert found["loss"]["layers"][0]["loss"] == found["loss"]["all"]["loss"]
    fixed = trained(corpus, tmp_path / "fixed", upstream="fixed_init")
    run(fixed.checkpoint, tmp_path / "b")
    found = json.loads((tmp_path / "b" / "transplant.json").read_text(encoding="utf-8"))
    assert "do not depend on the input" in found["notes"][0]
    assert found["loss"]["all"]["rises"]["mean"][0] == pytest.approx(0, abs=1e-5)
    assert found["loss"]["all"]["rises"]["identity"][0] > 1e-3


def test_other_data_than_those_of_the_checkpoint_are_told(done, corpus):
    less = SimpleNamespace(utterances=corpus.utterances[1:], speech_fingerprint="other", name="part")
    assert "was not pre-trained on these utterances of part" in load_trained(done.checkpoint, less).notes[0]


def test_mistakes_are_answered_in_one_line(done, corpus, tmp_path, monkeypatch):
    for words, message in (
        (["--utterances", "0"], "at least 1 utterance, got 0"),
        (["--device", "banana"], "'banana' cannot be used"),
        (["--preset", "banana"], "unknown preset 'banana'"),
    ):
        with pytest.raises(SystemExit) as told:
            run(done.checkpoint, tmp_path / "out", *words)
        assert str(told.value.code).startswith("error: ")
        assert message in str(told.value.code)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: .*file"):
        run(done.checkpoint, tmp_path / "file" / "out")
    expert = UpstreamExpert("self_attention", ckpt=done.checkpoint)
    expert.save(tmp_path / "headless")
    with pytest.raises(SystemExit, match="has no head that reconstructs frames"):
        run(tmp_path / "headless", tmp_path / "out", "--preset", "smoke")
    monkeypatch.delattr(entry("self_attention").attention, "weights")
    with pytest.raises(SystemExit, match=r"^error: the attention of self_attention has no maps"):
        run(done.checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_of_the_picture_stand_where_their_heads_are(done, corpus):
    rises = {"mean": [0.0, -1.0, 1.0], "uniform": [0.004, 0.001, 0.01], "identity": [0.0421, -0.1, 0.1]}
    heads = [{"layer": i, "head": j, "rises": rises} for i in (1, 2) for j in (1, 2, 3)]
    heads[4] = {**heads[4], "rises": {**rises, "mean": [0.0123, 0.01, 0.02]}}
    loss = {
        "before": 0.5,
        "heads": heads,
        "layers": [{"layer": i, "rises": rises} for i in (1, 2)],
        "all": {"rises": rises},
    }
    drawn = figure({"num_layers": 2, "num_heads": 3, "loss": loss})
    means, uniform, identity = (
        [(t.get_position(), t.get_text(), t.get_weight()) for t in a.texts] for a in drawn.axes[:3]
    )
    assert ((1, 1), "12", "bold") in means
    assert ((0, 1), "0", "normal") in means
    assert {text for _, text, _ in uniform} == {"4.0"}
    assert {place[0] for place, _, _ in identity} == {0, 1, 2, 4}, "all heads of a layer stand apart"
    assert np.isclose(drawn.get_figwidth(), 3.35)
