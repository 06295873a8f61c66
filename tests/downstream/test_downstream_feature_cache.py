"""One entry an upstream and corpus: found by content, grown by what is missing, whole after a kill, made again when
damaged."""

import errno
import gc
import logging
import multiprocessing
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from downstream_fixtures import FakeUpstream, tones
from s3prl_attention.downstream import feature_cache
from s3prl_attention.downstream.feature_cache import Cached, Key, cached_states, read_key, weights_digest
from s3prl_attention.downstream.hidden_states import VERSION, extract, layout
from s3prl_attention.recipes.corpora import Corpus, FrameStore, Utterance
from s3prl_attention.recipes.corpora.cache_room import LIMIT, entries, in_use
from torch import Tensor

KEY = Key("fake", "w", {"hidden_dim": 8}, "s", "windows", "float32", "toy", "d")
THREES = {"part_bytes": 1920, "max_batch_s": 0.1}  # parts of three batches, each of one utterance
NO_ROOM = SimpleNamespace(free=10**8)


@pytest.fixture
def spoken(tmp_path: Path) -> Corpus:
    return tones(tmp_path, {"low": 200.0, "mid": 500.0, "high": 1100.0})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "states"


def ask(root: Path, utterances: Any, expert: FakeUpstream | None = None, key: Key = KEY, **options: Any) -> Cached:
    return cached_states(expert or FakeUpstream(), utterances, key, root=root, **options)


def folder(root: Path) -> Path:
    return root / KEY.name


def parts(root: Path) -> list[str]:
    return [path.name for path in feature_cache.part_folders(folder(root))]


def encoded(expert: FakeUpstream) -> int:
    """Utterances encoded, but for the one that tells the layout."""
    return sum(map(len, expert.calls[1:]))


def same(store: FrameStore, utterances: Any, folder: Path) -> None:
    """The store holds what a fresh extraction gives."""
    fresh = extract(FakeUpstream(), utterances, folder, str(store.dtype))
    for utterance in utterances:
        np.testing.assert_array_equal(store[utterance.id], fresh[utterance.id])


def test_every_field_of_the_key_makes_another_entry() -> None:
    changed = {
        "upstream": "other",
        "weights": "x",
        "options": {"hidden_dim": 9},
        "source": "t",
        "long_input": "error",
        "dtype": "float16",
        "corpus": "other",
        "data": "e",
        "version": VERSION + 1,
    }
    assert set(changed) == set(asdict(KEY))
    names = {replace(KEY, **{field: value}).name for field, value in changed.items()}
    assert len(names | {KEY.name}) == len(changed) + 1
    assert replace(KEY, options=dict(KEY.options)).name == KEY.name
    assert Key(**{**asdict(KEY), "options": {"b": 1, "a": 2}}).name == replace(KEY, options={"a": 2, "b": 1}).name


def test_a_name_is_one_visible_folder_whatever_the_upstream_is_called() -> None:
    for upstream in ("s3prl:fbank", "../up", ".hidden", "a/b"):
        name = replace(KEY, upstream=upstream).name
        assert Path(name).name == name
        assert name[0] != "."


def test_another_dtype_than_two_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be stored as 'int8': choose float16 or float32"):
        replace(KEY, dtype="int8")


def test_weights_count_by_name_value_shape_and_kind() -> None:
    def digest(**tensors: Tensor) -> str:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_digest(module)

    one = torch.arange(6.0)
    assert digest(a=one, b=torch.tensor(True)) == digest(b=torch.tensor(True), a=one.clone())
    others = [
        digest(a=one),
        digest(b=one),
        digest(a=one + 1e-6),
        digest(a=one.view(2, 3)),
        digest(a=one.double()),
        digest(a=one.view(torch.int32)),
        digest(a=one[:3], b=one[3:]),
    ]
    assert len(set(others)) == len(others)


def test_the_second_time_nothing_is_encoded_and_the_values_are_those_of_extract(
    spoken: Corpus, root: Path, tmp_path: Path
) -> None:
    first, second = FakeUpstream(), FakeUpstream()
    made = ask(root, spoken.utterances, first)
    assert made.num_extracted == encoded(first) == len(spoken.utterances)
    found = ask(root, spoken.utterances, second)
    assert (found.num_extracted, second.calls) == (0, [])
    assert found.extraction_s == made.extraction_s > 0
    same(found.store, spoken.utterances, tmp_path / "fresh")
    assert read_key(folder(root)) == asdict(KEY)


def test_no_utterance_is_encoded_or_stored_twice(spoken: Corpus, root: Path, tmp_path: Path) -> None:
    some, more = spoken.utterances[:5], spoken.utterances[3:]
    ask(root, some)
    expert = FakeUpstream()
    grown = ask(root, more, expert)
    assert grown.num_extracted == encoded(expert) == len(spoken.utterances) - 5
    assert sorted(grown.store.ids) == sorted(u.id for u in spoken.utterances)
    assert grown.store.nbytes == layout(expert, spoken.utterances[0]).num_bytes(spoken.utterances, "float32")
    same(grown.store, spoken.utterances, tmp_path / "fresh")
    assert 0 < ask(root, some[:1]).extraction_s < ask(root, some).extraction_s < ask(root, more + some).extraction_s


def test_float16_takes_half_and_differs_by_its_rounding(spoken: Corpus, root: Path) -> None:
    full, half = (ask(root, spoken.utterances, key=replace(KEY, dtype=dtype)).store for dtype in ("float32", "float16"))
    assert full.nbytes == 2 * half.nbytes
    assert half[half.ids[0]].dtype == np.float16
    for id in full.ids:
        np.testing.assert_array_equal(half[id], full[id].astype(np.float16))


class Loud(FakeUpstream):
    """Its states do not fit float16."""

    def encode(self, wave: Tensor) -> Tensor:
        return super().encode(wave) + 1e5


def test_values_that_do_not_fit_are_refused_and_leave_no_part(spoken: Corpus, root: Path) -> None:
    with pytest.raises(ValueError, match="do not fit float16: store them as float32"):
        ask(root, spoken.utterances, Loud(), replace(KEY, dtype="float16"))
    assert not list(root.glob("*/part-*"))
    assert ask(root, spoken.utterances, Loud()).num_extracted == len(spoken.utterances)


def test_long_extractions_are_cut_into_parts_of_whole_batches(spoken: Corpus, root: Path, tmp_path: Path) -> None:
    expert = FakeUpstream()
    each = layout(FakeUpstream(), spoken.utterances[0]).num_bytes(spoken.utterances, "float32") / 4
    made = ask(root, spoken.utterances, expert, part_bytes=int(each), max_batch_s=0.6)
    assert len(parts(root)) > 2
    assert all(FrameStore.open(folder(root) / part).nbytes <= each for part in parts(root))
    assert max(map(len, expert.calls)) > 1
    same(made.store, spoken.utterances, tmp_path / "fresh")


def damage(part: Path, how: str) -> None:
    data = part / "frames.bin"
    if how == "truncated":
        data.write_bytes(data.read_bytes()[:-8])
    elif how == "data gone":
        data.unlink()
    elif how == "index gone":
        (part / "index.json").unlink()
    elif how == "index changed":
        (part / "index.json").write_text((part / "index.json").read_text().replace("low", "mid"))


@pytest.mark.parametrize("how", ["truncated", "data gone", "index gone", "index changed"])
def test_a_damaged_part_is_named_and_made_again_alone(
    spoken: Corpus, root: Path, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    low, others = spoken.utterances[:4], spoken.utterances[4:]
    assert {u.speaker for u in low} == {"low"}
    ask(root, low)
    ask(root, others)
    damage(folder(root) / "part-0000", how)
    expert = FakeUpstream()
    with caplog.at_level(logging.WARNING):
        made = ask(root, spoken.utterances, expert)
    assert "part-0000" in caplog.text
    assert made.num_extracted == encoded(expert) == len(low)
    assert parts(root) == ["part-0001", "part-0002"]
    same(made.store, spoken.utterances, tmp_path / "fresh")


def test_a_damaged_part_of_which_nothing_is_asked_is_named_and_removed(
    spoken: Corpus, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(root, spoken.utterances[:4])
    ask(root, spoken.utterances[4:])
    damage(folder(root) / "part-0000", "truncated")
    expert = FakeUpstream()
    with caplog.at_level(logging.WARNING):
        made = ask(root, spoken.utterances[4:], expert)
    assert "part-0000" in caplog.text
    assert (made.num_extracted, expert.calls) == (0, [])
    assert parts(root) == ["part-0001"]


def test_an_entry_stays_in_use_as_long_as_its_store_is_referred_to(spoken: Corpus, root: Path) -> None:
    cached = ask(root, spoken.utterances)
    store = cached.store
    del cached
    gc.collect()
    assert in_use(folder(root))
    del store
    gc.collect()
    assert not in_use(folder(root))
    with pytest.raises(ValueError, match="hold NaN"):
        ask(root, spoken.utterances, Broken(), replace(KEY, weights="nan"))
    gc.collect()
    assert not in_use(root / replace(KEY, weights="nan").name), "nor after an error"


class Broken(FakeUpstream):
    """Its states are no numbers."""

    def encode(self, wave: Tensor) -> Tensor:
        return super().encode(wave) * float("nan")


def test_a_full_disk_is_told_before_anything_is_written(
    spoken: Corpus, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "none")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: NO_ROOM)
    with pytest.raises(
        ValueError, match=r"^hidden states of 12 utterances from fake in float32 .*need .* kB and 500 MB"
    ):
        ask(root, spoken.utterances)
    assert sorted(path.name for path in folder(root).iterdir() if path.name[0] != ".") == ["key.json", "used"]


def test_a_disk_that_fills_up_meanwhile_is_told_in_one_line(
    spoken: Corpus, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "extract", full)
        with pytest.raises(ValueError, match="is full, which it was not before") as caught:
            ask(root, spoken.utterances)
    assert "\n" not in str(caught.value)
    assert ask(root, spoken.utterances).num_extracted == len(spoken.utterances)


def test_an_entry_over_the_limit_is_refused_and_one_below_it_takes_the_place_of_the_oldest(
    spoken: Corpus, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = layout(FakeUpstream(), spoken.utterances[0]).num_bytes(spoken.utterances, "float32")
    monkeypatch.setenv(LIMIT, f"{need // 2}B")
    with pytest.raises(ValueError, match=rf"the limit of all in .* \({LIMIT}\): set {LIMIT} to more, or to none"):
        ask(root, spoken.utterances)
    assert not parts(root)
    monkeypatch.setenv(LIMIT, f"{2 * need + 8000}B")
    for name in ("first", "second", "third"):
        ask(root, spoken.utterances, key=replace(KEY, weights=name))
        gc.collect()
    kept = [(read_key(entry.path) or {}).get("weights") for entry in entries(root) if list(entry.path.glob("part-*"))]
    assert kept == ["second", "third"]


def test_what_a_killed_process_left_behind_does_not_count_against_the_limit(
    spoken: Corpus, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = layout(FakeUpstream(), spoken.utterances[0]).num_bytes(spoken.utterances, "float32")
    monkeypatch.setenv(LIMIT, f"{need + 8000}B")
    left = folder(root) / ".part-0007.4711-dead.tmp"
    left.mkdir(parents=True)
    (left / "frames.bin").write_bytes(bytes(need + 8000))
    assert ask(root, spoken.utterances).num_extracted == len(spoken.utterances)
    assert not left.exists()


class Scripted(FakeUpstream):
    """Notes each batch in a file; after ``pause_after`` of them it takes ``pause_s`` for the next."""

    def __init__(self, log: Path, pause_after: int, pause_s: float) -> None:
        super().__init__()
        self.log, self.pause_after, self.pause_s = log, pause_after, pause_s

    def forward(self, waves: list[Tensor]) -> dict[str, list[Tensor]]:
        if len(self.calls) == self.pause_after:
            with self.log.open("a") as file:
                file.write("pausing\n")
            time.sleep(self.pause_s)
        return super().forward(waves)


def extract_elsewhere(
    root: Path, utterances: tuple[Utterance, ...], log: Path, pause_after: int, pause_s: float
) -> None:
    ask(root, utterances, Scripted(log, pause_after, pause_s), **THREES)
    with log.open("a") as file:
        file.write("done\n")


def started(*arguments: Any) -> Any:
    """Another process that extracts, at its pause."""
    process = multiprocessing.get_context("spawn").Process(target=extract_elsewhere, args=arguments)
    process.start()
    deadline = time.monotonic() + 60
    while not arguments[2].exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_of_two_processes_that_ask_at_once_one_extracts(spoken: Corpus, root: Path, tmp_path: Path) -> None:
    log, expert = tmp_path / "log", FakeUpstream()
    process = started(root, spoken.utterances, log, 2, 0.5)
    assert log.read_text() == "pausing\n"
    found = ask(root, spoken.utterances, expert)
    assert (found.num_extracted, expert.calls) == (0, [])
    process.join()
    assert process.exitcode == 0
    same(found.store, spoken.utterances, tmp_path / "fresh")


def test_after_a_kill_whole_parts_are_kept_and_the_rest_is_made(spoken: Corpus, root: Path, tmp_path: Path) -> None:
    process = started(root, spoken.utterances, tmp_path / "log", 1 + 3 + 2, 600.0)  # layout, a part, most of the next
    assert in_use(folder(root))
    process.kill()
    process.join()
    assert not in_use(folder(root))
    assert list(folder(root).glob(".part-0001.*.tmp")), "it was killed while it wrote"
    assert parts(root) == ["part-0000"]
    whole = FrameStore.open(folder(root) / "part-0000")
    expert = FakeUpstream()
    made = ask(root, spoken.utterances, expert, **THREES)
    assert made.num_extracted == encoded(expert) == len(spoken.utterances) - len(whole) == 9
    assert not list(folder(root).glob(".part-*.tmp"))
    assert parts(root) == ["part-0000", "part-0001", "part-0002", "part-0003"]
    same(made.store, spoken.utterances, tmp_path / "fresh")
