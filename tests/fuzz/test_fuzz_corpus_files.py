"""Damaged label files, TextGrids, manifests and lists: the right answer, or an error that names file and line."""

import itertools
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzz_fixtures import RIGHT, Target, fuzz, mutated, refusal
from hypothesis import strategies as st
from s3prl_attention.downstream.s3prl_buckets import buckets, read_table
from s3prl_attention.downstream.s3prl_datarc import divided_lists
from s3prl_attention.recipes.corpora import Corpus, Utterance, load_corpus
from s3prl_attention.recipes.corpora.alignments import (
    Labels,
    check_id,
    fit_to_audio,
    read_ctm,
    read_frames,
    read_phone_table,
)
from s3prl_attention.recipes.corpora.corpus import PHONE_SET, SIL
from s3prl_attention.recipes.corpora.label_files import named_labels, read_labels
from s3prl_attention.recipes.corpora.speakers_table import read_speakers
from s3prl_attention.recipes.corpora.split_lists import assign_splits
from s3prl_attention.recipes.corpora.textgrid import read_textgrid

SECONDS = 1.0
LINE_END = re.compile(r"\r\n|\r|\n")
KNOWN = {phone: index for index, phone in enumerate(PHONE_SET)}
CTM = (
    ";; by hand\nu1 1 0.00 0.25 HH\nu1 1 0.25 0.30 AH0\nu1 1 0.55 0.45 L\nu2 A 0.1 0.2 SIL 0.9\nu2 A 0.3 0.7 OW1\n",
    "u1 1 0 1 AA\n",
)
FRAMES = ("".join(f"u{i} {' '.join(str(i) for _ in range(100))}\n" for i in (1, 2)), "1-2-0003 0 0 0 7 7 7 12\n")
TABLE = ("SIL 0\nAA 1\nAE 2\n", "SIL 0\nAA0 1\nAA1 2\nHH 7\n", "a 0\nA 1\n@ 2\n")
SHORT = '"ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n2\n0\n0.5\n"AA"\n0.5\n1\n"L"\n'
LONG = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\ntiers? <exists>\nsize = 2\nitem []:\n'
    '    item [1]:\n        class = "TextTier"\n        name = "clicks"\n        xmin = 0\n        xmax = 1\n'
    '        points: size = 1\n        points [1]:\n            number = 0.3\n            mark = "say ""hm"""\n'
    '    item [2]:\n        class = "IntervalTier"\n        name = "phones"\n        xmin = 0\n        xmax = 1\n'
    "        intervals: size = 2\n        intervals [1]:\n            xmin = 0\n            xmax = 0.4\n"
    '            text = "AA1"\n        intervals [2]:\n            xmin = 0.4\n            xmax = 1\n'
    '            text = ""\n'
)
SPEAKERS = (
    ";ID | SEX | SUBSET | MINUTES | NAME\n14 | F | train-clean-360 | 25.03 | Kristin LeMoine\n1 | M | test | 1 | x\n",
)
MANIFEST = (
    'path,speaker,chapter,split,text,language\na.wav,anna,monday,train,"well, hello",en\nb.wav,ben,,test,hallo,de\n',
    "path,speaker,start,end,phones\na.wav,anna,0,0.5,HH:0.2 AH:0.5\na.wav,anna,0.5,1,a.TextGrid\n"
    "b.wav,ben,,,HH AH L OW\n",
    "id,path,speaker,session,subset,phones\nx,a.wav,anna,1,all,AA:1.0\ny,b.wav,ben,2,all,\n",
)
SPLITS = ("1-1-0001\n1-1-0002\n", "1-1-0001\n")
BUCKETS = ("file_path,length,label\nx/1-1-0001.flac,16000,1\nx/1-1-0002.flac,15840,2\n1-1-0003.flac,9000.5,0\n",)


def sound(labels: Labels) -> None:
    """What the rest of the package takes for granted of labels."""
    assert labels.rows or labels.phone_set is not None
    for id, row in labels.rows.items():
        assert check_id("", id) == id
        assert len(row.start_s) == len(row.end_s) == len(row.phone) > 0
        assert np.isfinite(row.start_s).all()
        assert (row.start_s >= 0).all()
        assert (row.end_s > row.start_s).all()
        assert (np.diff(row.start_s) >= 0).all()
        assert row.phone.min() >= 0
        assert row.phone.max() < max(1, len(labels.phone_set))
        sil = labels.phone_set.index(SIL) if SIL in labels.phone_set else None
        try:
            fitted = fit_to_audio(f"here: {id}", row, seconds=SECONDS, dense=labels.dense, sil=sil)
        except ValueError as error:
            refusal(error, "here")
            continue
        assert fitted.start_s[0] == 0
        assert fitted.end_s[-1] == SECONDS
        assert (fitted.start_s[1:] == fitted.end_s[:-1]).all()
        assert (fitted.end_s > fitted.start_s).all()
        assert len(fitted.frame_labels(100)) == 100


def check_ctm(data: bytes, folder: Path) -> str:
    path = folder / "x.ctm"
    path.write_bytes(data)
    try:
        labels = read_ctm(path)
    except BaseException as error:
        return refusal(error, path)
    sound(labels)
    return RIGHT


def check_frames(example: tuple[bytes, bytes | None], folder: Path) -> str:
    data, table = example
    path = folder / "x.frames.txt"
    path.write_bytes(data)
    (folder / "phones.txt").unlink(missing_ok=True)
    if table is not None:
        (folder / "phones.txt").write_bytes(table)
    try:
        labels = read_frames(path)
    except BaseException as error:
        return refusal(error, path, folder / "phones.txt")
    sound(labels)
    for line in filter(str.strip, LINE_END.split(data.decode("utf-8-sig"))):
        id, *ids = line.split()
        assert len(ids) == round(labels.rows[id].end_s[-1] * 100), "frames were left out"
    return RIGHT


def check_table(data: bytes, folder: Path) -> str:
    path = folder / "phones.txt"
    path.write_bytes(data)
    try:
        phone_set, classes = read_phone_table(path)
    except BaseException as error:
        return refusal(error, path)
    assert set(classes.values()) <= set(range(len(phone_set)))
    return RIGHT


def check_textgrid(data: bytes, folder: Path) -> str:
    path = folder / "u1.TextGrid"
    path.write_bytes(data)
    try:
        raw = read_textgrid(path, KNOWN)
    except BaseException as error:
        return refusal(error, path)
    sound(Labels("x", False, PHONE_SET, {"u1": raw}))
    return RIGHT


def check_speakers(data: bytes, folder: Path) -> str:
    (folder / "SPEAKERS.TXT").write_bytes(data)
    try:
        speakers = read_speakers(folder)
    except BaseException as error:
        return refusal(error, folder / "SPEAKERS.TXT")
    assert all(one.sex and one.subset for one in speakers.values())
    return RIGHT


@cache
def sounds(folder: Path) -> None:
    """Two recordings of a second, and a TextGrid."""
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", 0.1 * np.sin(np.arange(16_000) / 9), 16_000)
    (folder / "a.TextGrid").write_text(SHORT)


def check_manifest(data: bytes, folder: Path) -> str:
    sounds(folder)
    path = folder / "my.csv"
    path.write_bytes(data)
    try:
        corpus = load_corpus("manifest", path)
    except BaseException as error:
        return refusal(error, path)
    sound_corpus(corpus)
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    if '"' not in text and "\r" not in text:
        rows = [line for line in text.split("\n") if line.replace(",", "").strip()]
        assert len(corpus.utterances) == len(rows) - 1, "rows were left out"
    return RIGHT


def sound_corpus(corpus: Corpus) -> None:
    """What the rest of the package takes for granted of a corpus."""
    assert corpus.utterances
    ids = [utterance.id for utterance in corpus.utterances]
    assert len(set(ids)) == len(ids)
    for utterance in corpus.utterances:
        assert check_id("", utterance.id) == utterance.id
        assert utterance.speaker
        assert utterance.num_samples > 0
        assert utterance.split in ("", "train", "dev", "test")
        if utterance.phones is not None:
            assert utterance.phones.phone.max() < len(corpus.phone_set)
            assert len(utterance.phones.frame_labels(utterance.num_frames)) == utterance.num_frames
    assert len(corpus.fingerprint) == 16


@cache
def spoken(folder: Path) -> Corpus:
    """Three utterances of one speaker."""
    utterances = (
        Utterance(f"1-1-{i:04}", folder / f"{i}.wav", 16_000, 16_000, "1", "1", "train", "", None) for i in (1, 2, 3)
    )
    return Corpus("c", folder, tuple(utterances), (), False, "three utterances")


def check_splits(example: tuple[bytes, bytes], folder: Path) -> str:
    lists = folder / "lists"
    lists.mkdir(exist_ok=True)
    for name, data in zip(("train", "test"), example, strict=True):
        (lists / f"{name}_split.txt").write_bytes(data)
    try:
        corpus = assign_splits(spoken(folder), str(lists))
        divided = divided_lists(str(lists), 7)
    except BaseException as error:
        return refusal(error, lists)
    lines = [line.strip() for data in example for line in LINE_END.split(data.decode("utf-8-sig"))]
    named = [line for line in lines if line]
    known = {utterance.id for utterance in corpus.utterances}
    assert {utterance.id for utterance in corpus.utterances if utterance.split} == known & set(named)
    assert len(named) == len(set(named))
    assert known >= set(named) or "belong to subsets that are not here" in corpus.note, "an id was left out silently"
    assert sorted(itertools.chain(*divided.values())) == sorted(named)
    return RIGHT


def check_buckets(data: bytes, folder: Path) -> str:
    path = folder / "train-clean-100.csv"
    path.write_bytes(data)
    try:
        table = read_table(path)
    except BaseException as error:
        return refusal(error, path)
    assert all(np.isfinite(row.length) for row in table)
    if table:
        made = buckets(table, {row.id for row in table}, 2)
        assert {id for batch in made for id in batch} <= {row.id for row in table}
    return RIGHT


def check_cached_labels(example: tuple[int, int, bytes], folder: Path) -> str:
    """A cached label file that was damaged is read anew from its source."""
    at, bit, extra = example
    path = folder / "y.ctm"
    if not path.exists():
        path.write_text(CTM[0])
    fresh = read_ctm(path)
    source = named_labels(path, [])[0]
    read_labels(source)
    cached = max((folder / "cache" / "labels").glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
    data = bytearray(cached.read_bytes())
    data[at % len(data)] ^= 1 << bit
    cached.write_bytes(bytes(data[: len(data) - len(extra) * 30]) + extra)
    again = read_labels(source)
    assert again.phone_set == fresh.phone_set
    assert again.rows.keys() == fresh.rows.keys()
    for id, row in fresh.rows.items():
        for one, other in zip((row.start_s, row.end_s, row.phone), vars(again.rows[id]).values(), strict=True):
            np.testing.assert_array_equal(one, other)
    return RIGHT


TARGETS = [
    Target("ctm", mutated(*CTM), check_ctm, quick=150),
    Target("frames", st.tuples(mutated(*FRAMES), st.one_of(st.none(), mutated(*TABLE))), check_frames, quick=120),
    Target("phone table", mutated(*TABLE), check_table, quick=100),
    Target("textgrid", mutated(SHORT, LONG), check_textgrid, quick=200),
    Target("speakers", mutated(*SPEAKERS), check_speakers, quick=60),
    Target("manifest", mutated(*MANIFEST), check_manifest, quick=150),
    Target("split lists", st.tuples(mutated(SPLITS[0]), mutated("1-1-0003\n")), check_splits, quick=80),
    Target("bucket table", mutated(*BUCKETS), check_buckets, quick=80),
    Target("cached labels", st.tuples(st.integers(0, 9999), st.integers(0, 7), st.sampled_from([b"", b"", b"xyz"])),
           check_cached_labels, quick=60, both=False),
]  # fmt: skip
IDS = [target.name for target in TARGETS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_files(target, tmp_path):
    fuzz(target, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_many_files(target, tmp_path):
    fuzz(target, tmp_path, slow=True)
