"""Reads the column ``phones`` of a manifest: a TextGrid, phones with the times at which they end, or phones alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .alignments import RawLabels, class_names, fit_to_audio
from .audio_headers import AudioFile
from .corpus import PHONE_SET, SIL, PhoneAlignment
from .label_files import LabelSource, read_labels
from .manifest_table import Problems, Row

TIMED = re.compile(r"(.+):(\d+\.?\d*|\.\d+)")  # PHONE:END, in seconds
LONG = re.compile(r".+:\d")  # also a diphthong of SAMPA, such as ``a:6``
CURE = "correct the column phones"
Phones = tuple[PhoneAlignment | None, tuple[str, ...]]


@dataclass(frozen=True)
class Span:
    """The part of a file that is one utterance: ``num_samples`` from ``start_sample`` on, of ``file_samples``; the
    whole file's ``content``."""

    file: AudioFile
    sample_rate_hz: int
    start_sample: int
    num_samples: int
    file_samples: int
    content: int

    @property
    def seconds(self) -> float:
        """Duration of the part."""
        return self.num_samples / self.sample_rate_hz


def read_phones(
    folder: Path, rows: Sequence[Row], spans: Sequence[Span], problems: Problems
) -> tuple[tuple[str, ...], list[Phones]]:
    """The classes, and for each row its alignment or its phones without times.

    ``HH:0.31 AH:0.40`` are phones with the seconds at which they end, back to back from the start of the utterance to
    its end; ``HH AH L OW`` are phones without times; a TextGrid's path is relative to the manifest and its times count
    from the start of the file, also where the utterance is a part of it. The classes are the 40 of ARPAbet where all
    names of the manifest are among them, else the names as written, in alphabetical order.

    Raises:
        ValueError: for a malformed TextGrid; everything else that is wrong goes to ``problems``.
    """
    known = {SIL: 0}  # names as spelt, by number; what class each is can be told when all are read
    grids = _Grids(folder, rows, known)
    read = [_read(row, span, known, grids, problems) for row, span in zip(rows, spans, strict=True)]
    spelt = list(known)
    used = {name for _, plain in read for name in plain}
    used.update(spelt[phone] for found, _ in read if found is not None for phone in set(found.phone.tolist()))
    common = class_names(used)
    names = set(common.values())
    phone_set = tuple(sorted(names)) if names - set(PHONE_SET) else PHONE_SET if names else ()
    order = {name: index for index, name in enumerate(phone_set)}
    classes = np.array([order[common[name]] if name in common else -1 for name in spelt], dtype=np.int16)
    return phone_set, [
        (
            None if found is None else PhoneAlignment(found.start_s, found.end_s, classes[found.phone]),
            tuple(common[name] for name in plain),
        )
        for found, plain in read
    ]


def _read(row: Row, span: Span, known: dict[str, int], grids: "_Grids", problems: Problems) -> Phones:
    if not row.phones:
        return None, ()
    try:
        if _is_grid(row):
            return grids.cut(row, span), ()
        tokens = row.phones.split()
        timed = [match for token in tokens if (match := TIMED.fullmatch(token))]
        if len(timed) < len(tokens) and all(LONG.fullmatch(match[0]) for match in timed):
            return None, tuple(tokens)
        if len(timed) < len(tokens):
            raise ValueError(f"{len(timed)} of {len(tokens)} phones have a time: give one to all, or to none")
        ends_s = np.array([float(match[2]) for match in timed])
        starts_s = np.append(0.0, ends_s[:-1])
        if not (ends_s > starts_s).all():
            raise ValueError(f"the times do not rise, as in {timed[int((ends_s <= starts_s).argmax())][0]!r}")
        phones = [known.setdefault(match[1], len(known)) for match in timed]
        raw = RawLabels(starts_s, ends_s, np.array(phones, dtype=np.int16))
        return fit_to_audio("inline", raw, seconds=span.seconds, dense=True, sil=0), ()
    except ValueError as error:
        problems.add("the phones do not fit", CURE, row.line, str(error).removeprefix("inline: "))
        return None, ()


def _is_grid(row: Row) -> bool:
    return row.phones.lower().endswith(".textgrid")


class _Grids:
    """The TextGrids that rows name, each read and fitted to its audio once, whatever the number of its rows."""

    def __init__(self, folder: Path, rows: Sequence[Row], known: dict[str, int]) -> None:
        self.folder = folder
        named = sorted({(folder / row.phones).resolve() for row in rows if _is_grid(row)})
        files = tuple(path for path in named if path.is_file())
        self._fitted: dict[tuple[Path, Path], PhoneAlignment] = {}
        self._raw: dict[str, RawLabels] = {}
        if files:
            labels = read_labels(LabelSource("paths", None, files))
            classes = np.array([known.setdefault(name, len(known)) for name in labels.phone_set], dtype=np.int16)
            for path, raw in labels.rows.items():
                self._raw[path] = RawLabels(raw.start_s, raw.end_s, classes[raw.phone])

    def cut(self, row: Row, span: Span) -> PhoneAlignment:
        """The phones of a part; ``ValueError`` when the TextGrid is missing or does not fit the file."""
        path = (self.folder / row.phones).resolve()
        if str(path) not in self._raw:
            raise ValueError(f"there is no TextGrid {row.phones!r}")
        key = (path, span.file.path)
        if key not in self._fitted:
            seconds = span.file_samples / span.sample_rate_hz
            self._fitted[key] = fit_to_audio(row.phones, self._raw[str(path)], seconds=seconds, dense=False, sil=0)
        whole, start_s = self._fitted[key], span.start_sample / span.sample_rate_hz
        first = int(np.searchsorted(whole.end_s, start_s, side="right"))
        last = int(np.searchsorted(whole.start_s, start_s + span.seconds, side="left"))
        starts_s = np.maximum(whole.start_s[first:last] - start_s, 0.0)
        ends_s = np.append(starts_s[1:], span.seconds)
        return PhoneAlignment(starts_s, ends_s, whole.phone[first:last])
