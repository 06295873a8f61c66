"""Attentions that start from a file of maps: what the file must hold, what becomes of it, and that frozen means frozen.

Legend: L distinct layers, H heads, N max_frames.
"""

import shutil

import pytest
import torch
from s3prl_attention.upstream import load
from s3prl_attention.upstream.kernels.input_independent import InputIndependentAttention
from s3prl_attention.upstream.kernels.reference import attend_input_independent
from s3prl_attention.upstream.maps_file import fingerprint, read_maps
from safetensors.torch import save_file

LAYERS, HEADS, FRAMES = 2, 7, 20
SIZES = {"hidden_dim": 14, "num_heads": HEADS, "num_layers": LAYERS, "max_frames": FRAMES, "dropout": 0.0}
UPSTREAMS = {"mean_map": {}, "mean_map, trained": {"frozen": False}, "fixed_init": {"init": "maps"}}


def some_maps(*shape):
    return torch.randn(*(shape or (LAYERS, HEADS, FRAMES, FRAMES)), generator=torch.manual_seed(5)).softmax(-1)


def written(folder, maps, **metadata):
    path = folder / "maps.safetensors"
    save_file({"maps": maps.contiguous()}, path, metadata=metadata or None)
    return path


def built(which="mean_map", **options):
    return load(which.partition(",")[0], **{**SIZES, **UPSTREAMS[which], **options})


def attentions(expert):
    return [layer.attention for layer in expert.encoder.layers]


def start_maps(expert, num_frames=FRAMES):
    x = torch.zeros(1, num_frames, SIZES["hidden_dim"])
    return torch.stack([attention.weights(x, None)[0] for attention in attentions(expert)])


def train(expert, steps=3):
    expert.train()
    optimizer = torch.optim.Adam(expert.encoder.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        expert.encoder(torch.randn(2, FRAMES, expert.options.input_dim), None)[-1].square().sum().backward()
        optimizer.step()


# --- the start


@pytest.mark.parametrize("which", UPSTREAMS)
@pytest.mark.parametrize("eps", [1e-4, 1e-6])
def test_every_layer_and_head_starts_from_its_map_to_within_eps(which, eps, tmp_path):
    maps = some_maps()
    got = start_maps(built(which, maps=str(written(tmp_path, maps)), eps=eps))
    torch.testing.assert_close(got, (maps + eps) / (1 + FRAMES * eps), rtol=1e-5, atol=1e-7)
    assert (got - maps).abs().max() <= FRAMES * eps


def test_layers_that_share_their_weights_start_from_one_map(tmp_path):
    maps = some_maps(1, HEADS, FRAMES, FRAMES)
    got = start_maps(built(shared_layers=True, maps=str(written(tmp_path, maps))))
    torch.testing.assert_close(got, maps, rtol=0, atol=FRAMES * 1e-4)


def test_maps_of_more_frames_are_cut_and_their_rows_normalised_anew(tmp_path):
    maps = some_maps(LAYERS, HEADS, FRAMES + 5, FRAMES + 5)
    maps[0, 0, 3] = torch.nn.functional.one_hot(torch.tensor(FRAMES + 2), FRAMES + 5)  # nothing of it is left
    got = read_maps(written(tmp_path, maps), LAYERS, HEADS, FRAMES)
    cut = maps[:, :, :FRAMES, :FRAMES]
    want = cut / cut.sum(-1, keepdim=True)
    want[0, 0, 3] = torch.eye(FRAMES)[3]
    torch.testing.assert_close(got, want)


def test_without_a_file_mean_map_starts_at_random():
    first, second = (built_with_seed(seed) for seed in (0, 1))
    assert not torch.equal(start_maps(first), start_maps(second))


def built_with_seed(seed):
    torch.manual_seed(seed)
    return built()


# --- frozen


def test_frozen_maps_get_no_gradient_and_do_not_change(tmp_path):
    expert = built(maps=str(written(tmp_path, some_maps())))
    before = start_maps(expert)
    names = [name for name, _ in expert.encoder.named_parameters()]
    assert not [name for name in names if "logits" in name]
    assert "layers.0.attention.core.value.weight" in names
    train(expert)
    assert torch.equal(start_maps(expert), before)
    assert all(attention.core.logits.grad is None for attention in attentions(expert))


@pytest.mark.parametrize("which", ["mean_map, trained", "fixed_init"])
def test_maps_that_are_not_frozen_are_trained(which, tmp_path):
    expert = built(which, maps=str(written(tmp_path, some_maps())))
    before = start_maps(expert)
    train(expert)
    assert not torch.allclose(start_maps(expert), before, atol=1e-3)


def frozen_core():
    return InputIndependentAttention(torch.randn(HEADS, FRAMES, FRAMES), hidden_dim=14, dropout=0.0, frozen=True)


def softmax_is_kept(core, num_frames=FRAMES):
    return core.softmax(num_frames) is core.softmax(num_frames)


def test_the_softmax_of_frozen_maps_is_kept_in_training_too():
    core = frozen_core().train()
    assert softmax_is_kept(core)
    core.logits.requires_grad_()
    assert not softmax_is_kept(core), "a softmax that needs a gradient must be made anew"


def in_place(core):
    core.logits.add_(torch.randn_like(core.logits))


def new_state(core):
    core.load_state_dict({name: torch.randn_like(tensor) for name, tensor in core.state_dict().items()})


def replaced(core):
    core.logits = torch.randn_like(core.logits)


def rounded(core):
    core.half().float()


@pytest.mark.parametrize("change", [in_place, new_state, replaced, rounded])
def test_what_is_kept_is_dropped_when_the_frozen_maps_change(change):
    core, x = frozen_core().train(), torch.randn(2, FRAMES, 14)
    core(x, None)
    change(core)
    assert torch.equal(core.softmax(FRAMES), core.logits.softmax(-1))
    torch.testing.assert_close(core(x, None), attend_input_independent(core, x, None))


def test_what_inference_mode_keeps_serves_a_backward():
    core, x = frozen_core().eval(), torch.randn(2, FRAMES, 14)
    with torch.inference_mode():
        core(x, None)
    core(x, None).sum().backward()
    assert core.value.weight.grad.any()


# --- the checkpoint


@pytest.mark.parametrize("which", UPSTREAMS)
def test_a_checkpoint_has_the_maps_and_needs_no_file(which, tmp_path):
    (tmp_path / "made").mkdir()
    expert = built(which, maps=str(written(tmp_path / "made", some_maps())))
    expert.save(tmp_path / "checkpoint")
    before = start_maps(expert)
    shutil.rmtree(tmp_path / "made")
    again = load(which.partition(",")[0], ckpt=tmp_path / "checkpoint")
    assert torch.equal(start_maps(again), before)


# --- the file


def test_the_content_of_a_file_decides_its_fingerprint_not_its_place_or_metadata(tmp_path):
    places = [tmp_path / name for name in ("here", "there", "other")]
    for place in places:
        place.mkdir()
    here, there = written(places[0], some_maps()), written(places[1], some_maps(), utterances="3", source="x")
    assert fingerprint(here) == fingerprint(there)
    assert fingerprint(here) != fingerprint(written(places[2], some_maps().flip(-1)))


def no_file(folder):
    return folder / "maps.safetensors"


def garbage(folder):
    no_file(folder).write_bytes(b"no safetensors at all")
    return no_file(folder)


def other_tensor(folder):
    save_file({"map": some_maps()}, no_file(folder))
    return no_file(folder)


def with_row(value):
    maps = some_maps()
    maps[1, 2, 3, :2] = torch.tensor(value)
    return lambda folder: written(folder, maps)


BAD = {
    "missing": (no_file, "is no file of maps: name one that exists, or make it with python -m"),
    "garbage": (garbage, r"cannot be read as safetensors .*: derive them again"),
    "other tensor": (other_tensor, "has no tensor 'maps', only map: derive them again"),
    "flat": (lambda folder: written(folder, some_maps(HEADS, 4, 4)), r"shape \(L, H, N, N\), got \(7, 4, 4\)"),
    "oblong": (lambda folder: written(folder, some_maps(2, 7, 20, 21)), r"got \(2, 7, 20, 21\)"),
    "double": (lambda folder: written(folder, some_maps().double()), "in float32, got torch.float64"),
    "NaN": (with_row([float("nan"), 0.0]), "finite and not negative"),
    "negative": (with_row([-0.5, 0.5]), "finite and not negative"),
    "heavy": (with_row([0.9, 0.9]), "rows sum to 1, one is off by"),
    "layers": (lambda folder: written(folder, some_maps(3, 7, 20, 20)), "3 layers with 7 heads, but the model has 2"),
    "heads": (lambda folder: written(folder, some_maps(2, 14, 20, 20)), "2 layers with 14 heads, but the model has 2"),
    "short": (lambda folder: written(folder, some_maps(2, 7, 19, 19)), "19 frames, fewer than max_frames=20: derive"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("which", ["mean_map", "fixed_init"])
def test_a_file_that_cannot_be_used_is_named_with_the_rule_and_the_cure(kind, which, tmp_path):
    make, message = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as told:
        built(which, maps=str(path))
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert "s3prl_attention.benchmark.attention.mean_maps" in str(told.value)


@pytest.mark.parametrize("eps", [0.0, 1.0, float("nan")])
def test_an_eps_that_means_nothing_is_refused(eps):
    with pytest.raises(ValueError, match="mean_map needs 0 < eps < 1"):
        built(eps=eps)
