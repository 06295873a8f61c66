"""Phone labels from text files: what is read, and where malformed lines are reported."""

from pathlib import Path

import numpy as np
import pytest
from s3prl_attention.recipes.corpora.alignments import (
    RawLabels,
    fit_to_audio,
    normalise_phone,
    read_ctm,
    read_frames,
    read_phone_table,
)
from s3prl_attention.recipes.corpora.corpus import PHONE_SET

AA, SIL = PHONE_SET.index("AA"), PHONE_SET.index("SIL")


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def raw(starts_s: list[float], ends_s: list[float]) -> RawLabels:
    return RawLabels(np.array(starts_s), np.array(ends_s), np.arange(1, len(starts_s) + 1, dtype=np.int16))


def fitted(
    labels: RawLabels, seconds: float, dense: bool = False, sil: int | None = 0
) -> list[tuple[float, float, int]]:
    made = fit_to_audio("file: u", labels, seconds=seconds, dense=dense, sil=sil)
    rows = zip(made.start_s.round(6).tolist(), made.end_s.round(6).tolist(), made.phone.tolist(), strict=True)
    return list(rows)


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("AA", "AA"),
        ("AH0", "AH"),
        ("er1", "ER"),
        ("IY2_E", "IY"),
        ("T_B", "T"),
        ("sil", "SIL"),
        ("SIL_S", "SIL"),
        ("sp", "SIL"),
        ("spn", "SIL"),
        ("", "SIL"),
        ("<eps>", "SIL"),
        ("AH3", "AH3"),
        ("ʃ", "ʃ"),
        ("ax", "ax"),
    ],
)
def test_names_become_plain_arpabet(spelt: str, name: str) -> None:
    assert normalise_phone(spelt) == name


def test_the_phone_table_gives_the_40_classes_whatever_its_ids(tmp_path: Path) -> None:
    path = file(tmp_path, "phones.txt", "SPN 0\nsil 1\nAA0 2\nAA1 4\n\nZH 9\n")
    assert read_phone_table(path) == (PHONE_SET, {0: SIL, 1: SIL, 2: AA, 4: AA, 9: PHONE_SET.index("ZH")})


def test_the_phone_table_may_name_other_phones(tmp_path: Path) -> None:
    path = file(tmp_path, "phones.txt", "ʃ 7\nsil 3\n")
    assert read_phone_table(path) == (("SIL", "ʃ"), {3: 0, 7: 1})


def test_a_phone_table_of_sampa_merges_silences_only(tmp_path: Path) -> None:
    path = file(tmp_path, "phones.txt", "s 0\nS 1\nsil 2\na: 3\n<eps> 4\n")
    assert read_phone_table(path) == (("s", "S", "SIL", "a:"), {0: 0, 1: 1, 2: 2, 3: 3, 4: 2})
    labels = read_ctm(file(tmp_path, "dev.ctm", "u1 1 0.0 0.1 s\nu1 1 0.1 0.1 S\nu1 1 0.2 0.1 sp\n"))
    assert labels.rows["u1"].phone.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="'A:' is not one of the 4 classes"):
        read_ctm(file(tmp_path, "dev.ctm", "u1 1 0.0 0.1 A:\n"))


def test_a_table_of_kaldi_has_symbols_besides_phones(tmp_path: Path) -> None:
    path = file(tmp_path, "phones.txt", "<eps> 0\nAA0_B 1\nAA1 2\n#0 3\n")
    assert read_phone_table(path) == (("SIL", "AA", "#0"), {0: 0, 1: 1, 2: 1, 3: 2})
    labels = read_ctm(file(tmp_path, "dev.ctm", "u1 1 0.0 0.1 AA2\n"))
    assert labels.rows["u1"].phone.tolist() == [1]


def test_frames_are_runs_of_ten_milliseconds(tmp_path: Path) -> None:
    file(tmp_path, "phones.txt", "sil 5\nAA0 6\nAA1 7\n")
    labels = read_frames(file(tmp_path, "dev.frames.txt", "u1 5 5 6 6 6\nu2 7\n"))
    assert labels.phone_set == PHONE_SET
    assert labels.dense
    row = labels.rows["u1"]
    assert row.start_s.round(6).tolist() == [0.0, 0.02]
    assert row.end_s.round(6).tolist() == [0.02, 0.05]
    assert row.phone.tolist() == [SIL, AA]
    assert labels.rows["u2"].phone.tolist() == [AA]


def test_frames_without_a_table_keep_their_numbers(tmp_path: Path) -> None:
    labels = read_frames(file(tmp_path, "dev.frames.txt", "u1 3 3 0\n"))
    assert labels.phone_set == ("0", "1", "2", "3")
    assert labels.rows["u1"].phone.tolist() == [3, 0]


def test_ctm_is_read_with_comments_confidence_and_stress(tmp_path: Path) -> None:
    text = ";; made by hand\nu1 1 0.00 0.30 sil\nu1 1 0.30 0.10 AA1 0.98\nu2 A 0.5 0.25 AA_I\n"
    labels = read_ctm(file(tmp_path, "dev.ctm", text))
    assert not labels.dense
    assert labels.rows["u1"].end_s.tolist() == [0.3, 0.4]
    assert labels.rows["u1"].phone.tolist() == [SIL, AA]
    assert labels.rows["u2"].start_s.tolist() == [0.5]


CTM_ERRORS = [
    ("u1 1 0.0 0.1", "5|4 fields"),
    ("u1 1 0.0 0.1 AA 1.0 extra", "7 fields"),
    ("u1 1 zero 0.1 AA", "seconds"),
    ("u1 1 nan 0.1 AA", "starts at 0 s or later"),
    ("u1 1 0.0 inf AA", "starts at 0 s or later"),
    ("u1 1 -0.1 0.1 AA", "starts at 0 s or later"),
    ("u1 1 0.1 0 AA", "longer than 0 s"),
    ("u1 1 0.1 0.1 QQ", r"'QQ' is not one of the 40 classes"),
    ("u0 1 0.0 0.1 AA", "goes back in time"),
    ("../u1 1 0.0 0.1 AA", "plain name without slashes"),
    (".. 1 0.0 0.1 AA", "plain name without slashes"),
    ("a\\b 1 0.0 0.1 AA", "plain name without slashes"),
]


@pytest.mark.parametrize(("line", "says"), CTM_ERRORS)
def test_a_malformed_ctm_line_is_reported_by_number(tmp_path: Path, line: str, says: str) -> None:
    path = file(tmp_path, "dev.ctm", f"u0 1 0.5 0.1 AA\n\n{line}\n")
    with pytest.raises(ValueError, match=says) as caught:
        read_ctm(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


FRAME_ERRORS = [
    ("u1", "at least one label"),
    ("u1 0 1 x", "whole numbers"),
    ("u1 0 1.5", "whole numbers"),
    ("u1 -1", "each from 0 to 32767"),
    ("u1 99999", "each from 0 to 32767"),
    ("u1 99999999999999999999", "whole numbers"),
    ("u1 0 7", "label 7 is not in"),
    ("u0 0", "'u0' was labelled before"),
    ("../../etc/u1 0", "plain name without slashes"),
]


@pytest.mark.parametrize(("line", "says"), FRAME_ERRORS)
def test_a_malformed_frames_line_is_reported_by_number(tmp_path: Path, line: str, says: str) -> None:
    file(tmp_path, "phones.txt", "SIL 0\nAA 1\n")
    path = file(tmp_path, "dev.frames.txt", f"u0 0 0 1\n{line}\n")
    with pytest.raises(ValueError, match=says) as caught:
        read_frames(path)
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("AA", "'PHONE id'"),
        ("AA one", "'PHONE id'"),
        ("AA -1", "'PHONE id'"),
        ("B 0", "given before"),
        ("B 40000", "go up to"),
    ],
)
def test_a_malformed_table_line_is_reported_by_number(tmp_path: Path, line: str, says: str) -> None:
    path = file(tmp_path, "phones.txt", f"SIL 0\n{line}\n")
    with pytest.raises(ValueError, match=says) as caught:
        read_phone_table(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_empty_table_and_a_file_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"phones.txt: holds no phones"):
        read_phone_table(file(tmp_path, "phones.txt", "\n"))
    (tmp_path / "phones.txt").unlink()
    (tmp_path / "dev.ctm").write_bytes(b"u1 1 0.0 0.1 \xff\xfe")
    with pytest.raises(ValueError, match=r"dev.ctm: label files are UTF-8 text"):
        read_ctm(tmp_path / "dev.ctm")


def test_fitting_closes_rounding_and_calls_longer_gaps_silence() -> None:
    assert fitted(raw([0.0, 0.11], [0.1, 0.2]), 0.21) == [(0.0, 0.11, 1), (0.11, 0.21, 2)]
    assert fitted(raw([0.0, 0.09], [0.1, 0.2]), 0.2) == [(0.0, 0.09, 1), (0.09, 0.2, 2)]
    assert fitted(raw([0.02], [0.2]), 0.2) == [(0.0, 0.2, 1)]
    expected = [(0.0, 0.1, 0), (0.1, 0.2, 1), (0.2, 0.3, 0), (0.3, 0.4, 2), (0.4, 0.5, 0)]
    assert fitted(raw([0.1, 0.3], [0.2, 0.4]), 0.5) == expected


def test_fitting_leaves_out_what_lies_just_past_the_audio() -> None:
    assert fitted(raw([0.0, 0.1], [0.1, 0.13]), 0.12) == [(0.0, 0.1, 1), (0.1, 0.12, 2)]
    assert fitted(raw([0.0, 0.1], [0.1, 0.12]), 0.095) == [(0.0, 0.095, 1)]


def test_fitting_does_not_change_what_was_read() -> None:
    labels = raw([0.02, 0.3], [0.2, 0.4])
    before = (labels.start_s.copy(), labels.end_s.copy(), labels.phone.copy())
    fitted(labels, 0.5)
    assert all(np.array_equal(a, b) for a, b in zip(before, (labels.start_s, labels.end_s, labels.phone), strict=True))


@pytest.mark.parametrize(
    ("labels", "seconds", "dense", "sil", "says"),
    [
        (raw([0.0], [0.2]), 0.1, False, 0, "end at 0.200 s but the audio at 0.100 s"),
        (raw([0.0, 0.1], [0.2, 0.3]), 0.3, False, 0, "overlap at 0.100 s"),
        (raw([0.0], [0.1]), 0.2, True, None, "no label from 0.100 s"),
        (raw([0.1], [0.2]), 0.2, False, None, "no label from 0.000 s"),
    ],
)
def test_labels_that_do_not_fit_are_errors(
    labels: RawLabels, seconds: float, dense: bool, sil: int | None, says: str
) -> None:
    with pytest.raises(ValueError, match=f"^file: u: .*{says}"):
        fit_to_audio("file: u", labels, seconds=seconds, dense=dense, sil=sil)
