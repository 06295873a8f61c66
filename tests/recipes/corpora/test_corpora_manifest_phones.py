"""The column ``phones`` of a manifest: TextGrids, phones with times, phones without."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from s3prl_attention.recipes.corpora import Corpus, label_files, load_corpus
from s3prl_attention.recipes.corpora.corpus import PHONE_SET

GRID = """"ooTextFile" "TextGrid" 0 1 <exists> 1
"IntervalTier" "phones" 0 1 3
0 0.25 "HH"
0.25 0.75 "AH1"
0.75 1 ""
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One second of noise, ``a.wav``, and a TextGrid of it."""
    (tmp_path / "speech").mkdir()
    noise = np.random.default_rng(0).normal(scale=0.1, size=16_000)
    soundfile.write(tmp_path / "speech" / "a.wav", noise, 16_000, subtype="PCM_16")
    (tmp_path / "speech" / "a.TextGrid").write_text(GRID)
    return tmp_path / "speech"


def load(folder: Path, *rows: str) -> Corpus:
    """Rows are start, end, phones."""
    lines = ["id,path,speaker,start,end,phones", *(f"u{n},a.wav,anna,{row}" for n, row in enumerate(rows))]
    (folder / "my.csv").write_text("\n".join(lines) + "\n")
    return load_corpus("manifest", folder / "my.csv")


def segments(corpus: Corpus, number: int = 0) -> list[tuple[float, float, str]]:
    found = corpus.utterances[number].segments(corpus.phone_set)
    return [(round(s.start_s, 6), round(s.end_s, 6), s.phone) for s in found]


def test_phones_with_the_times_at_which_they_end(folder: Path) -> None:
    corpus = load(folder, ",,HH:0.31 AH1:0.4 sil:1")
    assert corpus.phone_set == PHONE_SET
    assert segments(corpus) == [(0.0, 0.31, "HH"), (0.31, 0.4, "AH"), (0.4, 1.0, "SIL")]
    assert corpus.utterances[0].phone_names == ()
    assert "phone labels for 1" in corpus.note


def test_inline_times_count_from_the_start_of_the_part_those_of_a_textgrid_from_that_of_the_file(folder: Path) -> None:
    corpus = load(folder, "0.5,0.9,B:0.1 D:0.4", "0.5,0.9,a.TextGrid", "0.3,0.5,a.TextGrid", ",,a.TextGrid")
    assert segments(corpus, 0) == [(0.0, 0.1, "B"), (0.1, 0.4, "D")]
    assert segments(corpus, 1) == [(0.0, 0.25, "AH"), (0.25, 0.4, "SIL")]
    assert segments(corpus, 2) == [(0.0, 0.2, "AH")]
    assert segments(corpus, 3) == [(0.0, 0.25, "HH"), (0.25, 0.75, "AH"), (0.75, 1.0, "SIL")]
    labels = corpus.utterances[1].phones
    assert labels is not None
    assert len(labels.frame_labels(corpus.utterances[1].num_frames)) == 40


def test_phones_without_times_are_names(folder: Path) -> None:
    corpus = load(folder, ",,hh ah0 L OW", ",,")
    assert [u.phone_names for u in corpus.utterances] == [("HH", "AH", "L", "OW"), ()]
    assert all(u.phones is None for u in corpus.utterances)
    assert corpus.phone_set == PHONE_SET
    assert "phones without times for 1" in corpus.note


def test_other_names_are_the_classes_in_order_whatever_the_order_of_rows(folder: Path) -> None:
    rows = [",,ʃ:0.5 a:1", ",,x ʃ", ",0.9,a.TextGrid"]
    assert load(folder, *rows).phone_set == ("AH1", "HH", "SIL", "a", "x", "ʃ")
    assert segments(load(folder, *rows))[0] == (0.0, 0.5, "ʃ")
    assert load(folder, *rows[::-1]).phone_set == load(folder, *rows).phone_set
    assert load(folder, ",,x ʃ").phone_set == ("x", "ʃ"), "nothing is silent here"


def test_sampa_stays_as_it_is_written(folder: Path) -> None:
    sampa = GRID.replace('"HH"', '"S"').replace('"AH1"', '"s"')
    (folder / "a.TextGrid").write_text(sampa)
    corpus = load(folder, ",,a.TextGrid", ",,s:0.5 S:0.75 sil:1", ",,n N h a:6 t")
    assert corpus.phone_set == ("N", "S", "SIL", "a:6", "h", "n", "s", "t")
    assert segments(corpus, 0) == [(0.0, 0.25, "S"), (0.25, 0.75, "s"), (0.75, 1.0, "SIL")]
    assert segments(corpus, 1) == [(0.0, 0.5, "s"), (0.5, 0.75, "S"), (0.75, 1.0, "SIL")]
    assert corpus.utterances[2].phone_names == ("n", "N", "h", "a:6", "t")
    assert segments(load(folder, ",,a:0.6 6:1")) == [(0.0, 0.6, "a"), (0.6, 1.0, "6")], "all look like times"


@pytest.mark.parametrize("first", ["a.TextGrid", "link.TextGrid"])
def test_a_textgrid_may_be_a_link(folder: Path, first: str) -> None:
    (folder / "link.TextGrid").symlink_to(folder / "a.TextGrid")
    for name in (first, *{"a.TextGrid", "link.TextGrid"} - {first}):
        assert segments(load(folder, f",,{name}"))[0] == (0.0, 0.25, "HH")


def test_a_manifest_may_be_reached_by_another_way(folder: Path) -> None:
    (folder.parent / "again").symlink_to(folder)
    for where in (folder, folder.parent / "again"):
        (where / "my.csv").write_text(f"path,speaker,phones\na.wav,anna,{where}/a.TextGrid\n")
        assert segments(load_corpus("manifest", where / "my.csv"))[0] == (0.0, 0.25, "HH")


PHONES = [
    ("HH:0.3 AH", "1 of 2 phones have a time: give one to all, or to none"),
    ("HH:0.3 AH:0.3", "the times do not rise, as in 'AH:0.3'"),
    ("HH:0.0 AH:1", "the times do not rise, as in 'HH:0.0'"),
    ("HH:0.5", "no label from 0.500 s although the audio is 1.000 s long: label all of it"),
    ("HH:0.5 AH:1.5", "labels end at 1.500 s but the audio at 1.000 s"),
    ("b.TextGrid", "there is no TextGrid 'b.TextGrid'"),
]


@pytest.mark.parametrize(("phones", "says"), PHONES)
def test_phones_that_do_not_fit_are_told_by_line(folder: Path, phones: str, says: str) -> None:
    with pytest.raises(ValueError, match="1 row where the phones do not fit") as caught:
        load(folder, ",,", f",,{phones}")
    message = str(caught.value)
    assert f"(line 3: {says}" in message
    assert message.endswith("): correct the column phones")


def test_a_textgrid_longer_than_the_file_does_not_fit_its_parts(folder: Path) -> None:
    (folder / "a.TextGrid").write_text(GRID.replace('0.75 1 ""', '0.75 2 ""'))
    with pytest.raises(
        ValueError, match=r"2 rows where the phones do not fit .line 2: a.TextGrid: labels end at 2.000"
    ):
        load(folder, "0,0.2,a.TextGrid", "0.2,0.4,a.TextGrid")


def test_a_textgrid_is_read_once_for_all_parts_and_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = label_files.read_phone_tier
    monkeypatch.setattr(label_files, "read_phone_tier", lambda path, how: read.append(path) or real(path, how))
    rows = [f"{number / 10},{number / 10 + 0.1},a.TextGrid" for number in range(10)]
    first = load(folder, *rows)
    assert read == [folder / "a.TextGrid"]
    assert load(folder, *rows).fingerprint == first.fingerprint
    assert len(read) == 1
    (folder / "a.TextGrid").write_text(GRID.replace("HH", "ZH "))
    assert load(folder, *rows).fingerprint != first.fingerprint
    (folder / "a.TextGrid").write_text("no grid")
    with pytest.raises(ValueError, match=r"a\.TextGrid:1: ends where the file type"):
        load(folder, *rows)
