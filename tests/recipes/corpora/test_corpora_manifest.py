"""One's own recordings through a CSV: what is read, what is refused, and in which words."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from s3prl_attention.recipes.corpora import Corpus, audio_headers, load_corpus, read_audio, read_utterance

RATES_HZ = {"a.wav": 16_000, "b.wav": 8_000, "c.flac": 44_100}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings of 2 s at three rates, two channels each, in ``speech/clips``."""
    clips = tmp_path / "speech" / "clips"
    clips.mkdir(parents=True)
    for number, (name, rate_hz) in enumerate(RATES_HZ.items()):
        noise = np.random.default_rng(number).normal(scale=0.1, size=(2 * rate_hz, 2))
        soundfile.write(clips / name, noise, rate_hz, subtype="PCM_16")
    return tmp_path / "speech"


def write(folder: Path, *lines: str, name: str = "my.csv", end: str = "\n", mark: bytes = b"") -> Path:
    path = folder / name
    path.write_bytes(mark + "".join(line + end for line in lines).encode())
    return path


def load(folder: Path, *lines: str, label: str = "label") -> Corpus:
    return load_corpus("manifest", write(folder, *lines), label=label)


def refused(folder: Path, *lines: str, label: str = "label") -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        load(folder, *lines, label=label)
    message = str(caught.value)
    assert message.startswith(str(folder / "my.csv"))
    assert "\n" not in message
    return message


def test_every_column_is_read(folder: Path) -> None:
    corpus = load(
        folder,
        "path,speaker,id,session,subset,split,text,start,end,phones,language,mood",
        'clips/a.wav,anna,one,monday,read,train,"well, yes",0.5,1.5,,en,glad',
        "clips/b.wav,anna,two,,,dev,,,,,de,",
        f"{folder}/clips/c.flac,ben,three,,read,,,1,,,en,sad",
        label="language",
    )
    one, three, two = sorted(corpus.utterances, key=lambda u: u.id)
    assert [u.id for u in corpus.utterances] == ["two", "one", "three"], "by subset, speaker, chapter, id"
    assert (one.speaker, one.chapter, one.subset, one.split, one.text) == (
        "anna",
        "monday",
        "read",
        "train",
        "well, yes",
    )
    assert (one.start_sample, one.num_samples, one.sample_rate_hz, one.whole) == (8_000, 16_000, 16_000, False)
    assert one.labels == {"language": "en", "mood": "glad", "label": "en"}
    assert (two.subset, two.split, two.num_samples, two.whole) == ("dev", "dev", 16_000, True)
    assert two.labels == {"language": "de", "label": "de"}, "an empty cell is no label"
    assert (three.split, three.start_sample, three.num_samples) == ("", 44_100, 44_100)
    assert (corpus.name, corpus.root, corpus.synthetic) == ("manifest-my", folder, False)
    assert (corpus.assigned_by, corpus.shared_speakers, corpus.phone_set) == ("the column split", False, ())
    assert "3 utterances, 2 speakers, 2 classes of label for 3" in corpus.note


def test_path_and_speaker_are_enough(folder: Path) -> None:
    corpus = load(folder, "path,speaker", "clips/a.wav,anna", "./clips/b.wav,ben", f"{folder / 'clips' / 'c.flac'},c")
    ids = [u.id for u in corpus.utterances]
    assert ids[:2] == ["clips-a", "clips-b"]
    assert ids[2].endswith("speech-clips-c")
    assert all((u.subset, u.chapter, u.labels) == ("all", "", {}) for u in corpus.utterances)
    assert corpus.assigned_by == ""


def test_tabs_marks_line_ends_quotes_and_blank_lines_make_no_difference(folder: Path) -> None:
    rows = ["path,speaker,text", 'clips/a.wav,anna,"hello, ""you"""', "clips/b.wav , ben,"]
    want = load(folder, *rows)
    assert [u.text for u in want.utterances] == ['hello, "you"', ""]
    tabs = ["path\tspeaker\ttext", '"clips/a.wav"\tanna\t"hello, ""you"""', "clips/b.wav\tben\t"]
    for path in (
        write(folder, *rows, name="dos.csv", end="\r\n", mark=b"\xef\xbb\xbf"),
        write(folder, rows[0], "", rows[1], " , ,", rows[2], name="blank.csv"),
        write(folder, *tabs, name="tabs.tsv"),
    ):
        corpus = load_corpus("manifest", path)
        assert corpus.fingerprint == want.fingerprint, path.name
    (folder / "my.csv").rename(folder / "manifest.csv")
    found = load_corpus("manifest", folder)
    assert (found.name, found.fingerprint) == ("manifest-speech", want.fingerprint)


@pytest.mark.parametrize("name", RATES_HZ)
@pytest.mark.parametrize("span", [",", "0.333,", ",1.25", "0.5001,1.7503", "1.9999,2"])
def test_parts_are_read_at_the_rate_of_the_file_and_have_the_length_that_is_counted(
    folder: Path, name: str, span: str
) -> None:
    (utterance,) = load(folder, "path,speaker,start,end", f"clips/{name},anna,{span}").utterances
    wave = read_utterance(utterance)
    assert -(-len(wave) // 160) == utterance.num_frames
    assert len(wave) == -(-utterance.num_samples * 16_000 // utterance.sample_rate_hz)
    start, end = (float(part) if part else other for part, other in zip(span.split(","), (0.0, 2.0), strict=True))
    samples, rate_hz = soundfile.read(folder / "clips" / name, dtype="float32", always_2d=True)
    cut = folder / "cut.wav"
    soundfile.write(cut, samples[round(start * rate_hz) : round(end * rate_hz)], rate_hz, subtype="FLOAT")
    assert np.array_equal(wave, read_audio(cut))


def test_a_file_that_changed_is_noticed_also_when_it_grew(folder: Path) -> None:
    corpus = load(folder, "path,speaker,start", "clips/a.wav,anna,", "clips/a.wav,anna,1.5")
    whole, part = sorted(corpus.utterances, key=lambda u: u.start_sample)
    soundfile.write(whole.path, np.zeros(40_000), 16_000)
    with pytest.raises(ValueError, match=r"a\.wav has changed .*40000 samples at 16000 Hz, not 32000"):
        read_utterance(whole)
    soundfile.write(whole.path, np.zeros(30_000), 16_000)
    with pytest.raises(ValueError, match=r"samples 24000 to 32000 were asked for, but it has 30000"):
        read_utterance(part)
    soundfile.write(whole.path, np.zeros(40_000), 8_000)
    with pytest.raises(ValueError, match="has changed"):
        read_utterance(part)


def test_a_header_is_read_once_for_all_parts_and_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = audio_headers.audio_header
    monkeypatch.setattr(audio_headers, "audio_header", lambda path: opened.append(path.name) or real(path))
    parts = [f"clips/a.wav,anna,{number / 20},{number / 20 + 0.05}" for number in range(40)]
    corpus = load(folder, "path,speaker,start,end", *parts, "clips/b.wav,anna,,")
    assert sorted(opened) == ["a.wav", "b.wav"]
    assert len({u.id for u in corpus.utterances}) == 41
    assert "41 utterances in 2 files" in corpus.note
    opened.clear()
    load_corpus("manifest", folder / "my.csv")
    assert opened == []


def test_good_headers_are_kept_although_others_are_bad(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clips" / "bad.wav").write_text("no audio")
    lines = ["path,speaker", *(f"clips/{name},anna" for name in (*RATES_HZ, "bad.wav"))]
    refused(folder, *lines)
    opened: list[str] = []
    real = audio_headers.audio_header
    monkeypatch.setattr(audio_headers, "audio_header", lambda path: opened.append(path.name) or real(path))
    refused(folder, *lines)
    assert opened == ["bad.wav"]


def test_the_label_is_any_column(folder: Path) -> None:
    lines = ["path,speaker,text,digit,label", "clips/a.wav,anna,seven,7,x", "clips/b.wav,ben,,,y"]
    assert [u.labels.get("label") for u in load(folder, *lines).utterances] == ["x", "y"]
    assert [u.labels.get("label") for u in load(folder, *lines, label="digit").utterances] == ["7", None]
    assert [u.labels.get("label") for u in load(folder, *lines, label="text").utterances] == ["seven", None]
    assert [u.labels.get("label") for u in load(folder, *lines, label="speaker").utterances] == ["anna", "ben"]
    assert "names the column 'digits', which is not there (did you mean 'digit'?" in refused(
        folder, *lines, label="digits"
    )


HEADERS = [
    ("file,speaker", ["no column 'path' (", "known: file, speaker"]),
    ("path,speakr", ["no column 'speaker' (did you mean 'speakr'?"]),
    ("path;speaker", ["no column 'path'", "known: path;speaker", "separated by commas"]),
    ("path,speaker,text,text", ["column 'text' comes twice"]),
    ("path,speaker,", ["a column has no name"]),
    ("path,speaker,Split", ["column 'Split' looks like 'split': call it that, or otherwise if it is a label"]),
    ("path,speaker,splits,Start", ["'splits' looks like 'split'", "'Start' looks like 'start'"]),
    ("path,speaker,spilt,start_s,phone", ["looks like 'split'", "looks like 'start'", "'phone' looks like 'phones'"]),
    ("path,speaker,PATH", ["column 'PATH' looks like 'path'"]),
]


@pytest.mark.parametrize(("header", "says"), HEADERS)
def test_a_header_that_lacks_something_is_told_with_what_is_there(
    folder: Path, header: str, says: Sequence[str]
) -> None:
    message = refused(folder, header, "clips/a.wav,anna")
    assert all(part in message for part in says), message


def test_a_label_may_resemble_a_reserved_name(folder: Path) -> None:
    lines = ["path,speaker,state,phone,speaker_sex", "clips/a.wav,anna,calm,AA,f"]
    assert load(folder, *lines, label="phone").utterances[0].labels["label"] == "AA"
    lines = ["path,speaker,phone,phones", "clips/a.wav,anna,AA,AA B"]
    assert load(folder, *lines).utterances[0].labels == {"phone": "AA"}, "the column that it resembles is there"


ROWS = [
    ("clips/a.wav,,,,", "1 row where the speaker is empty (line 2): fill it in"),
    (",anna,,,", "1 row where the path is empty (line 2)"),
    ("clips/a.wav,anna,valid,,", "1 row where the split is unknown (line 2: 'valid'): write train, dev or test"),
    ("clips/a.wav,anna,,one,", "start and end are not seconds with 0 <= start < end (line 2: 'one' to '')"),
    ("clips/a.wav,anna,,nan,", "start and end are not seconds"),
    ("clips/a.wav,anna,,-1,1", "start and end are not seconds"),
    ("clips/a.wav,anna,,1,1", "start and end are not seconds with 0 <= start < end (line 2: '1' to '1')"),
    ("clips/a.wav,anna,,,0", "start and end are not seconds"),
    ("clips/a.wav,anna,,1.5,1.2", "(line 2: '1.5' to '1.2'): correct the times"),
    ("clips/a.wav,anna,,,inf", "start and end are not seconds"),
    ("clips/a.wav,anna,,1,2.5", "start and end do not lie in the recording (line 2: 1 s to 2.5 s of 2 s)"),
    ("clips/a.wav,anna,,2,", "(line 2: 2 s to the end of 2 s): correct them, or leave end empty"),
    ("clips/a.wav,anna,,", "the number of cells is not that of the header, 5 (line 2: 4 cells)"),
    ("clips/a.wav,anna,,,,,", "(line 2: 7 cells): quote cells that hold the separator"),
    ("clips/none.wav,anna,,,", "1 row where the audio file is missing (line 2: 'clips/none.wav'): correct the column"),
    ("clips,anna,,,", "1 row where the audio file is missing (line 2: 'clips')"),
    ("my.csv,anna,,,", "1 row where the audio cannot be read (line 2: "),
    ('clips/a.wav,"anna,,,', "my.csv:2: not well-formed CSV"),
]


@pytest.mark.parametrize(("row", "says"), ROWS)
def test_a_wrong_row_is_told_by_line_rule_and_cure(folder: Path, row: str, says: str) -> None:
    assert says in refused(folder, "path,speaker,split,start,end", row)


def test_all_mistakes_are_told_at_once_and_counted(folder: Path) -> None:
    missing = [f"no{number}.wav,anna,," for number in range(7)]
    message = refused(
        folder, "path,speaker,split,text", '"clips/a.wav",,,"two\nlines"', "clips/b.wav,b,training,", *missing
    )
    assert "1 row where the speaker is empty (line 2)" in message
    assert "1 row where the split is unknown (line 4: 'training')" in message
    assert "7 rows where the audio file is missing (line 5: 'no0.wav'; line 6: 'no1.wav'; line 7: 'no2.wav'; and 4" in (
        message
    )


def test_ids_are_unique_and_cannot_lead_out_of_a_folder(folder: Path) -> None:
    twice = refused(folder, "path,speaker,id", "clips/a.wav,anna,x", "clips/b.wav,anna,x")
    assert "the id is that of another row (line 3: 'x', also line 2): give each row its own" in twice
    same = refused(folder, "path,speaker", "clips/a.wav,anna", "clips/a.wav,ben")
    assert "(line 3: 'clips-a', also line 2): add a column id" in same
    for id in ("../x", "/etc/x", "a\\b", "..", '"a\nb"'):
        assert "the id is not a plain name (line 2: " in refused(folder, "path,speaker,id", f"clips/a.wav,anna,{id}")
    (utterance,) = load(folder / "clips", "path,speaker", "../clips/a.wav,anna").utterances
    assert utterance.id == "clips-a"


def test_files_that_are_no_manifest(folder: Path) -> None:
    for content, says in (
        (b"", "is empty"),
        (b"path,speaker\n", "has a header but no rows"),
        ("path,speaker\ncäfé.wav,x\n".encode("latin-1"), "UTF-8"),
    ):
        (folder / "my.csv").write_bytes(content)
        with pytest.raises(ValueError, match=says):
            load_corpus("manifest", folder / "my.csv")
    with pytest.raises(ValueError, match=r"holds no manifest\.csv"):
        load_corpus("manifest", folder)
    with pytest.raises(ValueError, match="no such file or folder"):
        load_corpus("manifest", folder / "nowhere.csv")
    for name in ("manifest.csv", "manifest.tsv"):
        write(folder, "path,speaker", name=name)
    with pytest.raises(ValueError, match=r"both manifest\.csv and manifest\.tsv"):
        load_corpus("manifest", folder)


def test_options_that_a_corpus_does_not_take_are_refused(folder: Path) -> None:
    path = write(folder, "path,speaker", "clips/a.wav,anna")
    with pytest.raises(ValueError, match=r"needs a CSV that lists its recordings: give --root FILE\.csv"):
        load_corpus("manifest")
    with pytest.raises(ValueError, match="'manifest' takes no alignments or split_lists: write them into its column"):
        load_corpus("manifest", path, alignments=path, split_lists="x")
    with pytest.raises(ValueError, match="'librispeech' takes no label"):
        load_corpus("librispeech", folder, label="mood")
    with pytest.raises(ValueError, match="'synthetic' takes no label or shared_speakers: its one label is"):
        load_corpus("synthetic", label="mood", shared_speakers=True)
    assert load_corpus("manifest", path, shared_speakers=True).shared_speakers


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_audio_that_changes_in_place_changes_the_fingerprint(folder: Path, where: str) -> None:
    lines = ["path,speaker", "clips/a.wav,anna", "clips/b.wav,ben"]
    before, path = load(folder, *lines), folder / "clips" / "a.wav"
    size_bytes = path.stat().st_size
    at = {"start": 1_000, "middle": size_bytes // 2, "end": size_bytes - 9}[where]
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size_bytes
    assert load(folder, *lines).speech_fingerprint != before.speech_fingerprint


def test_two_folders_with_one_manifest_and_equal_sizes_are_two_corpora(folder: Path, tmp_path: Path) -> None:
    lines = ["path,speaker", "clips/a.wav,anna"]
    other = tmp_path / "other" / "speech"
    (other / "clips").mkdir(parents=True)
    soundfile.write(other / "clips" / "a.wav", np.zeros((32_000, 2)), 16_000, subtype="PCM_16")
    assert (other / "clips" / "a.wav").stat().st_size == (folder / "clips" / "a.wav").stat().st_size
    assert load(other, *lines).speech_fingerprint != load(folder, *lines).speech_fingerprint


def test_moving_the_folder_keeps_the_fingerprint_and_new_audio_changes_it(folder: Path, tmp_path: Path) -> None:
    lines = ["path,speaker,mood", "clips/a.wav,anna,x", "clips/b.wav,ben,y"]
    before = load(folder, *lines)
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert load(folder, *lines).fingerprint == before.fingerprint
    assert load(folder, lines[0], *lines[:0:-1]).fingerprint == before.fingerprint, "nor does the order of rows"
    relabelled = load(folder, *lines, label="mood")
    assert relabelled.fingerprint != before.fingerprint
    assert relabelled.speech_fingerprint == before.speech_fingerprint, "features and pre-training stay as they are"
    soundfile.write(folder / "clips" / "a.wav", np.zeros(9_000), 16_000)
    os.utime(folder / "clips" / "a.wav", ns=(1, 1))
    assert load(folder, *lines).speech_fingerprint != before.speech_fingerprint
