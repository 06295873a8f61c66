"""Broken recordings: all are named at once, or left out when asked for, and then counted wherever results are told."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from s3prl_attention.benchmark.cli import main
from s3prl_attention.benchmark.result_files import read_cells
from s3prl_attention.recipes.batches import log_mel_store
from s3prl_attention.recipes.corpora import audio_headers, load_corpus

BROKEN = ("cut", "nan", "empty", "no audio", "missing", "empty wav")


def spoil(path: Path, how: str) -> None:
    """Make a recording unreadable; only ``nan`` has a sound header."""
    if how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "nan":
        soundfile.write(path, np.full(1600, np.nan), 16_000, format="WAV", subtype="FLOAT")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no audio":
        path.write_bytes(b"RIFF, they said")
    elif how == "missing":
        path.unlink()
    else:
        soundfile.write(path, np.zeros(0), 16_000)


def manifest(folder: Path, speakers: int = 4, each: int = 4, broken=BROKEN) -> Path:
    """A CSV of tones, every speaker with as many; the first recordings are broken."""
    noise = np.random.default_rng(0)
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "chapter"])
        for speaker in range(speakers):
            for number in range(each):
                name = f"{speaker}-{number}.wav"
                soundfile.write(folder / name, 0.1 * noise.normal(size=8000 + 100 * number), 16_000)
                writer.writerow([name, f"s{speaker}", f"c{number % 2}"])
    for place, how in enumerate(broken):
        spoil(folder / f"{place % speakers}-{place // speakers}.wav", how)
    return folder / "list.csv"


def test_the_headers_that_are_broken_are_all_named_at_once(tmp_path):
    path = manifest(tmp_path)
    with pytest.raises(ValueError, match=r"list.csv: ") as told:
        load_corpus("manifest", path)
    assert "1 row where the audio file is missing" in str(told.value)
    assert "4 rows where the audio cannot be read" in str(told.value)
    assert "--skip-broken" in str(told.value)


def test_content_that_is_broken_is_all_named_when_the_first_is_read(tmp_path):
    corpus = load_corpus("manifest", manifest(tmp_path, broken=["nan"] * 5))
    with pytest.raises(ValueError, match=r"holds NaN .*; and 2 more files, all listed in .*broken\.txt; ") as told:
        log_mel_store(corpus, 20)
    listed = Path(re.search(r"listed in (.*?broken\.txt)", str(told.value))[1]).read_text().splitlines()
    assert len(listed) == 5


def test_they_are_left_out_when_asked_for_with_line_and_reason(tmp_path):
    path = manifest(tmp_path)
    corpus = load_corpus("manifest", path, skip_broken=True)
    assert len(corpus.utterances) == 16 - len(BROKEN)
    assert len(corpus.left_out) == len(BROKEN)
    for place, how in enumerate(BROKEN):
        name = f"{place % 4}-{place // 4}.wav"
        (reason,) = [text for text in corpus.left_out if name in text]
        line = 2 + 4 * (place % 4) + place // 4
        assert f": line {line}: " in reason, how
    assert "6 left out as broken" in corpus.note
    log_mel_store(corpus, 20)  # what is left can be read


def test_a_second_load_decodes_what_was_broken_and_a_repaired_file_comes_back(tmp_path, monkeypatch):
    path = manifest(tmp_path, broken=["cut", "nan"])
    first = load_corpus("manifest", path, skip_broken=True)
    decoded = []
    real = audio_headers.audio_problem
    monkeypatch.setattr(audio_headers, "audio_problem", lambda file: decoded.append(file.name) or real(file))
    assert load_corpus("manifest", path, skip_broken=True).left_out == first.left_out
    assert sorted(decoded) == ["0-0.wav", "1-0.wav"]
    decoded.clear()
    soundfile.write(tmp_path / "1-0.wav", np.zeros(1600), 16_000)
    assert len(load_corpus("manifest", path, skip_broken=True).left_out) == 1
    assert sorted(decoded) == ["0-0.wav", "1-0.wav"], "what was broken may have had a cause that is gone"


def test_malformed_rows_are_told_and_not_their_audio(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("path,speaker\na.wav,s,x\n")
    with pytest.raises(ValueError, match="number of cells is not that of the header"):
        load_corpus("manifest", path, skip_broken=True)


def test_nothing_left_is_an_error(tmp_path):
    path = manifest(tmp_path, 2, 2, ["nan"] * 4)
    with pytest.raises(ValueError, match=r"list.csv: all 4 recordings are broken, the first: 0-0: line 2: "):
        load_corpus("manifest", path, skip_broken=True)


def test_librispeech_leaves_them_out_too(tmp_path):
    for speaker in "12":
        chapter = tmp_path / "train-x" / speaker / "3"
        chapter.mkdir(parents=True)
        for number in range(3):
            noise = 0.1 * np.random.default_rng(number).normal(size=8000)
            soundfile.write(chapter / f"{speaker}-3-{number}.flac", noise, 16_000)
    spoil(tmp_path / "train-x" / "2" / "3" / "2-3-1.flac", "cut")
    corpus = load_corpus("librispeech", tmp_path, skip_broken=True)
    assert len(corpus.utterances) == 5
    assert corpus.left_out[0].startswith("2-3-1: ")
    assert corpus.note.endswith("1 left out as broken")
    for name, ids in {"train": ["1-3-0", "2-3-0", "2-3-1"], "test": ["1-3-1", "2-3-2"]}.items():
        (tmp_path / f"{name}_split.txt").write_text("".join(f"{id}\n" for id in ids))
    listed = load_corpus("librispeech", tmp_path, skip_broken=True, split_lists=str(tmp_path))
    assert sum(utterance.split == "train" for utterance in listed.utterances) == 2
    (tmp_path / "train-x" / "1" / "3" / "1-3-0.flac").unlink()
    with pytest.raises(ValueError, match=r"the corpus lacks 1 utterances of the split lists"):
        load_corpus("librispeech", tmp_path, skip_broken=True, split_lists=str(tmp_path))


def test_the_results_say_what_was_left_out(tmp_path, capsys):
    where = ["--corpus", "manifest", "--root", str(manifest(tmp_path, 4, 6)), "--out", str(tmp_path / "out")]
    words = ["--preset", "smoke", "--upstream", "mel", "--downstream", "speaker", "--executor", "inline", *where]
    assert main(words) == 2
    assert "--skip-broken" in capsys.readouterr().err
    assert main([*words, "--skip-broken"]) == 0
    (cell,) = read_cells(tmp_path / "out" / "cells")[0]
    assert len(cell["data"]["left_out"]) == len(BROKEN)
    assert cell["difference"]["data.skip_broken"] is True
    assert "6 recordings left out as broken (--skip-broken)" in (tmp_path / "out" / "leaderboard.md").read_text()


@pytest.mark.slow
def test_ten_thousand_utterances_of_which_a_hundredth_is_broken(tmp_path):
    kinds = [BROKEN[number % len(BROKEN)] for number in range(100)]
    path = manifest(tmp_path, 100, 100, kinds)
    with pytest.raises(ValueError, match="rows where the audio cannot be read"):
        load_corpus("manifest", path)
    corpus = load_corpus("manifest", path, skip_broken=True)
    assert (len(corpus.utterances), len(corpus.left_out)) == (9_900, 100)
    log_mel_store(corpus, 20)
