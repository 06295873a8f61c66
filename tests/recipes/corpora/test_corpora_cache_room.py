"""A cache below its limit: the longest unused goes first, what is in use stays, and what cannot fit is told."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from s3prl_attention.recipes.corpora import cache_room
from s3prl_attention.recipes.corpora.cache_room import (
    LIMIT,
    MARGIN_BYTES,
    claim,
    entries,
    in_use,
    limit,
    make_room,
    parse_bytes,
    remove,
    told,
)

HOLD = """
import sys
from pathlib import Path
from s3prl_attention.recipes.corpora.cache_room import claim
claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""


def made(root: Path, **sizes: int) -> Path:
    """Entries of these bytes, used one after the other and no more."""
    for second, (name, num_bytes) in enumerate(sizes.items()):
        claim(root / name)()
        (root / name / "part").mkdir()
        (root / name / "part" / "data").write_bytes(bytes(num_bytes))
        os.utime(root / name / "used", (1000 + second, 1000 + second))
    return root


def names(root: Path) -> list[str]:
    return [entry.path.name for entry in entries(root)]


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 10**12)


def test_entries_tell_size_and_order_of_use(tmp_path: Path) -> None:
    root = made(tmp_path / "root", c=30, a=10, b=20)
    (root / ".half.tmp").mkdir()
    (root / "file").write_text("")
    assert [(entry.path.name, entry.num_bytes, entry.used_at) for entry in entries(root)] == [
        ("c", 30, 1000),
        ("a", 10, 1001),
        ("b", 20, 1002),
    ]
    claim(root / "c")()
    assert names(root) == ["a", "b", "c"], "a claim is a use"
    assert entries(tmp_path / "nowhere") == []


@pytest.mark.usefixtures("roomy")
def test_the_longest_unused_goes_first_and_no_more_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = made(tmp_path / "root", b=300, c=300, a=300)
    monkeypatch.setenv(LIMIT, "1000B")
    release = claim(root / "new")
    make_room(root / "new", 100, "states")
    assert names(root) == ["b", "c", "a", "new"]
    with caplog.at_level(logging.INFO):
        make_room(root / "new", 101, "states")
    assert names(root) == ["c", "a", "new"]
    assert "removed b (300 B) to stay below 1.0 kB (S3PRL_ATTENTION_CACHE_LIMIT)" in caplog.text
    make_room(root / "new", 1000, "states")
    assert names(root) == ["new"]
    release()


@pytest.mark.usefixtures("roomy")
def test_what_a_process_uses_stays_until_it_ends_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "root", old=400, newer=400)
    monkeypatch.setenv(LIMIT, "1000B")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root / "old")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        os.utime(root / "old" / "used", (1000, 1000))
        assert in_use(root / "old")
        release = claim(root / "new")
        make_room(root / "new", 500, "states")
        assert names(root) == ["old", "new"]
        with pytest.raises(ValueError, match=r"states need 601 B, which is 1 B over the limit.*wait for them, or set"):
            make_room(root / "new", 601, "states")
        gone, kept = remove(root, entries(root), "as asked")
        assert (gone, [entry.path.name for entry in kept]) == ([], ["old", "new"])
        holder.kill()
    assert not in_use(root / "old")
    make_room(root / "new", 601, "states")
    assert names(root) == ["new"]
    release()
    assert not in_use(root / "new")


@pytest.mark.usefixtures("roomy")
def test_what_can_never_fit_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "root", old=400, own=400)
    monkeypatch.setenv(LIMIT, "1000B")
    with pytest.raises(ValueError, match=r"^states need 1.0 kB, and the limit of all in .*root is 1.0 kB") as caught:
        make_room(root / "own", 601, "states")
    assert "set S3PRL_ATTENTION_CACHE_LIMIT to more, or to none" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(root) == ["old", "own"]
    make_room(root / "own", 600, "states")
    assert names(root) == ["own"]


def test_a_disk_without_room_refuses_before_anything_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "root", old=400, own=1)
    monkeypatch.setenv(LIMIT, "none")
    disk(monkeypatch, MARGIN_BYTES + 500)
    make_room(root / "own", 500, "states")
    with pytest.raises(ValueError, match=r"states need 501 B and 500 MB to spare, and the disk of .* has 500 MB") as no:
        make_room(root / "own", 501, "states")
    assert "feature_cache clear" in str(no.value)
    assert "\n" not in str(no.value)
    assert names(root) == ["old", "own"]
    monkeypatch.setenv(LIMIT, "1000B")
    make_room(root / "own", 900, "states")  # what the limit removes is free afterwards
    assert names(root) == ["own"]


def test_by_default_half_of_the_disk_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    root = made(tmp_path / "root", a=300, b=500)
    disk(monkeypatch, 1200)
    assert limit(root, entries(root))[0] == 1000
    monkeypatch.setenv(LIMIT, "None")
    assert limit(root, entries(root))[0] is None
    monkeypatch.setenv(LIMIT, "3GB")
    assert limit(root, entries(root))[0] == 3 * 10**9


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("512MiB", 2**29), ("7k", 7000), ("9", 9)]
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert parse_bytes(text, "limit") == num_bytes


@pytest.mark.parametrize("text", ["much", "0", "-3GB", "3 apples", "GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^limit cannot be .*give a size above 0 such as 20GB, or none"):
        parse_bytes(text, "limit")


def test_sizes_are_told() -> None:
    sizes = (0, 999, 999.6, 1234, 99_949, 99_960, 10**9, 5 * 10**15)
    assert [told(size) for size in sizes] == [
        "0 B", "999 B", "1.0 kB", "1.2 kB", "99.9 kB", "100 kB", "1.0 GB", "5000 TB"
    ]  # fmt: skip


def test_a_removal_that_was_cut_off_is_finished_and_an_old_note_goes_too(tmp_path: Path) -> None:
    root = made(tmp_path / "root", a=1, b=1)
    (root / ".x.1234.removed" / "part").mkdir(parents=True)
    (root / "a.json").write_text("{}")
    gone, _ = remove(root, entries(root)[:1], "as asked")
    assert [entry.path.name for entry in gone] == ["a"]
    assert sorted(path.name for path in root.iterdir()) == ["b"]


def test_without_such_locks_a_folder_that_cannot_be_moved_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "root", a=1)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "a file in it is mapped")

    monkeypatch.setattr(cache_room, "fcntl", None)
    monkeypatch.setattr(Path, "rename", refuse)
    claim(root / "a")()
    assert not in_use(root / "a")
    gone, kept = remove(root, entries(root), "as asked")
    assert (gone, [entry.path.name for entry in kept]) == ([], ["a"])
