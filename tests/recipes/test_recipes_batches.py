"""From a corpus to batches: every utterance once an epoch, nothing random but (seed, step), errors that arrive.

Legend: B batch, T 10 ms frames, n stacked frames, F Mel bands.
"""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from threading import Barrier

import numpy as np
import pytest
import soundfile
import torch
from recipes_fixtures import small_corpus, write_corpus
from s3prl_attention.recipes import batches as module
from s3prl_attention.recipes.batches import Batch, Speech, hold_out, log_mel_store, step_seed
from s3prl_attention.recipes.config import PretrainConfig
from s3prl_attention.recipes.corpora import FrameStore, load_corpus, read_audio, read_utterance
from s3prl_attention.upstream.features import LogMel, stack_frames

NUM_MELS, STACK, MAX_FRAMES, BATCH_FRAMES = 4, 3, 20, 70
LENGTHS = [*range(1, 60, 2), 100, 150, 61, 62, 63]  # 10 ms frames; 60 fill a crop


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    generator = np.random.default_rng(0)
    items = [(f"u{number:02}", generator.normal(size=(length, NUM_MELS))) for number, length in enumerate(LENGTHS)]
    return FrameStore.create(tmp_path_factory.mktemp("store") / "frames", items, "float32", {})


@pytest.fixture
def speech(store):
    log_mel = LogMel(num_mels=NUM_MELS)
    log_mel.fit(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 2.0, 0.5, 1.5]))
    config = PretrainConfig(batch_frames=BATCH_FRAMES)
    return Speech(store, store.ids, log_mel, STACK, MAX_FRAMES, config, seed=0)


def length(store, id):
    return min(MAX_FRAMES, -(-store.num_frames(id) // STACK))


def epochs(speech, count):
    """The batches of ids of each of the first epochs."""
    plan, found = speech.plan(), []
    for _ in range(count):
        found.append([])
        while sum(map(len, found[-1])) < len(speech.ids):
            found[-1].append(next(plan))
    return found


# --- the plan


def test_every_utterance_comes_exactly_once_an_epoch(speech):
    for batches in epochs(speech, 4):
        assert sorted(id for ids in batches for id in ids) == sorted(speech.ids)


def test_the_budget_of_frames_is_kept_padding_included(speech, store):
    batches = [ids for epoch in epochs(speech, 4) for ids in epoch]
    sizes = [len(ids) * max(length(store, id) for id in ids) for ids in batches]
    assert max(sizes) <= BATCH_FRAMES
    assert sum(sizes) > 0.75 * BATCH_FRAMES * len(sizes), "and used"


def test_an_utterance_longer_than_the_budget_comes_alone(speech):
    tight = dataclasses.replace(speech, config=PretrainConfig(batch_frames=5))
    for ids in epochs(tight, 1)[0]:
        assert len(ids) == 1 or len(ids) * max(length(tight.store, id) for id in ids) <= 5


def test_utterances_of_like_length_come_together(speech, store):
    ranges = sorted(
        (min(length(store, id) for id in ids), max(length(store, id) for id in ids)) for ids in epochs(speech, 1)[0]
    )
    assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(ranges))


def test_epochs_and_seeds_differ_in_order_and_company(speech):
    first, second = epochs(speech, 2)
    other = epochs(dataclasses.replace(speech, seed=1), 1)[0]
    for one, two in ((first, second), (first, other)):
        assert one != two
        assert {frozenset(ids) for ids in one} != {frozenset(ids) for ids in two}, "the same batches in another order"
    sizes = [length(speech.store, ids[0]) for ids in first]
    assert sizes not in (sorted(sizes), sorted(sizes, reverse=True)), "batches come in random order"


def test_the_plan_is_a_function_of_the_seed(speech):
    assert epochs(speech, 3) == epochs(dataclasses.replace(speech), 3)


# --- a batch


def equal(one, two):
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in TENSORS)


TENSORS = [field.name for field in dataclasses.fields(Batch) if field.name != "weight"]


def take(speech, first_step, count):
    generator = speech.batches(first_step)
    try:
        return [batch for (batch,), _ in islice(generator, count)]
    finally:
        generator.close()


def test_a_batch_is_a_function_of_seed_and_step(speech):
    from_start, later = take(speech, 1, 60), take(speech, 41, 20)
    assert len(from_start) > 2 * len(epochs(speech, 1)[0]), "the step lies beyond the first epochs"
    torch.manual_seed(99)
    assert all(equal(one, two) for one, two in zip(from_start[40:], later, strict=True))
    assert not any(equal(one, two) for one, two in zip(from_start[:20], later, strict=True))
    other = take(dataclasses.replace(speech, seed=1), 41, 20)
    assert not any(equal(one, two) for one, two in zip(other, later, strict=True))


def test_steps_of_one_utterance_differ_in_their_masks(speech):
    one, two = (speech.batch(["u20"], step_seed(0, step)) for step in (1, 2))
    assert torch.equal(one.target, two.target)
    assert not torch.equal(one.chosen, two.chosen)


def test_step_seeds_differ_and_are_fit_for_torch():
    seeds = [step_seed(seed, step) for seed in range(20) for step in range(-20, 200)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_batch_holds_normalised_stacked_frames(speech, store):
    ids = ["u10", "u02", "u25"]
    batch = speech.batch(ids, seed=5)
    assert batch.target.shape == batch.corrupted.shape == (3, 17, STACK * NUM_MELS)
    assert batch.target.dtype == torch.float32
    assert batch.keep.sum(1).tolist() == [length(store, id) for id in ids]
    for row, id in enumerate(ids):
        frames = (torch.from_numpy(store[id].copy()) - speech.log_mel.mean) / speech.log_mel.std
        want = stack_frames(frames, STACK)
        torch.testing.assert_close(batch.target[row, : len(want)], want)
        assert not batch.target[row, len(want) :].any()


def test_only_chosen_frames_are_corrupted_and_only_valid_ones_chosen(speech):
    changed = 0
    for batch in take(speech, 1, 40):
        differ = (batch.corrupted != batch.target).any(-1)
        assert not (differ & ~batch.chosen).any()
        assert not (batch.chosen & ~batch.keep).any()
        assert batch.chosen.any(1).all(), "every utterance has something to guess"
        changed += int(differ.sum())
    assert changed > 100


def test_long_utterances_are_cropped_anywhere_and_short_ones_are_whole(speech, store):
    plain = LogMel(num_mels=NUM_MELS)
    speech = dataclasses.replace(speech, log_mel=plain)
    frames = torch.from_numpy(store["u30"].copy())  # 100 frames of 10 ms
    starts = set()
    for seed in range(60):
        target = speech.batch(["u30"], seed).target[0]
        assert target.shape == (MAX_FRAMES, STACK * NUM_MELS)
        crop = target.reshape(-1, NUM_MELS)
        (start,) = (i for i in range(41) if torch.equal(frames[i : i + 60], crop))
        starts.add(start)
    assert len(starts) > 20
    assert min(starts) < 5
    assert max(starts) > 35
    assert {start % STACK for start in starts} == {0, 1, 2}
    assert len({speech.batch(["u10"], seed).target.numpy().tobytes() for seed in range(5)}) == 1


def test_a_batch_moves_to_a_device(speech):
    moved = speech.batch(["u10"], 0).to(torch.device("meta"))
    assert all(getattr(moved, name).device.type == "meta" for name in TENSORS)


# --- the thread that makes them ahead


class Failing:
    """A store that fails at one utterance."""

    def __init__(self, store, id):
        self.store, self.id = store, id

    def __getitem__(self, id):
        if id == self.id:
            raise ValueError(f"{id} cannot be read")
        return self.store[id]

    def num_frames(self, id):
        return self.store.num_frames(id)


def producers():
    return [thread for thread in threading.enumerate() if "produce" in thread.name]


def wait_for_producers_to_end():
    for thread in producers():
        thread.join(timeout=10)
    assert producers() == []


def test_an_error_in_the_thread_is_raised_in_the_loop(speech, store):
    planned = list(islice(speech.plan(), 20))
    failing = dataclasses.replace(speech, store=Failing(store, planned[7][0]))
    got = []
    with pytest.raises(ValueError, match=f"{planned[7][0]} cannot be read"):
        got.extend(failing.batches(1))
    assert len(got) == 7, "the batches before it are delivered"
    assert all(waited_s >= 0 for _, waited_s in got)
    wait_for_producers_to_end()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread(speech, taken):
    generator = speech.batches(1)
    for _ in range(taken):
        next(generator)
    if taken:
        time.sleep(0.05)  # the queue is full now, and the thread waits to put
    generator.close()
    wait_for_producers_to_end()


# --- holding out


def test_what_is_held_out_depends_on_the_ids_alone():
    ids = [f"{speaker}-{number}" for speaker in range(20) for number in range(5)]
    train, valid = hold_out(ids, 0.1, 64)
    assert len(valid) == 10
    assert sorted(train + valid) == sorted(ids)
    assert train == [id for id in ids if id not in valid]
    shuffled = [ids[i] for i in np.random.default_rng(0).permutation(100)]
    assert hold_out(shuffled, 0.1, 64)[1] == valid
    assert len({id.split("-")[0] for id in valid}) > 4, "not the first of the list"
    grown = hold_out([*ids, "new"], 0.1, 64)[1]
    assert len(set(grown) & set(valid)) >= 9, "one more utterance does not shuffle the others"


@pytest.mark.parametrize(("count", "share", "most", "want"), [(100, 0.5, 7, 7), (100, 0.001, 7, 1), (2, 0.9, 7, 1)])
def test_at_least_one_is_held_out_and_one_is_left(count, share, most, want):
    train, valid = hold_out([str(i) for i in range(count)], share, most)
    assert (len(train), len(valid)) == (count - want, want)


@pytest.mark.parametrize("ids", [[], ["only"]])
def test_less_than_two_utterances_are_too_few(ids):
    with pytest.raises(ValueError, match=f"at least 2 utterances, got {len(ids)}: name more subsets"):
        hold_out(ids, 0.1, 64)


# --- the features of a corpus


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_store_holds_the_features_and_their_moments(tmp_path, own_cache):
    corpus = small_corpus(tmp_path / "speech")
    store = log_mel_store(corpus, 23)
    log_mel = LogMel(num_mels=23)
    frames = {u.id: log_mel.raw(read_audio(u.path)).numpy() for u in corpus.utterances}
    assert store.ids == list(frames)
    assert store.dtype == np.float16
    for utterance in corpus.utterances:
        assert store.num_frames(utterance.id) == utterance.num_frames
        np.testing.assert_allclose(store[utterance.id], frames[utterance.id], atol=0.01)
    together = np.concatenate(list(frames.values())).astype(np.float64)
    np.testing.assert_allclose(store.meta["mean"], together.mean(0), rtol=1e-6)
    np.testing.assert_allclose(store.meta["std"], together.std(0), rtol=1e-5)


def test_the_store_is_made_once_for_each_corpus_and_size(tmp_path, own_cache, monkeypatch):
    corpus = small_corpus(tmp_path / "speech")
    log_mel_store(corpus, 8)
    read = []
    monkeypatch.setattr(module, "read_utterance", lambda u: (read.append(u.id), read_utterance(u))[1])
    log_mel_store(corpus, 8)
    assert read == []
    log_mel_store(corpus, 9)
    assert len(read) == len(corpus.utterances)
    fewer = dataclasses.replace(corpus, utterances=corpus.utterances[:5])
    assert len(log_mel_store(fewer, 8)) == 5


def test_of_those_who_ask_at_once_one_makes_the_store_and_the_others_wait(tmp_path, own_cache, monkeypatch):
    """Each process of torchrun, and each job of a grid, asks for it first of all."""
    corpus, read, start = small_corpus(tmp_path / "speech"), [], Barrier(3)

    def slowly(utterance):
        time.sleep(0.02)
        read.append(utterance.id)
        return read_utterance(utterance)

    def ask(_):
        start.wait()
        return log_mel_store(corpus, 8).ids

    monkeypatch.setattr(module, "read_utterance", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(ask, range(3)))
    assert found == [[u.id for u in corpus.utterances]] * 3
    assert len(read) == len(corpus.utterances)


def test_parts_of_a_file_have_features_of_their_own_and_new_labels_need_no_new_ones(tmp_path, own_cache, monkeypatch):
    corpus = small_corpus(tmp_path / "speech")
    longest = corpus.utterances[-1]
    parts = [(1000, 4801), (9000, 8000)]
    made = dataclasses.replace(
        corpus,
        utterances=tuple(
            dataclasses.replace(longest, id=f"part{n}", start_sample=start, num_samples=length, whole=False)
            for n, (start, length) in enumerate(parts)
        ),
    )
    store, log_mel = log_mel_store(made, 8), LogMel(num_mels=8)
    for utterance, (start, length) in zip(made.utterances, parts, strict=True):
        alone = log_mel.raw(read_audio(longest.path)[start : start + length]).numpy()
        np.testing.assert_allclose(store[utterance.id], alone, atol=0.01)
    monkeypatch.setattr(module, "read_utterance", lambda utterance: pytest.fail("computed again"))
    labelled = tuple(dataclasses.replace(u, labels={"label": "x"}, split="dev") for u in made.utterances)
    log_mel_store(dataclasses.replace(made, utterances=labelled), 8)


def test_a_recording_that_changed_its_length_is_noticed(tmp_path, own_cache):
    corpus = load_corpus("librispeech", write_corpus(tmp_path / "speech"))
    soundfile.write(corpus.utterances[3].path, np.zeros(corpus.utterances[3].num_samples + 1), 16_000)
    with pytest.raises(ValueError, match=r"has changed since the corpus was loaded.*run again"):
        log_mel_store(corpus, 8)


def test_a_recording_that_is_too_loud_is_named(tmp_path, own_cache):
    root = write_corpus(tmp_path / "speech")
    loud = root / "train-clean-100" / "100" / "1" / "100-1-0004.wav"
    soundfile.write(loud, np.full(16_000, 1e20), 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=f"^{loud}: a waveform holds .* numbers above 1e18: repair or remove"):
        log_mel_store(load_corpus("librispeech", root), 8)


def test_a_recording_that_cannot_be_read_leaves_no_store(tmp_path, own_cache):
    corpus = load_corpus("librispeech", write_corpus(tmp_path / "speech"))
    broken = corpus.utterances[9].path
    broken.write_bytes(b"not audio " * 100)
    with pytest.raises(ValueError, match=str(broken)):
        log_mel_store(corpus, 8)
    assert not list((own_cache / "log-mel").glob("*/*.bin"))
    write_corpus(tmp_path / "speech")
    assert len(log_mel_store(corpus, 8)) == len(corpus.utterances)
