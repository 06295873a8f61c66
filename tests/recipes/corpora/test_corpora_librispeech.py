"""Folders in LibriSpeech layout: what is found, which labels win, what is refused."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from s3prl_attention.recipes.corpora import Corpus, audio_headers, label_files, load_corpus, read_audio

GRID = """"ooTextFile" "TextGrid" 0 0.9 <exists> 1
"IntervalTier" "phones" 0 0.9 2
0 0.5 "AA1"
0.5 0.9 ""
"""


def write_audio(path: Path, seconds: float = 0.9, rate_hz: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(seconds * rate_hz))
    soundfile.write(path, noise, rate_hz, subtype="PCM_16")
    return path


def make_root(folder: Path) -> Path:
    """Two subsets, three speakers; one utterance is WAV at 8 kHz."""
    root = folder / "toy"
    write_audio(root / "dev" / "9" / "1" / "9-1-0001.flac")
    write_audio(root / "dev" / "9" / "1" / "9-1-0000.flac")
    write_audio(root / "dev" / "10" / "2" / "10-2-0000.wav", rate_hz=8_000)
    write_audio(root / "dev-other" / "11" / "3" / "11-3-0000.flac")
    (root / "dev" / "9" / "1" / "9-1.trans.txt").write_text("9-1-0000 HELLO THERE\n9-1-0001 YES\n9-1-0077 NOT HERE\n")
    return root


def labels(root: Path, name: str, text: str) -> Path:
    path = root / "alignments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def phones_of(corpus: Corpus, id: str) -> list[str]:
    return [segment.phone for item in corpus.utterances if item.id == id for segment in item.segments(corpus.phone_set)]


def test_the_real_excerpt(librispeech_mini: Path) -> None:
    corpus = load_corpus("librispeech", librispeech_mini)
    assert corpus.name == "librispeech-librispeech_mini"
    assert not corpus.synthetic
    assert Counter(item.subset for item in corpus.utterances) == {"test-other": 70, "train-clean-100": 251}
    assert len({item.speaker for item in corpus.select("train-clean-100").utterances}) == 251
    assert len({item.speaker for item in corpus.select("test-other").utterances}) == 7
    labelled = [item for item in corpus.utterances if item.phones is not None]
    assert {item.subset for item in labelled} == {"test-other"}
    assert len(labelled) == 70
    assert corpus.fingerprint == "965f62b09770e1b2", "caches and results are filed under it"
    assert all(item.text for item in corpus.select("test-other").utterances)
    assert len(corpus.phone_set) == 40
    assert "phone labels for 70, from test-other.pocketsphinx.ctm" in corpus.note
    for item in labelled[::20]:
        assert len(read_audio(item.path)) == item.num_samples


def test_ctm_and_frames_of_the_real_excerpt_agree(librispeech_mini: Path) -> None:
    exact = load_corpus("librispeech", librispeech_mini)
    file = librispeech_mini / "alignments" / "test-other.frames.txt"
    framed = load_corpus("librispeech", librispeech_mini, alignments=file)
    assert "from test-other.frames.txt" in framed.note
    assert framed.phone_set == exact.phone_set
    assert framed.fingerprint != exact.fingerprint
    rows = {line.split()[0]: line.split()[1:] for line in file.read_text().splitlines()}
    same = total = 0
    for a, b in zip(exact.utterances, framed.utterances, strict=True):
        if a.phones is not None:
            assert b.phones is not None
            want = np.array([int(label) for label in rows[a.id]])
            assert np.array_equal(b.phones.frame_labels(a.num_frames)[: len(want)], want)
            same += int((a.phones.frame_labels(a.num_frames) == b.phones.frame_labels(a.num_frames)).sum())
            total += a.num_frames
    assert same / total > 0.99


def test_utterances_come_sorted_with_speaker_chapter_text_and_header(tmp_path: Path) -> None:
    corpus = load_corpus("librispeech", make_root(tmp_path))
    rows = [(item.subset, item.speaker, item.chapter, item.id, item.text) for item in corpus.utterances]
    assert rows == [
        ("dev", "10", "2", "10-2-0000", ""),
        ("dev", "9", "1", "9-1-0000", "HELLO THERE"),
        ("dev", "9", "1", "9-1-0001", "YES"),
        ("dev-other", "11", "3", "11-3-0000", ""),
    ]
    assert [(item.sample_rate_hz, item.num_samples) for item in corpus.utterances[:2]] == [
        (8_000, 7_200),
        (16_000, 14_400),
    ]
    assert corpus.phone_set == ()
    assert all(item.phones is None for item in corpus.utterances)
    assert corpus.seconds == pytest.approx(3.6)
    assert "no phone labels" in corpus.note


def test_the_root_may_be_a_parent_or_one_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    assert load_corpus("librispeech", tmp_path).fingerprint == load_corpus("librispeech", root).fingerprint
    assert load_corpus("librispeech", root / "dev-other").subsets() == ["dev-other"]
    monkeypatch.chdir(root)
    assert load_corpus("librispeech", Path()).name == "librispeech-toy"
    make_root(tmp_path / "toy2").rename(tmp_path / "toy3")
    with pytest.raises(ValueError, match="holds several corpora, toy, toy3"):
        load_corpus("librispeech", tmp_path)


def test_a_second_load_opens_no_file_and_notices_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    opened: list[str] = []
    real = audio_headers.audio_header
    monkeypatch.setattr(audio_headers, "audio_header", lambda path: opened.append(path.name) or real(path))
    first = load_corpus("librispeech", root)
    assert len(opened) == 4
    opened.clear()
    assert load_corpus("librispeech", root).fingerprint == first.fingerprint
    assert opened == []
    write_audio(root / "dev" / "9" / "1" / "9-1-0001.flac", seconds=0.5)
    changed = load_corpus("librispeech", root)
    assert opened == ["9-1-0001.flac"]
    assert changed.utterances[2].num_samples == 8_000
    assert changed.fingerprint != first.fingerprint


def test_wav_that_changes_in_place_changes_the_fingerprint(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    first = load_corpus("librispeech", root)
    path = root / "dev" / "10" / "2" / "10-2-0000.wav"
    size_bytes = path.stat().st_size
    soundfile.write(path, np.zeros(7_200), 8_000, subtype="PCM_16")
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size_bytes
    changed = load_corpus("librispeech", root)
    assert changed.fingerprint != first.fingerprint
    assert all(u.content == u.path.stat().st_size for u in changed.utterances if u.path.suffix == ".flac")


def test_cached_labels_follow_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    path = labels(root, "dev.ctm", "9-1-0000 1 0.0 0.9 AA\n")
    first = load_corpus("librispeech", root)
    with monkeypatch.context() as patch:
        patch.setattr(label_files, "_read", lambda source: pytest.fail("read again"))
        assert load_corpus("librispeech", root).fingerprint == first.fingerprint
    path.write_text("9-1-0000 1 0.0 0.9 ZH\n")
    os.utime(path, ns=(1, 1))
    assert phones_of(load_corpus("librispeech", root), "9-1-0000") == ["ZH"]
    labels(root, "phones.txt", "ZH 0\nsil 1\nʃ 2\n")
    assert load_corpus("librispeech", root).phone_set == ("ZH", "SIL", "ʃ")


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 2}', b"PK\x03\x04broken", b"\xff\xfe"], ids=range(5))
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))
    root = make_root(tmp_path)
    labels(root, "dev.ctm", "9-1-0000 1 0.0 0.9 AA\n")
    first = load_corpus("librispeech", root)
    cached = [*(tmp_path / "cache").glob("headers/*.json"), *(tmp_path / "cache").glob("labels/*.npz")]
    assert len(cached) == 2
    for path in cached:
        path.write_bytes(content)
    assert load_corpus("librispeech", root).fingerprint == first.fingerprint
    for path in cached[:1]:
        path.write_bytes(b'{"schema": 1, "files": {}}')
    assert load_corpus("librispeech", root).fingerprint == first.fingerprint
    assert ["damaged" in record.message for record in caplog.records] == [True, True]


def test_ctm_wins_over_textgrid_over_frames(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    labels(root, "phones.txt", "SIL 0\nAA 1\nB 2\nD 3\n")
    labels(root, "dev.frames.txt", "9-1-0000 " + "1 " * 90)
    assert phones_of(load_corpus("librispeech", root), "9-1-0000") == ["AA"]
    labels(root, "dev/9/1/9-1-0000.TextGrid", GRID.replace("AA1", "B"))
    labels(root, "dev/9/1/9-1-0001.TextGrid", GRID)
    corpus = load_corpus("librispeech", root)
    assert phones_of(corpus, "9-1-0000") == ["B", "SIL"]
    assert "phone labels for 2, from 2 TextGrids" in corpus.note
    labels(root, "dev.mine.ctm", "9-1-0000 1 0.0 0.9 D\n")
    labels(root, "dev.words.ctm", "9-1-0000 1 0.0 0.9 HELLO\n")
    labels(root, "dev-other.ctm", "11-3-0000 1 0.0 0.9 B\n")
    corpus = load_corpus("librispeech", root)
    assert phones_of(corpus, "9-1-0000") == ["D"]
    assert phones_of(corpus, "11-3-0000") == ["B"]
    assert "from dev.mine.ctm, dev-other.ctm" in corpus.note
    labels(root, "dev.yours.ctm", "9-1-0000 1 0.0 0.9 AA\n")
    with pytest.raises(ValueError, match=r"several label files for 'dev': dev\.mine\.ctm, dev\.yours\.ctm"):
        load_corpus("librispeech", root)


def test_labels_may_lie_elsewhere(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    grid = tmp_path / "grids" / "9-1-0000.TextGrid"
    grid.parent.mkdir()
    grid.write_text(GRID)
    for place in (grid, grid.parent):
        corpus = load_corpus("librispeech", root, alignments=place)
        assert phones_of(corpus, "9-1-0000") == ["AA", "SIL"]
        assert "9-1-0000.TextGrid" in corpus.note


def misplaced(root: Path) -> None:
    write_audio(root / "dev" / "9" / "9-0.flac")


def deep(root: Path) -> None:
    write_audio(root / "dev" / "9" / "1" / "x" / "9-0.flac")


def twice(root: Path) -> None:
    write_audio(root / "dev-other" / "9" / "1" / "9-1-0000.wav")


def no_audio(root: Path) -> None:
    (root / "dev" / "9" / "1" / "bad.flac").write_text("text")


def empty_audio(root: Path) -> None:
    write_audio(root / "dev" / "9" / "1" / "bad.wav", seconds=0)


def not_utf8(root: Path) -> None:
    folder = root / "dev" / "9" / "1"
    (folder / "9-1-0000.flac").rename(folder / os.fsdecode(b"caf\xe9.flac"))


def bad_text(root: Path) -> None:
    (root / "dev" / "9" / "1" / "9-1.trans.txt").write_text("9-1-0000 HELLO\n9-1-0001\n")


def double_text(root: Path) -> None:
    (root / "dev" / "9" / "1" / "9-1.trans.txt").write_text("9-1-0000 HELLO\n9-1-0000 HELLO\n")


def other_labels(root: Path) -> None:
    labels(root, "dev.ctm", "xyz 1 0.0 0.9 AA\n")


def empty_labels(root: Path) -> None:
    labels(root, "dev.ctm", "")


def long_labels(root: Path) -> None:
    labels(root, "dev.ctm", "9-1-0000 1 0.0 1.9 AA\n")


def short_frames(root: Path) -> None:
    labels(root, "dev.frames.txt", "9-1-0000 1 1 1\n")


def mixed_labels(root: Path) -> None:
    labels(root, "dev.frames.txt", "9-1-0000 " + "1 " * 90)
    labels(root, "dev-other.ctm", "11-3-0000 1 0.0 0.9 B\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (misplaced, r"9-0\.flac: audio must lie at ROOT/SUBSET"),
        (deep, r"9-0\.flac: audio must lie at ROOT/SUBSET"),
        (twice, r"9-1-0000\.wav: utterance '9-1-0000' is also .*9-1-0000\.flac"),
        (no_audio, r"bad\.flac: not readable as audio"),
        (empty_audio, r"bad\.wav: audio must hold at least one sample"),
        (not_utf8, r"caf.*\.flac: an utterance id is a plain name without slashes, got 'caf\\udce9'"),
        (bad_text, r"9-1\.trans\.txt:2: a line is 'ID TEXT'"),
        (double_text, r"9-1\.trans\.txt:2: '9-1-0000' has a text already"),
        (other_labels, r"dev\.ctm: labels no utterance of this corpus, its ids look like 'xyz'"),
        (empty_labels, r"dev\.ctm: labels no utterance of this corpus, it is empty"),
        (long_labels, r"dev\.ctm: 9-1-0000: labels end at 1\.900 s"),
        (short_frames, r"dev\.frames\.txt: 9-1-0000: no label from 0\.030 s"),
        (mixed_labels, r"dev\.frames\.txt: its classes are numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    root = make_root(tmp_path)
    spoil(root)
    with pytest.raises(ValueError, match=says) as caught:
        load_corpus("librispeech", root)
    assert "\n" not in str(caught.value)
    assert ": " in str(caught.value)


def test_several_bad_files_are_told_at_once(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    for number in range(5):
        (root / "dev" / "9" / "1" / f"bad{number}.flac").write_text("text")
    with pytest.raises(ValueError, match=r"bad0\.flac.*bad1\.flac.*bad2\.flac.*and 2 more files"):
        load_corpus("librispeech", root)


def test_links_to_nowhere_are_told_at_once_or_left_out(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    for name in ("a", "b"):
        (root / "dev" / "9" / "1" / f"{name}.flac").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"a\.flac: no such audio file.*b\.flac: no such audio file.*--skip-broken"):
        load_corpus("librispeech", root)
    for _ in range(2):
        corpus = load_corpus("librispeech", root, skip_broken=True)
        assert [told.split(": ")[0] for told in corpus.left_out] == ["a", "b"]
        assert len(corpus.utterances) == 4


def test_a_subset_is_found_whatever_the_case_of_its_suffixes(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    for path in (root / "dev-other").rglob("*.flac"):
        path.rename(path.with_suffix(".FLAC"))
    assert load_corpus("librispeech", root).subsets() == ["dev", "dev-other"]
    assert load_corpus("librispeech", root / "dev-other").subsets() == ["dev-other"]


@pytest.mark.parametrize(
    ("place", "given"), [("LibriSpeech/test/11/3", ""), ("LibriSpeech/test/11/3", "toy"), ("11", "toy"), (".", "toy")]
)
def test_folders_beside_the_subsets_with_audio_elsewhere_are_told(
    tmp_path: Path, place: str, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_root(tmp_path)
    labels(root, "dev/9/1/9-1-0000.TextGrid", GRID)
    load_corpus("librispeech", root)
    assert not caplog.records
    audio = write_audio(root / "test" / place / "11-3-0001.flac")
    assert load_corpus("librispeech", tmp_path / given).subsets() == ["dev", "dev-other"]
    (told,) = caplog.messages
    assert told.startswith(f"{audio} is left out, audio must lie at ROOT/SUBSET/")
    assert told.endswith(f": move or remove {root / 'test'}")


def test_roots_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    write_audio(tmp_path / "flat" / "a.wav")
    for name, says in (
        ("nowhere", "no such folder"),
        ("file", "no such folder"),
        ("empty", "no audio in"),
        ("flat", "no audio in"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            load_corpus("librispeech", tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_labels_that_are_named_but_not_there(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.json").write_text("{}")
    for name, says in (("nowhere", "no such label file"), ("empty", "no labels for"), ("labels.json", r"got '\.json'")):
        with pytest.raises(ValueError, match=says):
            load_corpus("librispeech", root, alignments=tmp_path / name)


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "dev" / "9" / "loop").symlink_to(root / "dev" / "9", target_is_directory=True)
    with pytest.raises(ValueError, match="audio must lie at"):
        load_corpus("librispeech", root)
