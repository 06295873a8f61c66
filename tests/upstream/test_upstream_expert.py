"""The s3prl expert: windows for long input, its options and where they come from, and the log-Mel row."""

import io
import math

import pytest
import torch
import yaml
from s3prl_attention.upstream import load, names
from s3prl_attention.upstream.features import LogMel, stack_frames

SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 2, "max_frames": 10}
STACKED = 480  # samples of a stacked frame: 3 x 10 ms


def wave(num_samples, seed=0):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return load("synthesizer_random", long_input="windows", **SIZES).eval()


@pytest.fixture(scope="module")
def saved(expert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    expert.save(folder)
    return folder


# --- windows


def by_hand(expert, wav, num_windows):
    """Encode each window alone, join, repeat, cut to the utterance's 10 ms frames."""
    frames = stack_frames(expert.log_mel(wav), 3)
    size, longer = divmod(len(frames), num_windows)
    windows, start = [], 0
    for index in range(num_windows):
        stop = start + size + (index < longer)
        windows.append(expert.encoder(frames[None, start:stop], None))
        start = stop
    assert start == len(frames)
    joined = [torch.cat([states[layer][0] for states in windows]) for layer in range(len(windows[0]))]
    return [state.repeat_interleave(3, 0)[: math.ceil(len(wav) / 160)] for state in joined]


@pytest.mark.parametrize(("stacked_frames", "num_windows"), [(10, 1), (11, 2), (20, 2), (25, 3), (31, 4)])
@torch.no_grad()
def test_long_input_is_encoded_in_the_fewest_windows_of_like_length(expert, stacked_frames, num_windows):
    wav = wave(stacked_frames * STACKED - 250)  # the last frame is partial
    states = expert([wav])["hidden_states"]
    for got, want in zip(states, by_hand(expert, wav, num_windows), strict=True):
        torch.testing.assert_close(got[0], want, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_long_and_short_utterances_share_a_batch(expert):
    wavs = [wave(25 * STACKED, 1), wave(700, 2), wave(12 * STACKED + 1, 3), wave(1, 4)]
    states = expert(wavs)["hidden_states"]
    assert states[0].shape == (4, 75, 16)
    for row, (wav, num_windows) in enumerate(zip(wavs, (3, 1, 2, 1), strict=True)):
        for got, want in zip(states, by_hand(expert, wav, num_windows), strict=True):
            torch.testing.assert_close(got[row, : len(want)], want, atol=1e-5, rtol=1e-4)
            assert not got[row, len(want) :].any(), "beyond an utterance's end there must be zeros"


def test_without_windows_a_long_input_is_an_error_that_names_the_cures():
    strict = load("synthesizer_random", **SIZES)
    strict([wave(10 * STACKED)])
    with pytest.raises(ValueError, match=r"11 stacked frames are more than max_frames=10.*long_input=windows"):
        strict([wave(10 * STACKED + 1)])


@torch.no_grad()
def test_self_attention_needs_no_windows_but_takes_them():
    torch.manual_seed(0)
    whole = load("self_attention", **SIZES).eval()
    windows = load("self_attention", long_input="windows", **SIZES).eval()
    windows.load_state_dict(whole.state_dict())
    long, short = [wave(25 * STACKED)], [wave(10 * STACKED)]
    assert whole(long)["last_hidden_state"].shape == (1, 75, 16)
    assert not torch.allclose(whole(long)["last_hidden_state"], windows(long)["last_hidden_state"], atol=1e-3)
    torch.testing.assert_close(whole(short)["last_hidden_state"], windows(short)["last_hidden_state"])


def test_an_unknown_way_with_long_input_is_refused():
    with pytest.raises(ValueError, match="long_input cannot be 'window': did you mean 'windows'"):
        load("self_attention", long_input="window")


# --- repeats


@pytest.mark.parametrize("stack", [1, 3, 4])
@torch.no_grad()
def test_every_distinct_frame_is_repeated_stack_times(stack):
    expert = load("self_attention", **{**SIZES, "max_frames": 100}, stack=stack).eval()
    states = expert([wave(16_000)])["hidden_states"]
    assert expert.frame_repeat == stack
    frames = stack_frames(expert.log_mel(wave(16_000)), stack)
    for state, want in zip(states, expert.encoder(frames[None], None), strict=True):
        assert state.shape == (1, 100, 16)
        torch.testing.assert_close(state[:, ::stack], want)
        assert torch.equal(state, state[:, ::stack].repeat_interleave(stack, 1)[:, :100])


@torch.no_grad()
def test_the_statistics_of_the_corpus_reach_the_encoder(expert):
    torch.manual_seed(0)
    other = load("synthesizer_random", **SIZES).eval()
    other.load_state_dict(expert.state_dict())
    other.log_mel.fit(torch.full((80,), 3.0), torch.full((80,), 2.0))
    assert not torch.allclose(other([wave(800)])["last_hidden_state"], expert([wave(800)])["last_hidden_state"])


# --- options and where they come from


def test_the_sizes_asked_for_are_those_that_are_built():
    expert = load("fixed_init", hidden_dim=18, num_heads=9, num_layers=4, max_frames=7, ffn_ratio=2, eps=0.01)
    assert len(expert.encoder.layers) == 4
    assert expert.encoder.layers[0].ffn_in.weight.shape == (36, 18)
    assert expert.encoder.layers[3].attention.core.logits.shape == (9, 7, 7)
    assert expert.own_options.eps == 0.01


@pytest.mark.parametrize("name", names())
def test_it_builds_without_arguments(name):
    expert = load(name)
    assert len(expert([wave(1000)])["hidden_states"]) == 4


@pytest.mark.parametrize("name", [*names(), "mel"])
@torch.no_grad()
def test_a_whole_expert_can_be_pickled(name):
    expert = load(name, **(SIZES if name != "mel" else {})).eval()
    file = io.BytesIO()
    torch.save(expert, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again([wave(4000)])["last_hidden_state"], expert([wave(4000)])["last_hidden_state"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fixed_innit", {}, "unknown upstream 'fixed_innit': did you mean 'fixed_init'"),
        ("fixed_init", {"num_hedas": 8}, "no option 'num_hedas' .did you mean 'num_heads'"),
        ("fixed_init", {"widht": 1, "num_layer": 2}, "no option 'widht'.*no option 'num_layer'"),
        ("self_attention", {"init": "log"}, "no option 'init'"),
        ("fixed_init", {"hidden_dim": "wide", "num_layers": 1.5}, "hidden_dim must be int.*num_layers must be int"),
        ("fixed_init", {"eps": "small"}, "eps must be float, got 'small'"),
        ("fixed_init", {"eps": 2.0}, "0 < eps < 1"),
    ],
)
def test_a_wrong_name_or_option_is_told(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"num_hedas": 8, "hidden_dim": "wide"}, ["no option 'num_hedas'", "hidden_dim must be int, got 'wide'"]),
        ({"hidden_dim": "wide", "eps": "small"}, ["hidden_dim must be int, got 'wide'", "eps must be float"]),
    ],
)
def test_every_mistake_is_told_at_once(options, parts):
    with pytest.raises(ValueError) as told:  # noqa: PT011  # every part of the message is checked below
        load("fixed_init", **options)
    assert [part for part in parts if part not in str(told.value)] == []


def test_options_may_come_from_a_file_and_arguments_win(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("hidden_dim: 32\nnum_layers: 1\ninit: raw\nmax_frames: 10\n")
    expert = load("fixed_init", model_config=path, num_layers=2)
    assert (expert.options.hidden_dim, expert.options.num_layers) == (32, 2)
    assert expert.own_options.init == "raw"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"model\.yaml cannot be read \(No such file"),
        ("a: [", r"model\.yaml:1: is not YAML"),
        ("- 1", r"model\.yaml must hold options as 'name: value' lines"),
        ("", r"model\.yaml must hold options"),
        ("widht: 3", "no option 'widht'"),
    ],
)
def test_a_file_of_options_that_cannot_be_used_is_told(tmp_path, text, message):
    if text is not None:
        (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load("fixed_init", model_config=tmp_path / "model.yaml")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("name", "sizes"), [("xbox", SIZES), ("mel", {})])
@torch.no_grad()
def test_an_expert_of_another_precision_leaves_a_checkpoint_that_can_be_loaded(name, sizes, dtype, tmp_path):
    expert = load(name, **sizes).eval().to(dtype)
    expert.save(tmp_path / "checkpoint")
    again = load(name, ckpt=tmp_path / "checkpoint").eval()
    assert torch.equal(again.to(dtype)([wave(4000)])["last_hidden_state"], expert([wave(4000)])["last_hidden_state"])


def test_options_may_repeat_the_checkpoint_and_not_contradict_it(saved):
    again = load("synthesizer_random", ckpt=str(saved), hidden_dim=16, num_heads=8, long_input="windows")
    assert again.options.max_frames == 10
    with pytest.raises(
        ValueError, match=r"other options: hidden_dim=32 \(the checkpoint has 16\), num_layers=1"
    ) as told:
        load("synthesizer_random", ckpt=saved, hidden_dim=32, num_heads=8, num_layers=1)
    assert str(saved) in str(told.value)
    assert "num_heads" not in str(told.value)


def test_a_file_of_options_may_not_contradict_the_checkpoint_either(saved, tmp_path):
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"max_frames": 11}))
    with pytest.raises(ValueError, match=r"max_frames=11 \(the checkpoint has 10\)"):
        load("synthesizer_random", ckpt=saved, model_config=tmp_path / "model.yaml")


@pytest.mark.parametrize("name", ["self_attention", "fixed_init"])
def test_the_checkpoint_of_another_upstream_is_refused(saved, name):
    with pytest.raises(ValueError, match=f"is a checkpoint of upstream 'synthesizer_random', not of '{name}'"):
        load(name, ckpt=saved)


def test_an_unknown_option_beside_a_checkpoint_is_refused(saved):
    with pytest.raises(ValueError, match="hiden_dim"):
        load("synthesizer_random", ckpt=saved, hiden_dim=None)


def test_an_empty_list_of_waveforms_is_told(expert):
    with pytest.raises(ValueError, match="at least one"):
        expert([])


# --- the log-Mel row


def test_mel_is_no_upstream_to_pre_train():
    assert "mel" not in names()


@torch.no_grad()
def test_mel_gives_the_features_as_the_only_hidden_state():
    mel = load("mel", ckpt=None, model_config=None, refresh=False)
    wavs = [wave(16_000, 1), wave(5333, 2)]
    out = mel(wavs)
    (state,) = out["hidden_states"]
    assert torch.equal(out["last_hidden_state"], state)
    assert state.shape == (2, 100, 80)
    assert (mel.frame_repeat, mel.get_downsample_rates("hidden_states")) == (1, 160)
    for row, wav in enumerate(wavs):
        frames = LogMel()(wav)
        torch.testing.assert_close(state[row, : len(frames)], frames)
        assert not state[row, len(frames) :].any()


@torch.no_grad()
def test_mel_keeps_its_statistics_in_a_checkpoint(tmp_path):
    mel = load("mel")
    mel.log_mel.fit(torch.randn(80), torch.rand(80) + 0.5)
    mel.save(tmp_path / "mel")
    again = load("mel", ckpt=tmp_path / "mel")
    assert torch.equal(again([wave(800)])["last_hidden_state"], mel([wave(800)])["last_hidden_state"])
    assert not torch.equal(again([wave(800)])["last_hidden_state"], load("mel")([wave(800)])["last_hidden_state"])


def test_mel_and_encoders_refuse_each_others_checkpoints(saved, tmp_path):
    load("mel").save(tmp_path / "mel")
    with pytest.raises(ValueError, match="checkpoint of upstream 'mel'"):
        load("synthesizer_random", ckpt=tmp_path / "mel")
    with pytest.raises(ValueError, match=str(saved)):
        load("mel", ckpt=saved)


def test_mel_of_another_size_is_restored(tmp_path):
    load("mel", num_mels=40).save(tmp_path / "mel")
    assert load("mel", ckpt=tmp_path / "mel").log_mel.num_mels == 40


def test_mel_of_another_size_than_asked_for_is_told(tmp_path):
    load("mel", num_mels=40).save(tmp_path / "mel")
    with pytest.raises(ValueError, match="num_mels"):
        load("mel", ckpt=tmp_path / "mel", num_mels=30)


def test_mel_refuses_unknown_options():
    with pytest.raises(ValueError, match="num_mel"):
        load("mel", num_mel=40)


@torch.no_grad()
def test_an_expert_in_half_precision_hears_in_full():
    expert = load("fixed_init", num_layers=1, max_frames=40).eval()
    wave = 0.1 * torch.randn(8000)
    full = expert([wave])["last_hidden_state"]
    half = expert.to(torch.bfloat16)([wave])["last_hidden_state"]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0.1)
