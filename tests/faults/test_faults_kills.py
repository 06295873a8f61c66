"""SIGKILL at any moment: the same command goes on, and what it ends with is what an undisturbed run ends with."""

import os
import random
import shutil

import pytest
from faults_fixtures import (
    STAGES,
    Kill,
    Place,
    check_same,
    drawn,
    landed,
    note,
    operations,
    prepare,
    run,
    run_here,
    survivors,
    undisturbed_run,
)

KILLS = int(os.environ.get("S3PRL_ATTENTION_KILLS", "30"))  # in each stage
CHAIN = 5  # kills of one run, one after the other, before it may end

NASTY = {
    "the checkpoint is there, the state before it not yet removed": Kill("pretraining", 1, match=r"rmdir .*/step-0"),
    "outcomes are there, their cell is not": Kill(
        "results", 1, match=r"open .*/cells/.*\.json\..*\.tmp", whom="parent"
    ),
}


@pytest.fixture(scope="module")
def whole(synthetic_tiny, tmp_path_factory):
    """A run that nothing disturbs, and how many file operations its stages take."""
    pytest.importorskip("fcntl", reason="needs a system with process groups and /proc")
    root = tmp_path_factory.mktemp("whole")
    place = Place(root / "place")
    done = run(place, notes=root / "notes")
    assert done.returncode == 0, done.stderr
    return place, operations(root / "notes")


def test_a_run_killed_at_the_nastiest_moments_ends_as_if_nothing_had_happened(synthetic_tiny, tmp_path, monkeypatch):
    whole = undisturbed_run(tmp_path / "whole", synthetic_tiny.root, monkeypatch)
    place = Place(tmp_path / "place")
    prepare(place, whole, "pretraining")
    for number, (moment, kill) in enumerate(NASTY.items()):
        notes = tmp_path / f"notes-{number}"
        killed = run(place, notes=notes, kill=kill)
        assert killed.returncode == -9, moment
        assert landed(notes), moment
        assert survivors(notes) == []
    run_here(place, monkeypatch)
    check_same(place, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_kills_at_random_moments_of_each_stage(stage, whole, tmp_path):
    undisturbed, counts = whole
    rng = random.Random(f"{stage} 7")
    asked = done = runs = parents = 0
    while done < KILLS:
        place = Place(tmp_path / f"place-{runs}")
        prepare(place, undisturbed, stage)
        runs += 1
        assert runs <= 2 * KILLS, "kills do not land in this stage"
        for _ in range(min(CHAIN, KILLS - done)):
            kill, notes = drawn(stage, counts[stage], rng), tmp_path / f"notes-{asked}"
            asked += 1
            killed = run(place, notes=notes, kill=kill)
            found = landed(notes)
            assert survivors(notes) == [], found
            if found is None:
                assert killed.returncode == 0, killed.stderr
                break  # the moment did not come any more, and the run is finished
            assert killed.returncode == -9
            done += found["stage"] == stage
            parents += found["stage"] == stage and kill.whom == "parent"
        resumed = run(place)
        assert resumed.returncode == 0, resumed.stderr
        check_same(place, undisturbed)
        shutil.rmtree(place.root)
    note(
        "kills", stage=stage, kills=done, of_the_parent_alone=parents, runs_resumed_to_the_end=runs, different=0, left=0
    )
    assert done == KILLS
