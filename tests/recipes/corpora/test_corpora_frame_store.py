"""Stored frames come back exactly, and a damaged store says so."""

import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from s3prl_attention.recipes.corpora import FrameStore


def items(shape: tuple[int, ...] = (4,)) -> list[tuple[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [(f"u{number}", draw.normal(size=(length, *shape))) for number, length in enumerate((3, 1, 7))]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16"])
@pytest.mark.parametrize("shape", [(), (4,), (3, 2)])
def test_frames_come_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    written = [(id, (frames * 10).astype(dtype)) for id, frames in items(shape)]
    made = FrameStore.create(tmp_path / "store", iter(written), dtype, {"layers": [1, 2]})
    opened = FrameStore.open(tmp_path / "store")
    for store in (made, opened, pickle.loads(pickle.dumps(opened))):
        assert store.ids == ["u0", "u1", "u2"]
        assert len(store) == 3
        assert store.frame_shape == shape
        assert store.meta == {"layers": [1, 2]}
        assert store.nbytes == sum(frames.nbytes for _, frames in written)
        assert "u1" in store
        assert "u9" not in store
        for id, frames in written:
            assert store.num_frames(id) == len(frames)
            assert store[id].dtype == np.dtype(dtype)
            assert np.array_equal(store[id], frames)


def test_views_read_the_file_and_cannot_change_it(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path / "store", items(), "float16", {})
    assert not store["u0"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        store["u0"][0] = 0
    with pytest.raises(KeyError):
        store["u9"]


def test_items_are_written_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    sizes: list[int] = []

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(40):
            yield f"u{number}", np.zeros((1000, 8))
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob(".store.*.tmp/*")))

    FrameStore.create(folder, stream(), "float16", {})
    assert sizes[-1] > 0.9 * 40 * 16_000  # on disk, while the last one was asked for
    assert sizes[20] < 0.6 * 40 * 16_000


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (("u0", np.zeros((2, 4))), "'u0' comes twice"),
        (("u9", np.zeros((0, 4))), "'u9' has no frames"),
        (("u9", np.float64(1.0)), "'u9' has no frames"),
        (("u9", np.zeros((2, 5))), r"'u9' has frames of shape \(5,\)"),
        (("u9", np.full((2, 4), np.nan)), "'u9' holds values that are not finite"),
        (("u9", np.full((2, 4), 1e6)), "not finite in float16.*store float32"),
    ],
)
def test_what_cannot_be_stored_is_named_and_leaves_the_old_store(
    tmp_path: Path, bad: tuple[str, np.ndarray], says: str
) -> None:
    folder = tmp_path / "store"
    FrameStore.create(folder, [("old", np.ones((2, 4)))], "float16", {})
    with pytest.raises(ValueError, match=says):
        FrameStore.create(folder, [*items(), bad], "float16", {})
    assert FrameStore.open(folder).ids == ["old"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["store"]


def test_nothing_to_store_and_meta_that_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to store"):
        FrameStore.create(tmp_path / "store", [], "float16", {})
    with pytest.raises(ValueError, match="plain JSON"):
        FrameStore.create(tmp_path / "store", items(), "float16", {"x": np.zeros(1)})
    assert not (tmp_path / "store").exists()


def damage(folder: Path, how: str) -> None:
    index, data = folder / "index.json", folder / "frames.bin"
    head, body = index.read_text().split("\n", 1)
    if how == "no data":
        data.unlink()
    elif how == "data cut":
        data.write_bytes(data.read_bytes()[:-2])
    elif how == "data longer":
        data.write_bytes(data.read_bytes() + b"\0")
    elif how == "no index":
        index.unlink()
    elif how == "index cut":
        index.write_text((head + "\n" + body)[:-5])
    elif how == "head gone":
        index.write_text(body)
    elif how == "index bytes":
        index.write_bytes(b"\xff\xfe\0")
    elif how == "length changed":
        index.write_text(head + "\n" + body.replace("[3, 1, 7]", "[1, 3, 7]"))
    elif how == "schema":
        index.write_text(json.dumps(json.loads(head) | {"schema": 99}) + "\n" + body)


@pytest.mark.parametrize(
    "how",
    [
        "no data",
        "data cut",
        "data longer",
        "no index",
        "index cut",
        "head gone",
        "index bytes",
        "length changed",
        "schema",
    ],
)
def test_a_damaged_store_names_folder_and_cure(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "store"
    FrameStore.create(folder, items(), "float16", {})
    damage(folder, how)
    with pytest.raises(ValueError, match="remove the folder and run again") as caught:
        FrameStore.open(folder)
    assert str(folder) in str(caught.value)


def test_a_missing_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere.*no index.json"):
        FrameStore.open(tmp_path / "nowhere")


def test_several_stores_are_read_as_one(tmp_path: Path) -> None:
    first, second = items(), [(f"v{number}", frames) for number, (_, frames) in enumerate(items())]
    for name, part in (("a", first), ("b", second)):
        FrameStore.create(tmp_path / name, part, "float32", {"from": name})
    store = FrameStore.open(tmp_path / "a", tmp_path / "b")
    for opened in (store, pickle.loads(pickle.dumps(store))):
        assert opened.ids == ["u0", "u1", "u2", "v0", "v1", "v2"]
        assert opened.nbytes == 2 * 11 * 4 * 4
        for id, frames in first + second:
            assert np.array_equal(opened[id], frames.astype("float32"))
            assert opened.num_frames(id) == len(frames)


def test_stores_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    FrameStore.create(tmp_path / "a", items(), "float32", {})
    FrameStore.create(tmp_path / "half", [("w", np.ones((2, 4)))], "float16", {})
    FrameStore.create(tmp_path / "wide", [("w", np.ones((2, 5)))], "float32", {})
    for other in ("half", "wide"):
        with pytest.raises(ValueError, match=rf"a and .*{other} differ in shape or dtype"):
            FrameStore.open(tmp_path / "a", tmp_path / other)
    with pytest.raises(ValueError, match="both hold 'u0'"):
        FrameStore.open(tmp_path / "a", tmp_path / "a")


def test_verify_finds_a_changed_byte_that_open_does_not_look_at(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(folders):
        FrameStore.create(folder, [(f"u{number}", np.ones((5, 4)))], "float16", {})
    FrameStore.open(*folders).verify()
    content = bytearray((folders[1] / "frames.bin").read_bytes())
    content[7] ^= 1
    (folders[1] / "frames.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"b: frames.bin does not match its checksum: remove the folder"):
        FrameStore.open(*folders).verify()


def test_a_store_of_before_checksums_is_read_but_not_verified(tmp_path: Path) -> None:
    FrameStore.create(tmp_path / "a", items(), "float16", {})
    index = tmp_path / "a" / "index.json"
    body = json.loads(index.read_text().split("\n", 1)[1])
    del body["frames_sha256"]
    text = json.dumps(body)
    index.write_text(json.dumps({"schema": 1, "sha256": hashlib.sha256(text.encode()).hexdigest()}) + "\n" + text)
    store = FrameStore.open(tmp_path / "a")
    assert store.num_frames("u2") == 7
    with pytest.raises(ValueError, match="no checksum, an older version wrote it"):
        store.verify()
