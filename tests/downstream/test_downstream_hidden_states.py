"""Extraction: distinct frames only, the same whatever the batch, and errors that name the utterance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_fixtures import FakeUpstream, corpus, store, tones, utterances
from s3prl_attention.downstream.hidden_states import extract, layout, length_batches, means
from s3prl_attention.recipes.corpora import Corpus, read_audio


@pytest.fixture
def spoken(tmp_path: Path) -> Corpus:
    return tones(tmp_path, {"low": 200.0, "mid": 500.0, "high": 1100.0})


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_each_distinct_frame_is_kept_once(spoken: Corpus, tmp_path: Path, repeat: int):
    expert = FakeUpstream(repeat).train()
    stored = extract(expert, spoken.utterances, tmp_path / "states", dtype="float32")
    assert expert.training, "the mode is given back"
    assert stored.meta.pop("extraction_s") > 0
    assert stored.meta == {"frame_repeat": repeat, "num_layers": 1, "dim": 8, "upstream_rate": 160 * repeat}
    assert sorted(stored.ids) == sorted(u.id for u in spoken.utterances)
    for u in spoken.utterances:
        frames = torch.from_numpy(stored[u.id].copy())  # (t, S, D)
        assert len(frames) == -(-u.num_frames // repeat)
        whole = expert.encode(read_audio(u.path))
        restored = frames.repeat_interleave(repeat, dim=0)[: u.num_frames]
        torch.testing.assert_close(restored, torch.stack([whole, 2 * whole], dim=1))


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_size_is_known_before_anything_is_stored(spoken: Corpus, tmp_path: Path, repeat: int, dtype: str):
    expert = FakeUpstream(repeat).train()
    expected = layout(expert, spoken.utterances[0]).num_bytes(spoken.utterances, dtype)
    assert expert.training, "the mode is given back"
    assert expected == extract(expert, spoken.utterances, tmp_path / "states", dtype).nbytes


def test_batches_do_not_change_what_is_stored(spoken: Corpus, tmp_path: Path):
    together, alone = FakeUpstream(), FakeUpstream()
    a = extract(together, spoken.utterances, tmp_path / "a", max_batch_s=10.0)
    b = extract(alone, spoken.utterances, tmp_path / "b", max_batch_s=0.001)
    assert len(together.calls) == 1
    assert len(alone.calls) == len(spoken.utterances)
    assert a[a.ids[0]].dtype == np.float16
    for id in a.ids:
        np.testing.assert_array_equal(a[id], b[id])


def test_batches_hold_similar_lengths_and_respect_the_limit():
    spoken = utterances("x", ["a", "b"], each=20)
    batches = length_batches(spoken, 1.5)
    assert sorted(u.id for batch in batches for u in batch) == sorted(u.id for u in spoken)
    assert all(len(batch) * max(u.seconds for u in batch) <= 1.5 for batch in batches)
    lengths = [u.seconds for batch in batches for u in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert len(batches) < len(spoken) / 2


def test_a_state_that_is_not_finite_names_its_utterance(spoken: Corpus, tmp_path: Path):
    class Broken(FakeUpstream):
        def encode(self, wave: torch.Tensor) -> torch.Tensor:
            out = super().encode(wave)
            return out * float("nan") if len(wave) == 3517 else out

    with pytest.raises(ValueError, match=r"utterance '(low|mid|high)-0-0001': the upstream's hidden states hold NaN"):
        extract(Broken(), spoken.utterances, tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_a_state_too_large_for_float16_says_so(spoken: Corpus, tmp_path: Path):
    class Loud(FakeUpstream):
        def encode(self, wave: torch.Tensor) -> torch.Tensor:
            return super().encode(wave) + 1e5

    with pytest.raises(ValueError, match="do not fit float16: store them as float32"):
        extract(Loud(), spoken.utterances, tmp_path / "states")
    assert extract(Loud(), spoken.utterances, tmp_path / "states", dtype="float32").meta["dim"] == 8


def test_a_wrong_downsample_rate_is_told(spoken: Corpus, tmp_path: Path):
    class Wrong(FakeUpstream):
        def get_downsample_rates(self, key: str) -> int:
            return 320

    with pytest.raises(ValueError, match="correct the upstream's get_downsample_rates"):
        extract(Wrong(1), spoken.utterances, tmp_path / "states")


def test_missing_audio_and_an_empty_list_are_errors(spoken: Corpus, tmp_path: Path):
    gone = replace(spoken.utterances[0], path=tmp_path / "gone.wav")
    with pytest.raises(ValueError, match=r"gone\.wav"):
        extract(FakeUpstream(), [gone], tmp_path / "states")
    with pytest.raises(ValueError, match="no utterance"):
        extract(FakeUpstream(), [], tmp_path / "states")


def test_means_commute_with_a_weighted_sum(tmp_path: Path):
    made = corpus(utterances("x", ["a", "b"]))
    stored = store(tmp_path / "s", made)
    shares = torch.tensor([0.3, 0.7])
    for normalize in (False, True):
        rows = torch.from_numpy(means(stored, [u.id for u in made.utterances], normalize))  # (N, S, D)
        for row, u in zip(rows, made.utterances, strict=True):
            states = torch.from_numpy(stored[u.id].copy())
            states = torch.nn.functional.layer_norm(states, (6,)) if normalize else states
            mixed = torch.einsum("s,tsd->td", shares, states)
            torch.testing.assert_close(torch.einsum("s,sd->d", shares, row), mixed.mean(0), atol=1e-6, rtol=1e-5)
