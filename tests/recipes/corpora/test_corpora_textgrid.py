"""TextGrid files in the long and the short form, and those that are neither."""

from pathlib import Path

import pytest
from s3prl_attention.recipes.corpora.corpus import PHONE_SET
from s3prl_attention.recipes.corpora.textgrid import read_textgrid

KNOWN = {phone: index for index, phone in enumerate(PHONE_SET)}

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.9
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.9
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "say ""1 2"" <exists> = 7"
        intervals [2]:
            xmin = 0.5
            xmax = 0.9
            text = ""
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 0.9
        points: size = 1
        points [1]:
            number = 0.3
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.9
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "AA1"
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "spn"
        intervals [3]:
            xmin = 0.5
            xmax = 0.9
            text = ""
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.9
<exists>
2
"IntervalTier"
"words"
0
0.9
1
0
0.9
"hi"
"IntervalTier"
"Phone"
0
0.9
3
0
0.25
"AA1"
0.25
0.5
"spn"
0.5
0.9
""
"""


@pytest.mark.parametrize("text", [LONG, SHORT])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_both_forms_say_the_same(tmp_path: Path, text: str, encoding: str, newline: str) -> None:
    path = tmp_path / "u1.TextGrid"
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    labels = read_textgrid(path, KNOWN)
    assert labels.start_s.tolist() == [0.0, 0.25, 0.5]
    assert labels.end_s.tolist() == [0.25, 0.5, 0.9]
    assert labels.phone.tolist() == [KNOWN["AA"], KNOWN["SIL"], KNOWN["SIL"]]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "says", "line"),
    [
        ('"ooTextFile"', '"PitchTier"', "not a TextGrid", 1),
        ('"TextGrid"', '"Pitch 1"', "not a TextGrid", 2),
        ("<exists>\nsize", "<absent>\nsize", "has no tiers", 6),
        ("size = 3\nitem", "size = 1.5\nitem", "whole number", 7),
        ('class = "TextTier"', 'class = "Tier"', "of class 'Tier'", line_of(LONG, '"clicks"')),
        ("xmax = 0.25", 'xmax = "x"', "needs a number", line_of(LONG, "xmax = 0.25")),
        ("xmax = 0.25", "xmax = 1.2.5", "needs a number", line_of(LONG, "xmax = 0.25")),
        ("xmax = 0.25", "xmax = 0", "out of order", line_of(LONG, "xmax = 0.25")),
        ('"AA1"', "12", "in quotes", line_of(LONG, '"AA1"')),
        ('"AA1"', '"QQ"', "'QQ' is not one of the 40 classes", line_of(LONG, '"AA1"')),
        ("intervals: size = 3", "intervals: size = 4", "cut short", LONG.rstrip().count("\n") + 1),
        ("intervals: size = 3", "intervals: size = 0", "empty phone tier", line_of(LONG, "intervals: size = 3")),
    ],
)
def test_a_malformed_textgrid_is_reported_by_line(tmp_path: Path, old: str, new: str, says: str, line: int) -> None:
    assert old in LONG
    path = tmp_path / "u1.TextGrid"
    path.write_text(LONG.replace(old, new, 1))
    with pytest.raises(ValueError, match=says) as caught:
        read_textgrid(path, KNOWN)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [('"phones"', '"tones"'), ('"words"', '"phone"')])
def test_there_must_be_one_phone_tier(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "u1.TextGrid"
    path.write_text(LONG.replace(old, new).replace('"say ""1 2"" <exists> = 7"', '"B"'))
    with pytest.raises(ValueError, match=r"one interval tier must be called 'phones' or 'phone', got [02] among"):
        read_textgrid(path, KNOWN)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x81", b"hello"])
def test_what_is_no_textgrid_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "u1.TextGrid"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"u1\.TextGrid"):
        read_textgrid(path, KNOWN)
