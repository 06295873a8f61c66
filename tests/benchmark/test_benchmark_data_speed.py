"""The measurement of data at the size of hundreds of hours: what it builds, and what it counts."""

import json

import numpy as np
import pytest
import torch
from s3prl_attention.benchmark.data_speed import SharedFrames, anonymous_bytes, epoch, link_corpus, main, start_up
from s3prl_attention.recipes.batches import Speech, log_mel_store
from s3prl_attention.recipes.config import load_recipe
from s3prl_attention.recipes.corpora import load_corpus
from s3prl_attention.upstream.features import LogMel


def test_links_make_a_corpus_of_the_size_asked_for(librispeech_mini, tmp_path):
    small = load_corpus("librispeech", librispeech_mini)
    link_corpus(small, tmp_path, 1000)
    many, taken = start_up(tmp_path)
    assert len(many.utterances) == 1000
    assert set(taken) == {"first_load_s", "cached_load_s"}
    seconds = {utterance.id: utterance.seconds for utterance in small.utterances}
    assert all(utterance.seconds == seconds[utterance.id.partition("-")[2]] for utterance in many.utterances)


def test_an_epoch_sees_every_utterance_and_counts_its_padding(librispeech_mini, tmp_path):
    small = load_corpus("librispeech", librispeech_mini)
    store = log_mel_store(small, 20)
    ids = [f"{number}-{utterance.id}" for number, utterance in enumerate(small.utterances[:30])]
    shared = SharedFrames(store)
    assert shared.num_frames(ids[7]) == store.num_frames(small.utterances[7].id)
    np.testing.assert_array_equal(shared[ids[7]], store[small.utterances[7].id])
    found = epoch(speech(shared, ids, "demo", 20))
    frames = [min(200, -(-shared.num_frames(id) // 3)) for id in ids]
    assert found["batches"] > 1
    assert 0 <= found["padding"] < 1 - sum(frames) / (len(frames) * max(frames))
    assert all(value is None or value > 0 for value in found["memory_bytes"])


def speech(store, ids, preset: str, num_mels: int) -> Speech:
    recipe = load_recipe("self_attention", preset)
    log_mel = LogMel(num_mels=num_mels)
    log_mel.fit(torch.zeros(num_mels), torch.ones(num_mels))
    return Speech(store, ids, log_mel, recipe.model.stack, recipe.model.max_frames, recipe.pretrain, seed=0)


def test_the_command_prints_every_number_and_saves_them(librispeech_mini, tmp_path, capsys):
    saved = tmp_path / "found.json"
    words = ["--root", str(librispeech_mini), "--utterances", "500", "--preset", "smoke", "--steps", "2"]
    main([*words, "--save", str(saved)])
    printed = capsys.readouterr().out
    found = json.loads(saved.read_text())
    assert (found["utterances"], found["steps"]) == (500, 2)
    assert "500, " in printed
    assert f"{found['wait_share']:.2%} of the steps" in printed
    with pytest.raises(SystemExit, match="at least 1"):
        main([*words, "--utterances", "0"])
    with pytest.raises(SystemExit, match=r"^error: .*cuda:99"):
        main([*words, "--device", "cuda:99"])


@pytest.mark.slow
def test_a_hundred_thousand_utterances_take_little_padding_and_no_growing_memory(librispeech_mini, tmp_path):
    small = load_corpus("librispeech", librispeech_mini)
    link_corpus(small, tmp_path, 100_000)
    many, _ = start_up(tmp_path)
    assert len(many.utterances) == 100_000
    shared = SharedFrames(log_mel_store(small, 80))
    found = epoch(speech(shared, [utterance.id for utterance in many.utterances], "study", 80))
    assert found["padding"] < 0.1
    if anonymous_bytes() is not None:
        memory = found["memory_bytes"]
        assert max(memory[2:]) - memory[1] < 50e6, "it grows while batches are made"
