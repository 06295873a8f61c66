"""A recording of an hour among short ones goes through pre-training, extraction and a probe like the others."""

import csv
import json

import numpy as np
import pytest
import soundfile
from faults_fixtures import note
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.recipes.corpora import FrameStore, cache_dir

HOUR_S = 3600


@pytest.mark.slow
def test_an_hour_of_audio_among_short_recordings(tmp_path, librispeech_mini):
    sources = sorted(librispeech_mini.rglob("*.flac"))[:40]
    waves = [soundfile.read(path, dtype="float32")[0] for path in sources]
    hour = np.resize(np.concatenate(waves), HOUR_S * 16_000)
    soundfile.write(tmp_path / "hour.flac", hour, 16_000)
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "chapter"])
        writer.writerow(["hour.flac", "s0", "long"])
        for number, wave in enumerate(waves):
            soundfile.write(tmp_path / f"{number}.flac", wave[: 16_000 * 4], 16_000)
            writer.writerow([f"{number}.flac", f"s{number % 4}", f"c{number % 3}"])
    words = ["--preset", "smoke", "--upstream", "fixed_init", "mean_map", "--downstream", "speaker", "speaker_frame"]
    where = ["--corpus", "manifest", "--root", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")]
    assert main([*words, *where]) == 0
    cells, problems = read_cells(tmp_path / "out" / "cells")
    assert (len(cells), problems) == (6, [])
    assert {cell["status"] for cell in cells} == {"ok"}
    entries = list((cache_dir() / "hidden-states").glob("fixed_init--manifest-list--*/part-0000"))
    assert len(entries) == 1
    store = FrameStore.open(entries[0])
    assert json.loads((entries[0] / "index.json").read_text().split("\n", 1)[1])["meta"]["frame_repeat"] == 3
    assert store.num_frames("hour") == HOUR_S * 100 // 3
    assert np.isfinite(store["hour"]).all()
    note("an hour of audio", cells=len(cells), frames=store.num_frames("hour"))
