"""Two independent implementations agree: our encoder and our loss against s3prl's, with the same converted weights.

Legend: B batch, n stacked frames, C input_dim, D model dim.
"""

import importlib
import sys
from types import ModuleType

import pytest
import soundfile
import torch
from checkpoint_fixtures import BOTH, POSITIONS, save, write_theirs
from s3prl.pretrain.mockingjay.task import fast_position_encoding, generate_masked_acoustic_model_data
from s3prl.upstream.mockingjay.model import TransformerConfig, TransformerModel
from s3prl_attention.recipes.objective import ReconstructionHead, corrupt, mask_spans, masked_l1
from s3prl_attention.upstream import load, load_encoder
from s3prl_attention.upstream import s3prl_checkpoint as convert
from s3prl_attention.upstream.checkpoint import load_checkpoint
from s3prl_attention.upstream.expert import part
from s3prl_attention.upstream.features import LogMel, pad_frames, stack_frames
from s3prl_attention.upstream.s3prl_checkpoint import read_states

CLOSE = {"atol": 1e-5, "rtol": 0}
FRAMES = pytest.mark.parametrize("frames", ["noise", "speech"], indirect=True)


@pytest.fixture(scope="module")
def speech(librispeech_mini):
    """Three real utterances, from the shortest to the longest, of 30 s: stacked, normalised (n_i, 240)."""
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


def theirs_of(path):
    """s3prl's model with the weights of a file, every name taken."""
    states = read_states(path)
    config = TransformerConfig(states["Upstream_Config"]["transformer"])
    model = TransformerModel(config, states["Upstream_Config"]["transformer"]["input_dim"])
    model.load_state_dict(states["Transformer"], strict=True)
    return model.eval()


def their_states(model, frames, keep, positions=None):
    """All hidden states, called as s3prl's builder does it; with its positions unless others (n, D) are given."""
    positions = fast_position_encoding(frames.shape[1], model.config.hidden_size) if positions is None else positions
    return model(frames, positions.expand(len(frames), -1, -1), keep.float(), output_all_encoded_layers=True)


# --- hidden states


@BOTH
@POSITIONS
@FRAMES
@torch.no_grad()
def test_s3prls_model_has_the_hidden_states_of_ours(frames, positions, shared, tmp_path):
    """Padding, real utterances of up to 30 s."""
    folder = save(tmp_path / "checkpoint", positions=positions, shared_layers=shared)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    frames, keep = frames
    encoder, theirs = load("self_attention", ckpt=folder).eval().encoder, theirs_of(tmp_path / "theirs.ckpt")
    same_states(their_states(theirs, frames, keep), encoder(frames, keep), keep, by_halves=positions == "halves")


def same_states(theirs, ours, keep, by_halves):
    """The states of valid frames; s3prl's dimensions by turns, or ``by_halves`` the even ones before the odd ones."""
    assert len(theirs) == 4
    for layer, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        one = torch.cat([one[..., 0::2], one[..., 1::2]], dim=-1) if by_halves else one
        torch.testing.assert_close(one[keep], other[keep], **CLOSE, msg=lambda text, i=layer: f"layer {i}: {text}")


@BOTH
@FRAMES
@torch.no_grad()
def test_our_encoder_has_the_hidden_states_of_s3prls(frames, shared, tmp_path):
    model = write_theirs(tmp_path / "states-7.ckpt", share_layer=shared)
    convert.from_s3prl(tmp_path / "states-7.ckpt", tmp_path / "ours", encoder_only=True)
    got = load_encoder(tmp_path / "ours").eval()(*frames)
    same_states(their_states(model, *frames), got, frames[1], by_halves=False)


# --- the loss


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
    states, keep = read_states(tmp_path / "theirs.ckpt"), frames[1][:2]
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


# --- s3prl's own loader and upstream


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
