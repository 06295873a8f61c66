"""Disks that are full or read-only, as real ones: small tmpfs, and mounts that cannot be written to."""

import shutil
import subprocess

import pytest
from faults_fixtures import Place, check_same, note, prepare, run, undisturbed_run

pytestmark = pytest.mark.slow


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs at a folder, or changes one; all are gone afterwards."""
    folders = []

    def mount(folder, options: str) -> None:
        again = folder in folders
        folder.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"{'remount,' if again else ''}{options}", "tmpfs", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here ({done.stderr.strip()}): run as root")
        folders.extend([] if again else [folder])

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def whole(synthetic_tiny, tmp_path, monkeypatch):
    """An undisturbed run."""
    return undisturbed_run(tmp_path / "whole", synthetic_tiny.root, monkeypatch)


@pytest.mark.parametrize("full", ["out", "cache"])
def test_a_full_disk_is_told_with_the_cure_and_the_same_command_goes_on(full, whole, tmp_path, mounted):
    place = Place(tmp_path / "place")
    place.root.mkdir()
    sizes = {"out": "700k", "cache": f"{used(whole.cache / 'corpora') + (1 << 20)}"}
    mounted(getattr(place, full), f"size={sizes[full]}")
    prepare_into(place, whole)
    stopped = run(place)
    assert stopped.returncode in (1, 2), stopped.stdout
    told = [line for line in stopped.stderr.splitlines() if "free some" in line]
    assert told, stopped.stderr
    assert not any("Traceback" in line for line in stopped.stderr.splitlines())
    mounted(getattr(place, full), "size=500m")
    resumed = run(place)
    assert resumed.returncode == 0, resumed.stderr
    check_same(place, whole)
    note("full disk", folder=full, told=told[0][-200:], different=0)


def test_a_cache_that_can_only_be_read_serves_a_new_run(whole, tmp_path, mounted):
    place = Place(tmp_path / "place")
    mounted(place.cache, "size=500m")
    shutil.copytree(whole.cache, place.cache, dirs_exist_ok=True)
    mounted(place.cache, "ro")
    with pytest.raises(OSError, match="Read-only"):
        (place.cache / "x").write_text("")
    done = run(place)
    assert done.returncode == 0, done.stderr
    assert "2 cells, 2 made now, 0 failed" in done.stdout
    note("read-only cache", cells=2)


def prepare_into(place: Place, whole: Place) -> None:
    """What an undisturbed run had before its pre-training, into folders that may be there already."""
    staging = Place(place.root / "staging")
    prepare(staging, whole, "pretraining")
    for name in ("out", "cache"):
        shutil.copytree(staging.root / name, place.root / name, dirs_exist_ok=True)
    shutil.rmtree(staging.root)


def used(folder) -> int:
    """Bytes that files take on a tmpfs: whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())
