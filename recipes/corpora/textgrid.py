"""Reads the phone tier of a Praat TextGrid, in its long and its short text form."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .alignments import RawLabels, check_id, phone_class

TIERS = ("phone", "phones")
# Praat reads a text file as a series of strings, flags and numbers that stand alone; all other words are decoration,
# which is the whole difference between the long and the short form.
TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<!\S)(?P<flag><\w+>)|(?<!\S)(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)(?!\S)'
)


def read_textgrid(path: Path, known: dict[str, int]) -> RawLabels:
    """The segments of the tier called ``phone`` or ``phones``; ``known`` maps phone names to classes.

    Raises:
        ValueError: with file and line, for what is no TextGrid, lacks that one tier, or has a malformed interval.
    """
    check_id(str(path), path.stem)
    return read_phone_tier(path, lambda where, spelt: phone_class(where, spelt, known))


def read_phone_tier(path: Path, classify: Callable[[str, str], int]) -> RawLabels:
    """``read_textgrid`` with any way to tell a phone's class: ``classify(where, name in the file)``."""
    reader = _Reader(path, _decode(path))
    if reader.text("the file type") != "ooTextFile" or reader.text("the object class") != "TextGrid":
        raise reader.error("is not a TextGrid in text form", "save it in Praat as a text file")
    reader.number("the start"), reader.number("the end")
    if reader.flag("whether there are tiers") != "<exists>":
        raise reader.error("has no tiers", "add a tier called 'phones'")
    names: list[str] = []
    found: list[RawLabels] = []
    for _ in range(reader.count("the number of tiers")):
        kind, name = reader.text("a tier's class"), reader.text("a tier's name")
        if kind not in ("IntervalTier", "TextTier"):
            raise reader.error(f"tier {name!r} is of class {kind!r}", "use IntervalTier or TextTier")
        reader.number("the tier's start"), reader.number("the tier's end")
        size = reader.count("the tier's size")
        if kind == "IntervalTier" and name.strip().lower() in TIERS:
            found.append(_intervals(reader, size, classify))
        else:
            for _ in range(size * (2 if kind == "TextTier" else 3)):
                reader.skip()
        names.append(name)
    if len(found) != 1:
        raise ValueError(
            f"{path}: one interval tier must be called 'phones' or 'phone', got {len(found)} among {names}: rename "
            f"the tier"
        )
    return found[0]


def _intervals(reader: "_Reader", size: int, classify: Callable[[str, str], int]) -> RawLabels:
    starts_s: list[float] = []
    ends_s: list[float] = []
    phones: list[int] = []
    classes: dict[str, int] = {}  # as spelt in the file
    for _ in range(size):
        start_s, end_s = reader.number("an interval's start"), reader.number("an interval's end")
        if not 0 <= start_s < end_s or (starts_s and start_s < starts_s[-1]):
            raise reader.error(f"has an interval from {start_s:g} s to {end_s:g} s out of order", "correct the times")
        spelt = reader.text("an interval's text").strip()
        if spelt not in classes:
            classes[spelt] = classify(f"{reader.path}:{reader.line()}", spelt)
        phones.append(classes[spelt])
        starts_s.append(start_s)
        ends_s.append(end_s)
    if not starts_s:
        raise reader.error("has an empty phone tier", "label it, or remove the file")
    return RawLabels(np.array(starts_s), np.array(ends_s), np.array(phones, dtype=np.int16))


class _Reader:
    """Takes the tokens of a text one by one and knows the line of the last one."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        self._tokens = TOKEN.finditer(text)
        self._at = 0

    def line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def error(self, what: str, cure: str) -> ValueError:
        return ValueError(f"{self.path}:{self.line()}: {what}: {cure}")

    def skip(self) -> None:
        self._next("another value")

    def text(self, what: str) -> str:
        value = self._next(what)["text"]
        if value is None:
            raise self.error(f"needs {what} in quotes here", "correct the file, or save it again in Praat")
        return value.replace('""', '"')

    def flag(self, what: str) -> str:
        value = self._next(what)["flag"]
        if value is None:
            raise self.error(f"needs <exists> or <absent> here ({what})", "correct the file, or save it again in Praat")
        return value

    def number(self, what: str) -> float:
        token = self._next(what)["number"]
        try:
            value = float(token) if token is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"needs a number here ({what})", "correct the file, or save it again in Praat")
        return value

    def count(self, what: str) -> int:
        value = self.number(what)
        if value < 0 or value != int(value):
            raise self.error(f"needs a whole number here ({what}), got {value:g}", "correct the file")
        return int(value)

    def _next(self, what: str) -> re.Match[str]:
        token = next(self._tokens, None)
        if token is None:
            self._at = len(self._text.rstrip())
            raise self.error(f"ends where {what} should be", "the file is cut short, make it again")
        self._at = token.start()
        return token


def _decode(path: Path) -> str:
    """Praat writes UTF-8, or UTF-16 with a byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is neither UTF-8 nor UTF-16 text: save it in Praat as a text file") from error
