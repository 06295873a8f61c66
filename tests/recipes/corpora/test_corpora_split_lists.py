"""Split lists and the frame labels of CPC on a folder in LibriSpeech layout."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from s3prl_attention.recipes.corpora import Corpus, load_corpus

TABLE = (
    ";ID |SEX| SUBSET |MINUTES| NAME\n1 | F | train-clean-100 | 1 | |A|B\n2|M|train-clean-100|1|x\n9|F|dev-clean|1|y\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two speakers of train-clean-100 and one of train-clean-360, three utterances of 0.2 s each."""
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))
    for subset, speaker in (("train-clean-100", 1), ("train-clean-100", 2), ("train-clean-360", 3)):
        folder = tmp_path / "speech" / subset / str(speaker) / "7"
        folder.mkdir(parents=True)
        for number in range(3):
            soundfile.write(folder / f"{speaker}-7-{number:04d}.flac", np.zeros(3200), 16_000)
    return tmp_path / "speech"


def lists(root: Path, **ids: str) -> Path:
    folder = root.parent / "lists"
    folder.mkdir(exist_ok=True)
    for split, text in ids.items():
        (folder / f"{split}_split.txt").write_text("\n".join(text.split()) + "\n")
    return folder


def load(root: Path, where: object) -> Corpus:
    return load_corpus("librispeech", root, split_lists=str(where))


def splits(corpus: Corpus) -> dict[str, str]:
    return {u.id: u.split for u in corpus.utterances}


def test_lists_assign_what_they_name_and_nothing_else(root: Path) -> None:
    folder = lists(root, train="1-7-0000 2-7-0000", test="1-7-0001 2-7-0001")
    corpus = load(root, folder)
    want = {f"{speaker}-7-{number:04d}": "" for speaker in (1, 2, 3) for number in range(3)}
    want |= {"1-7-0000": "train", "2-7-0000": "train", "1-7-0001": "test", "2-7-0001": "test"}
    assert splits(corpus) == want
    assert (corpus.assigned_by, corpus.shared_speakers) == ("the split lists", True)
    files = f"{folder / 'test_split.txt'}, {folder / 'train_split.txt'}"
    assert splits(load(root, files)) == want
    lists(root, dev="1-7-0002")
    assert splits(load(root, folder)) == want | {"1-7-0002": "dev"}
    plain = load_corpus("librispeech", root)
    assert (plain.assigned_by, plain.shared_speakers) == ("", False)
    assert plain.fingerprint == corpus.speech_fingerprint != corpus.fingerprint


def test_ids_of_subsets_that_are_not_here_are_told_and_others_are_an_error(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = lists(root, train="1-7-0000 8-7-0000 9-7-0000", test="1-7-0001 8-7-0001")
    corpus = load(root, folder)
    assert corpus.note.endswith("; 3 utterances of the split lists belong to subsets that are not here")
    assert "3 ids belong to subsets that are not at" in caplog.text
    (root / "SPEAKERS.TXT").write_text(TABLE)
    assert "; 3 utterances" in load(root, folder).note, "8 is not in the table, 9 is of dev-clean"
    (root / "SPEAKERS.TXT").write_text(TABLE + "8 | M | train-clean-100 | 1 | z\n")
    with pytest.raises(ValueError, match=r"lacks 2 utterances .* although .*\(SPEAKERS.TXT\): 8-7-0000, 8-7-0001: fe"):
        load(root, folder)
    lists(root, test="1-7-0005 1-7-0006 1-7-0007 1-7-0008")
    (root / "SPEAKERS.TXT").unlink()
    with pytest.raises(ValueError, match=r"lacks 4 utterances .*1-7-0005, 1-7-0006, 1-7-0007 and 1 more: fetch them"):
        load(root, folder)


BAD = [
    ({"train": "1-7-0000"}, "there is no test_split.txt: give data.split_lists both"),
    ({"train": "1-7-0000", "test": "1-7-0000"}, r"test_split.txt:1: utterance '1-7-0000' is in train already"),
    ({"train": "1-7-0000 1-7-0000", "test": "1-7-0001"}, r"train_split.txt:2: utterance '1-7-0000' is in train alre"),
    ({"train": "x-7-0000", "test": "x-7-0001"}, "name no utterance of this corpus, their ids look like 'x-7-0000', th"),
    ({"train": "../1", "test": "1-7-0001"}, r"train_split.txt:1: an utterance id is a plain name"),
    ({"train": "1-7-0000", "test": ""}, "test_split.txt: is empty"),
]


@pytest.mark.parametrize(("content", "says"), BAD, ids=range(len(BAD)))
def test_bad_lists_are_refused(root: Path, content: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load(root, lists(root, **content))


def test_files_must_say_what_they_list(root: Path) -> None:
    folder = lists(root, train="1-7-0000", test="1-7-0001")
    (folder / "train_split.txt").write_text("1-7-0000 extra\n")
    with pytest.raises(ValueError, match=r"train_split.txt:1: a line is one utterance id, got '1-7-0000 extra'"):
        load(root, folder)
    (folder / "mine.txt").write_text("1-7-0000\n")
    with pytest.raises(ValueError, match=r"mine.txt: its name begins with none of train, dev, test"):
        load(root, f"{folder}/mine.txt,{folder}/test_split.txt")
    with pytest.raises(ValueError, match=r"test_split.txt: a second list of test"):
        load(root, f"{folder}/test_split.txt,{folder}/test_split.txt")
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder"):
        load(root, root / "nowhere")
    (root / "SPEAKERS.TXT").write_text("1 F train-clean-100\n")
    lists(root, train="1-7-0000", test="1-7-0001 5-5-5555")
    with pytest.raises(ValueError, match=r"SPEAKERS.TXT:1: a line is 'ID . SEX . SUBSET"):
        load(root, folder)


def test_frame_labels_of_the_whole_corpus_serve_every_subset(root: Path) -> None:
    labels = root.parent / "converted_aligned_phones.txt"
    labels.write_text("".join(f"{speaker}-7-0000 " + "3 " * 10 + "40 " * 9 + "\n" for speaker in (1, 3, 8)))
    folder = lists(root, train="1-7-0000", test="2-7-0000")
    corpus = load_corpus("librispeech", root, alignments=labels, split_lists=str(folder))
    labelled = [u for u in corpus.utterances if u.phones is not None]
    assert [u.id for u in labelled] == ["1-7-0000", "3-7-0000"]
    assert corpus.phone_set == tuple(str(number) for number in range(41))
    assert labelled[0].phones is not None
    assert labelled[0].phones.frame_labels(20).tolist() == [3] * 10 + [40] * 10
