"""Checkpoints to s3prl's layout and back: two implementations agree, nothing is lost, and every mistake is told.

Legend: B batch, n stacked frames, C input_dim, D model dim.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
import yaml
from s3prl.pretrain.mockingjay.task import fast_position_encoding, generate_masked_acoustic_model_data
from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel, TransformerSpecPredictionHead
from s3prl_attention.recipes.objective import ReconstructionHead, corrupt, mask_spans, masked_l1
from s3prl_attention.upstream import load, load_encoder
from s3prl_attention.upstream import s3prl_checkpoint as convert
from s3prl_attention.upstream.checkpoint import load_checkpoint
from s3prl_attention.upstream.expert import part
from s3prl_attention.upstream.features import LogMel, pad_frames, stack_frames

SIZES = {"hidden_dim": 48, "num_heads": 6, "num_layers": 3, "max_frames": 700, "ffn_ratio": 3, "dropout": 0.25}
CLOSE = {"atol": 1e-5, "rtol": 0}
BOTH = pytest.mark.parametrize("shared", [False, True], ids=["unshared", "shared"])
POSITIONS = pytest.mark.parametrize("positions", ["halves", "interleaved"])
FRAMES = pytest.mark.parametrize("frames", ["noise", "speech"], indirect=True)


@pytest.fixture(scope="module")
def speech(librispeech_mini):
    """Three real utterances, the longest of one speaker among them: stacked, normalised (n_i, 240)."""
    paths = sorted((librispeech_mini / "test-other").rglob("*.flac"), key=lambda path: path.stat().st_size)
    log_mel = LogMel()
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in (paths[0], paths[35], paths[-1])]
    raw = torch.cat([log_mel.raw(wave) for wave in waves])
    log_mel.fit(raw.mean(0), raw.std(0))
    return [stack_frames(log_mel(wave), 3) for wave in waves]


@pytest.fixture
def frames(request):
    """Frames (B, n, C) of utterances of several lengths, and ``keep``."""
    if request.param == "speech":
        return pad_frames(request.getfixturevalue("speech"))
    generator = torch.Generator().manual_seed(1)
    return pad_frames([torch.randn(length, 240, generator=generator) for length in (150, 40, 1)])


def trained(module):
    """All weights moved from where they start, so that biases, norms and every dimension differ."""
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return module


def save(folder, with_head=True, **options):
    """A checkpoint of ours with all that one of a pre-training has."""
    torch.manual_seed(0)
    expert = trained(load("self_attention", **{**SIZES, **options}))
    expert.log_mel.fit(torch.randn(80), 1 + torch.rand(80))
    head = ReconstructionHead(hidden_dim=expert.options.hidden_dim, output_dim=expert.options.input_dim)
    expert.save(folder, {"seed": 3, "recipe": {"upstream": "self_attention"}}, trained(head) if with_head else None)
    return folder


def read(path):
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def theirs_of(path):
    """s3prl's model with the weights of a file, every name taken."""
    states = read(path)
    config = TransformerConfig(states["Upstream_Config"]["transformer"])
    model = TransformerModel(config, states["Upstream_Config"]["transformer"]["input_dim"])
    model.load_state_dict(states["Transformer"], strict=True)
    return model.eval()


def their_states(model, frames, keep, positions=None):
    """All hidden states, called as s3prl's builder does it; with its positions unless others (n, D) are given."""
    positions = fast_position_encoding(frames.shape[1], model.config.hidden_size) if positions is None else positions
    return model(frames, positions.expand(len(frames), -1, -1), keep.float(), output_all_encoded_layers=True)


# --- two implementations


@BOTH
@POSITIONS
@FRAMES
@torch.no_grad()
def test_s3prls_model_has_the_hidden_states_of_ours(frames, positions, shared, tmp_path):
    """Padding, real utterances of up to 30 s; ``halves`` as far as its float32 sinusoid is exact enough, 3 s."""
    folder = save(tmp_path / "checkpoint", positions=positions, shared_layers=shared)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    exact = 100 if positions == "halves" else 1000
    frames, keep = (part[:, :exact] for part in frames)
    encoder, theirs = load("self_attention", ckpt=folder).eval().encoder, theirs_of(tmp_path / "theirs.ckpt")
    same_states(their_states(theirs, frames, keep), encoder(frames, keep), keep, by_halves=positions == "halves")


@FRAMES
@torch.no_grad()
def test_nothing_but_the_sinusoid_keeps_halves_from_agreeing(frames, tmp_path):
    """The whole utterances, with our float32 positions given to s3prl's model."""
    convert.to_s3prl(save(tmp_path / "checkpoint"), tmp_path / "theirs.ckpt")
    encoder = load("self_attention", ckpt=tmp_path / "checkpoint").eval().encoder
    want = encoder(*frames)
    positions = encoder.positions[: frames[0].shape[1]].unflatten(1, (2, -1)).transpose(1, 2).flatten(1)
    same_states(their_states(theirs_of(tmp_path / "theirs.ckpt"), *frames, positions), want, frames[1], by_halves=True)


def same_states(theirs, ours, keep, by_halves):
    """The states of valid frames; s3prl's dimensions by turns, or ``by_halves`` the even ones before the odd ones."""
    assert len(theirs) == 4
    for layer, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        one = torch.cat([one[..., 0::2], one[..., 1::2]], dim=-1) if by_halves else one
        torch.testing.assert_close(one[keep], other[keep], **CLOSE, msg=lambda text, i=layer: f"layer {i}: {text}")


def write_theirs(path, input_dim=240, output_dim=240, **changed):
    """A file as s3prl's pre-training writes it: ``changed`` are entries of its section transformer."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "hidden_act": "gelu",
        "intermediate_size": 96, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2,
        "initializer_range": 0.02, "layer_norm_eps": "1e-12", "share_layer": False, "pre_layer_norm": False,
    }  # fmt: skip
    config = {**sizes, **changed}
    model = trained(TransformerModel(TransformerConfig(config), input_dim))
    head = trained(TransformerSpecPredictionHead(TransformerConfig(config), output_dim))
    optimizer = torch.optim.AdamW(model.parameters())
    states = {
        "Optimizer": optimizer.state_dict(),
        "Step": 7,
        "Args": argparse.Namespace(upstream="mockingjay", seed=1),
        "Config": {"runner": {"total_steps": 9}},
        "SpecHead": head.state_dict(),
        "Transformer": model.state_dict(),
        "Upstream_Config": {
            "transformer": {key: value for key, value in config.items() if value is not None},
            "task": {"sequence_length": 1500},
            "audio": {
                "kaldi": {"feat_type": "fbank", "fbank": {"num_mel_bins": 80}},
                "delta": {"order": 2, "win_length": 5},
                "cmvn": {"use_cmvn": True},
            },
        },
    }
    torch.save(states, path)
    return model.eval()


@BOTH
@FRAMES
@torch.no_grad()
def test_our_encoder_has_the_hidden_states_of_s3prls(frames, shared, tmp_path):
    model = write_theirs(tmp_path / "states-7.ckpt", share_layer=shared)
    convert.from_s3prl(tmp_path / "states-7.ckpt", tmp_path / "ours", encoder_only=True)
    got = load_encoder(tmp_path / "ours").eval()(*frames)
    same_states(their_states(model, *frames), got, frames[1], by_halves=False)


@pytest.fixture(scope="module")
def their_loss():
    """s3prl's own model with its loss; what its file imports for corpora and pictures is left out."""
    left_out = {
        "pretrain.mockingjay.dataset": ("KaldiAcousticDataset", "OnlineAcousticDataset"),
        "upstream.baseline.extracter": ("get_extracter",),
        "upstream.baseline.preprocessor": ("get_preprocessor",),
        "utility.audio": ("plot_spectrogram_to_numpy",),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "upstream.mockingjay.model", sys.modules[TransformerModel.__module__])
        for name, parts in left_out.items():
            module = ModuleType(name)
            vars(module).update(dict.fromkeys(parts))
            patch.setitem(sys.modules, name, module)
        expert = importlib.import_module("s3prl.pretrain.mockingjay.pretrain_expert")
    return expert.TransformerForMaskedAcousticModel


THEIR_TASK = {
    "position_encoding_size": 48, "mask_proportion": 0.15, "mask_consecutive_min": 7, "mask_consecutive_max": 7,
    "mask_allow_overlap": True, "mask_bucket_ratio": 1.5, "mask_frequency": 0, "noise_proportion": 0,
}  # fmt: skip


def masked(frames, keep, whose):
    """Corrupted frames, target (B, n, C) and the chosen frames (B, n), by our rule or by s3prl's."""
    if whose == "s3prl's":
        corrupted, _, label, attention, target = generate_masked_acoustic_model_data((frames.clone(),), THEIR_TASK)
        assert torch.equal(attention.bool(), keep)
        return corrupted, target, label[..., 0]
    generator, corrupted, chosen = torch.Generator().manual_seed(3), frames.clone(), torch.zeros_like(keep)
    for row, length in enumerate(keep.sum(1).tolist()):
        chosen[row, :length] = mask_spans(length, 0.15, 3, generator)
        corrupted[row, :length] = corrupt(frames[row, :length], chosen[row, :length], generator)
    return corrupted, frames, chosen


@pytest.mark.parametrize(
    ("frames", "whose", "positions", "shared"),
    [
        ("noise", "ours", "halves", False),
        ("noise", "ours", "interleaved", True),
        ("noise", "s3prl's", "halves", True),
        ("speech", "ours", "interleaved", False),
        ("speech", "s3prl's", "halves", False),
        ("speech", "s3prl's", "interleaved", True),
    ],
    indirect=["frames"],
)
def test_the_pretraining_losses_agree(frames, whose, positions, shared, their_loss, tmp_path):
    folder = save(tmp_path / "checkpoint", positions=positions, shared_layers=shared)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    states, keep = read(tmp_path / "theirs.ckpt"), frames[1][:2]
    theirs = their_loss(TransformerConfig(states["Upstream_Config"]["transformer"]), 240, None).eval()
    theirs.Transformer.load_state_dict(states["Transformer"])
    theirs.SpecHead.load_state_dict(states["SpecHead"])
    encoder, head = load_encoder(folder).eval(), ReconstructionHead(hidden_dim=48, output_dim=240)
    head.load_state_dict(part(load_checkpoint(folder)[1], "head."))

    corrupted, target, chosen = masked(frames[0][:2], keep, whose)
    ours = masked_l1(encoder, head, corrupted, target, chosen, keep)
    positions = fast_position_encoding(corrupted.shape[1], 48).expand(len(corrupted), -1, -1)
    label = chosen[..., None].expand_as(target)
    other, _ = theirs(corrupted, positions, label, keep.float(), target)
    assert ours.item() > 0.1
    torch.testing.assert_close(ours, other, **CLOSE)
    ours.backward()
    other.backward()
    torch.testing.assert_close(head.output.weight.grad, theirs.SpecHead.output.weight.grad, **CLOSE)
    want = theirs.Transformer.encoder.layer[0].attention.self.value.bias.grad
    torch.testing.assert_close(encoder.layers[0].attention.query_key_value.bias.grad[96:], want, **CLOSE)


@pytest.fixture(scope="module")
def builder():
    """s3prl's loader of checkpoints, with a shorter table of positions, which takes it long to fill."""
    module = pytest.importorskip("s3prl.upstream.mockingjay.builder", reason="s3prl's builder needs distutils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_SEQLEN", 200)
        yield module


@torch.no_grad()
def test_s3prls_pretrained_transformer_takes_the_file(builder, tmp_path):
    folder = save(tmp_path / "checkpoint", max_frames=90)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    options = {
        "ckpt_file": str(tmp_path / "theirs.ckpt"), "load_pretrain": "True", "no_grad": "True", "dropout": "default",
        "spec_aug": "False", "spec_aug_prev": "True", "output_hidden_states": "True", "select_layer": -1,
        "permute_input": "False",
    }  # fmt: skip
    model = builder.PretrainedTransformer(options, inp_dim=240)
    frames, keep = pad_frames([torch.randn(80, 240), torch.randn(31, 240)])
    last, states = model(frames)
    assert torch.equal(last, states[-1])
    same_states(states, load_encoder(folder).eval()(frames, keep), keep, by_halves=True)


@torch.no_grad()
def test_our_encoder_on_s3prls_features_is_s3prls_upstream(builder, tmp_path):
    """From waveforms, with s3prl's own expert, which masks padding by itself."""
    write_theirs(tmp_path / "theirs.ckpt")
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours", encoder_only=True)
    expert = importlib.import_module("s3prl.upstream.mockingjay.expert").UpstreamExpert(tmp_path / "theirs.ckpt").eval()
    waves = [0.1 * torch.randn(16_000), 0.1 * torch.randn(9_000)]
    frames, keep = pad_frames([expert.transformer.extracter(wave) for wave in waves])
    assert frames.shape == (2, 98, 240)
    got = load_encoder(tmp_path / "ours").eval()(frames, keep)
    same_states(expert(waves)["hidden_states"], got, keep, by_halves=False)


# --- there and back


@BOTH
@POSITIONS
@pytest.mark.parametrize("with_head", [True, False])
def test_there_and_back_nothing_changes(with_head, positions, shared, tmp_path):
    folder = save(tmp_path / "ours", with_head, positions=positions, shared_layers=shared, norm_eps=1e-7, stack=2)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert ("SpecHead" in read(tmp_path / "theirs.ckpt")) == with_head
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    (config, tensors), (config_again, tensors_again) = load_checkpoint(folder), load_checkpoint(tmp_path / "again")
    assert config_again == config
    same_tensors(tensors_again, tensors)
    load("self_attention", ckpt=tmp_path / "again")


def same_tensors(some, others):
    assert some.keys() == others.keys()
    for name, tensor in some.items():
        assert tensor.dtype == others[name].dtype, name
        assert torch.equal(tensor, others[name]), name


@BOTH
def test_back_and_there_nothing_changes(shared, tmp_path):
    write_theirs(tmp_path / "theirs.ckpt", output_dim=201, share_layer=shared)
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours", encoder_only=True)
    convert.to_s3prl(tmp_path / "ours", tmp_path / "again.ckpt")
    for section in ("Transformer", "SpecHead"):
        same_tensors(read(tmp_path / "again.ckpt")[section], read(tmp_path / "theirs.ckpt")[section])
    convert.from_s3prl(tmp_path / "again.ckpt", tmp_path / "ours again")
    assert load_checkpoint(tmp_path / "ours again")[0] == load_checkpoint(tmp_path / "ours")[0]


def test_sizes_keep_their_meaning(tmp_path):
    folder = save(tmp_path / "ours", norm_eps=1e-6, attention_dropout=0.5, shared_layers=True)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    states = read(tmp_path / "theirs.ckpt")
    assert states["Config"] == {}, "s3prl looks into it"
    assert states["Upstream_Config"]["task"] == {"sequence_length": 700}
    assert states["Upstream_Config"]["transformer"] == {
        "input_dim": 240, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
        "intermediate_size": 144, "hidden_act": "gelu", "hidden_dropout_prob": 0.25,
        "attention_probs_dropout_prob": 0.5, "initializer_range": 0.02, "layer_norm_eps": 1e-6, "share_layer": True,
        "pre_layer_norm": False,
    }  # fmt: skip
    write_theirs(tmp_path / "states.ckpt", input_dim=160)
    convert.from_s3prl(tmp_path / "states.ckpt", tmp_path / "from", encoder_only=True)
    config, _ = load_checkpoint(tmp_path / "from")
    assert config["options"] == {
        "hidden_dim": 48, "num_heads": 6, "num_layers": 3, "ffn_ratio": 2, "max_frames": 1500, "shared_layers": False,
        "dropout": 0.1, "attention_dropout": 0.2, "stack": 1, "num_mels": 160, "weight_init": "bert",
        "positions": "interleaved", "norm_eps": 1e-12,
    }  # fmt: skip
    assert config["lineage"]["s3prl"]["config"]["audio"]["cmvn"] == {"use_cmvn": True}


def test_a_shared_layer_is_stored_once(tmp_path):
    for shared in (True, False):
        convert.to_s3prl(save(tmp_path / f"{shared}", False, shared_layers=shared), tmp_path / f"{shared}.ckpt")
    layer = sum(t.numel() for n, t in load_checkpoint(tmp_path / "True")[1].items() if n.startswith("encoder.layers"))
    saved = (tmp_path / "False.ckpt").stat().st_size - (tmp_path / "True.ckpt").stat().st_size
    assert saved == pytest.approx(2 * 4 * layer, rel=0.2)


# --- an encoder alone


def test_no_upstream_can_be_made_of_an_encoder_alone(tmp_path):
    write_theirs(tmp_path / "theirs.ckpt")
    with pytest.raises(ValueError, match=r"--upstream s3prl:mockingjay_local:.*theirs\.ckpt, or .* --encoder-only"):
        convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours", encoder_only=True)
    with pytest.raises(ValueError, match=r"ours holds an encoder alone.*load_encoder"):
        load("self_attention", ckpt=tmp_path / "ours")


# --- mistakes


def change_states(path, change):
    states = read(path)
    change(states)
    torch.save(states, path)


class Foreign:
    pass


MISTAKES = {
    "missing": (lambda p: p.unlink(), r"is no file"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:5000]), r"cannot be read as a file of torch\.save"),
    "garbage": (lambda p: p.write_bytes(b"\xff" * 99), r"cannot be read as a file of torch\.save"),
    "empty": (lambda p: p.write_bytes(b""), r"cannot be read as a file of torch\.save"),
    "an object": (lambda p: torch.save({"Scheduler": Foreign()}, p), r"holds an object of .*Foreign.*where you trust"),
    "a list": (lambda p: torch.save([1], p), r"holds a list"),
    "of another upstream": (lambda p: torch.save({"model": {}, "Step": 1}, p), r"is no checkpoint.*has model, Step"),
    "pre-LN": (lambda p: write_theirs(p, pre_layer_norm=True), r"pre_layer_norm is true.*keep to s3prl"),
    "relu": (lambda p: write_theirs(p, hidden_act="relu"), r"hidden_act is 'relu'"),
    "ffn": (lambda p: write_theirs(p, intermediate_size=100), r"multiple of hidden_size .* got 100 and 48"),
    "an odd size": (lambda p: write_theirs(p, hidden_size=45, num_attention_heads=5, intermediate_size=90), r"be even"),
    "no eps": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].pop("layer_norm_eps")),
        r"'transformer' cannot be read \(KeyError: 'layer_norm_eps'\)",
    ),
    "a tensor too few": (
        lambda p: change_states(p, lambda s: s["Transformer"].pop("encoder.layer.1.output.dense.bias")),
        r"Transformer\.encoder\.layer\.1\.output\.dense\.bias is missing",
    ),
    "no input layer": (
        lambda p: change_states(p, lambda s: s["Transformer"].pop("input_representations.spec_transform.weight")),
        r"spec_transform\.weight is missing",
    ),
    "a tensor too many": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update(extra=torch.ones(1))),
        r"SpecHead\.extra is unexpected",
    ),
    "no tensor": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update({"dense.bias": 3})),
        r"SpecHead\.dense\.bias is no tensor",
    ),
    "another shape": (
        lambda p: change_states(
            p, lambda s: s["Transformer"].update({"encoder.layer.0.output.dense.weight": torch.ones(48, 7)})
        ),
        r"does not fit the model: layers\.0\.ffn_out\.weight is \(48, 7\), not \(48, 96\)",
    ),
    "not shared": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].update(share_layer=True)),
        r"share_layer is true, but encoder\.layer\.1\.\S+ differs from that of layer 0",
    ),
    "NaN": (
        lambda p: change_states(p, lambda s: s["Transformer"]["encoder.layer.2.output.dense.bias"].fill_(torch.nan)),
        r"holds NaN or infinity in Transformer\.encoder\.layer\.2\.output\.dense\.bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_file_that_cannot_be_taken_is_told_in_a_line(mistake, tmp_path):
    path = tmp_path / "theirs.ckpt"
    write_theirs(path)
    if mistake not in ("missing", "cut short", "garbage", "empty", "an object", "a list", "of another upstream"):
        states = read(path)
        torch.save({key: states[key] for key in ("Transformer", "SpecHead", "Upstream_Config", "Config")}, path)
    harm, message = MISTAKES[mistake]
    harm(path)
    with pytest.raises(ValueError, match=message) as told:
        convert.from_s3prl(path, tmp_path / "ours", encoder_only=True)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert sorted(found.name for found in tmp_path.iterdir()) == (["theirs.ckpt"] if path.exists() else [])


OURS = {
    "options": (
        lambda u: u["s3prl_attention"]["options"].update(hidden_dim="wide"),
        r"hidden_dim must be int",
    ),
    "section": (lambda u: u.update(s3prl_attention=[]), r"its section 's3prl_attention' is damaged"),
    "statistics": (lambda u: u["s3prl_attention"]["log_mel"].update(mean=[0.0]), r"log_mel does not fit.*mean"),
    "changed": (
        lambda u: u["transformer"].update(pre_layer_norm=True, hidden_act="relu"),
        r"changed after it was converted, in hidden_act, pre_layer_norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OURS)
def test_damage_to_what_we_wrote_is_told(mistake, tmp_path):
    convert.to_s3prl(save(tmp_path / "ours"), tmp_path / "theirs.ckpt")
    harm, message = OURS[mistake]
    change_states(tmp_path / "theirs.ckpt", lambda states: harm(states["Upstream_Config"]))
    with pytest.raises(ValueError, match=message) as told:
        convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    assert str(told.value).startswith(str(tmp_path / "theirs.ckpt"))
    assert not (tmp_path / "again").exists()


def test_only_self_attention_converts(tmp_path):
    load("uniform", hidden_dim=16, num_heads=2, num_layers=1).save(tmp_path / "uniform")
    with pytest.raises(ValueError, match=r"upstream 'uniform', but .* self_attention only: .*register"):
        convert.to_s3prl(tmp_path / "uniform", tmp_path / "theirs.ckpt")


def test_a_damaged_head_is_told(tmp_path):
    folder = save(tmp_path / "ours")
    config, tensors = load_checkpoint(folder)
    tensors.pop("head.norm.bias")
    convert.save_checkpoint(folder, tensors, config)
    with pytest.raises(ValueError, match=r"ours: head\.norm\.bias is missing"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")


def test_nothing_is_overwritten(tmp_path):
    folder = save(tmp_path / "ours")
    (tmp_path / "theirs.ckpt").write_text("mine")
    with pytest.raises(ValueError, match=r"theirs\.ckpt exists: name another place"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert (tmp_path / "theirs.ckpt").read_text() == "mine"
    convert.to_s3prl(folder, tmp_path / "new.ckpt")
    with pytest.raises(ValueError, match=r"ours exists: name another place"):
        convert.from_s3prl(tmp_path / "new.ckpt", folder)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    folder = save(tmp_path / "ours")

    def disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_the_command_line(tmp_path, capsys):
    folder = save(tmp_path / "ours")
    convert.main(["to", str(folder), str(tmp_path / "deep" / "theirs.ckpt")])
    convert.main(["from", str(tmp_path / "deep" / "theirs.ckpt"), str(tmp_path / "again")])
    write_theirs(tmp_path / "states-7.ckpt")
    convert.main(["from", "--encoder-only", str(tmp_path / "states-7.ckpt"), str(tmp_path / "alone")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2][:21] for line in lines] == [
        "for code that gives f",
        "a checkpoint of self_",
        "an encoder alone: s3p",
    ]
    with pytest.raises(SystemExit, match=r"^error: .* exists"):
        convert.main(["to", str(folder), str(tmp_path / "states-7.ckpt")])


def test_a_checkpoint_older_than_the_options_converts(tmp_path):
    folder = save(tmp_path / "ours")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    before = {key: config["options"].pop(key) for key in ("positions", "norm_eps")}
    Path(folder / "config.yaml").write_text(yaml.safe_dump(config))
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    assert load_checkpoint(tmp_path / "again")[0]["options"] == {**config["options"], **before}
    same_tensors(load_checkpoint(tmp_path / "again")[1], load_checkpoint(folder)[1])
