"""Reads phone labels: the s3prl text layout and CTM (TextGrid has its own module), and fits them to the audio."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .corpus import ARPABET, PHONE_SET, SIL, PhoneAlignment

FRAME_S = 0.01
SLACK_S = 0.03  # three frames: the conventions of frame counts and the rounding of times differ by less
MAX_ID = int(np.iinfo(np.int16).max)
SILENCES = {"", "<EPS>", "SIL", "SP", "SPN"}
DECORATED = re.compile(r"([A-Z]+?)[0-2]?(?:_[BEIS])?")  # stress digit, Kaldi's position in the word


@dataclass(frozen=True)
class RawLabels:
    """The segments of one utterance as its file has them: float64, float64, int16 index into ``Labels.phone_set``."""

    start_s: np.ndarray
    end_s: np.ndarray
    phone: np.ndarray


@dataclass(frozen=True)
class Labels:
    """What label files say, by utterance id. ``dense``: a class for every frame, so nothing may be missing."""

    source: str
    dense: bool
    phone_set: tuple[str, ...]
    rows: dict[str, RawLabels]


def normalise_phone(name: str) -> str:
    """ARPAbet without stress digits, and ``SIL`` for every kind of silence; any other name stays as it is."""
    upper = name.upper()
    if upper in SILENCES:
        return SIL
    match = DECORATED.fullmatch(upper)
    if match and (match[1] in ARPABET or match[1] in SILENCES):
        return SIL if match[1] in SILENCES else match[1]
    return name


def class_names(spelt: Iterable[str]) -> dict[str, str]:
    """The class of each phone of a corpus by its name in the files: plain ARPAbet where all are ARPAbet or silence.

    Else names stay as they are written, for in SAMPA ``s`` and ``S`` are two phones, but every silence is ``SIL``.
    """
    plain = {name: normalise_phone(name) for name in spelt}
    return plain if _is_arpabet(plain.values()) else {name: SIL if plain[name] == SIL else name for name in plain}


def _is_arpabet(names: Iterable[str]) -> bool:
    """Whether all are of ``PHONE_SET``, or symbols that Kaldi's tables have besides phones (``#0``)."""
    return all(name in PHONE_SET or name.startswith("#") for name in names)


def label_lines(path: Path) -> Iterator[tuple[int, str]]:
    """``(line number, text)`` of the lines that are not blank. Raises ``ValueError`` for what is not UTF-8 text."""
    with utf8_told(path, "label files are"), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.strip()


@contextmanager
def utf8_told(path: Path, kind: str) -> Iterator[None]:
    """Tell of a file that cannot be read, or is not UTF-8 text as all of its ``kind`` (``label files are``), by a
    ``ValueError``."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {kind} UTF-8 text, this one is not ({error.reason}): convert it") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def check_id(where: str, id: str) -> str:
    """An utterance id that is safe in file names and messages; ``ValueError`` for one that could leave its folder, or
    steer a terminal."""
    if id in ("", ".", "..") or "/" in id or "\\" in id or not id.isprintable():
        raise ValueError(f"{where}: an utterance id is a plain name without slashes, got {id[:80]!a}: correct the id")
    return id


def read_phone_table(path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """Read ``phones.txt`` (``PHONE id`` a line): ``(phone_set, class of each id)``.

    When all are ARPAbet or silence, names that are one after normalising (``AH0``, ``AH1``) share a class, and the
    classes are the 40 of ``PHONE_SET``; else they are the names as written, but every silence ``SIL``, by their
    smallest id.
    """
    names: dict[int, str] = {}
    for number, line in label_lines(path):
        fields = line.split()
        if len(fields) != 2 or not (fields[1].isdecimal() and fields[1].isascii()):
            raise ValueError(f"{path}:{number}: a line is 'PHONE id', got {line[:60]!r}: correct or remove the line")
        if len(fields[1]) > 9 or int(fields[1]) > MAX_ID:
            raise ValueError(f"{path}:{number}: ids go up to {MAX_ID}, got {fields[1][:20]}: number the phones from 0")
        if int(fields[1]) in names:
            raise ValueError(f"{path}:{number}: id {fields[1]} was given before: give every phone its own id")
        names[int(fields[1])] = fields[0]
    if not names:
        raise ValueError(f"{path}: holds no phones: write a line 'PHONE id' for each, or remove the file")
    common = class_names(names.values())
    ordered = tuple(dict.fromkeys(common[names[id]] for id in sorted(names)))
    phone_set = PHONE_SET if set(ordered) <= set(PHONE_SET) else ordered
    return phone_set, {id: phone_set.index(common[name]) for id, name in names.items()}


def phone_set_beside(path: Path) -> tuple[str, ...]:
    """The classes that ``phones.txt`` in the same folder names, else the 40 of ARPAbet."""
    table = path.parent / "phones.txt"
    return read_phone_table(table)[0] if table.is_file() else PHONE_SET


def read_frames(path: Path) -> Labels:
    """Read the s3prl layout: ``utterance l0 l1 ...``, one class id for each 10 ms.

    ``phones.txt`` beside the file names the ids; without it the classes are called by their numbers.
    """
    table = path.parent / "phones.txt"
    phone_set, classes = read_phone_table(table) if table.is_file() else ((), {})
    rows: dict[str, RawLabels] = {}
    for number, line in label_lines(path):
        id, *labels = line.split()
        if check_id(f"{path}:{number}", id) in rows:
            raise ValueError(f"{path}:{number}: utterance {id!r} was labelled before: keep one of the two lines")
        try:
            ids = np.fromiter(map(int, labels), dtype=np.int64, count=len(labels))
            if not line.isascii() or "_" in line:  # Python reads 1_0 as ten, and digits of any script
                strange = [label for label in labels if "_" in label or not label.isascii()]
                if strange:
                    raise ValueError(f"got {strange[0][:40]!a}")
        except (ValueError, OverflowError) as error:
            told = str(error)[:120]
            raise ValueError(
                f"{path}:{number}: a line is 'utterance l0 l1 ...' with whole numbers ({told}): correct the line"
            ) from error
        if len(ids) == 0 or ids.min() < 0 or ids.max() > MAX_ID:
            raise ValueError(
                f"{path}:{number}: utterance {id!r} needs at least one label, each from 0 to {MAX_ID}: correct the line"
            )
        rows[id] = _runs(ids.astype(np.int16))
        unknown = sorted(set(rows[id].phone.tolist()) - classes.keys()) if classes else []
        if unknown:
            raise ValueError(f"{path}:{number}: label {unknown[0]} is not in {table}: add it there or correct the line")
    if not classes:
        phone_set = tuple(str(id) for id in range(1 + max((int(row.phone.max()) for row in rows.values()), default=-1)))
        return Labels(path.name, True, phone_set, rows)
    lookup = np.zeros(1 + max(classes), dtype=np.int16)
    lookup[list(classes)] = list(classes.values())
    classed = {id: RawLabels(row.start_s, row.end_s, lookup[row.phone]) for id, row in rows.items()}
    return Labels(path.name, True, phone_set, classed)


def read_ctm(path: Path) -> Labels:
    """Read CTM: ``utterance channel start duration phone [confidence]`` a line, times in seconds, in order of time."""
    phone_set = phone_set_beside(path)
    known = {name: phone for phone, name in enumerate(phone_set)}
    segments: dict[str, tuple[list[float], list[float], list[int]]] = {}
    classes: dict[str, int] = {}  # as spelt in the file
    for number, line in label_lines(path):
        if line.startswith(";;"):
            continue
        fields = line.split()
        if len(fields) not in (5, 6):
            raise ValueError(
                f"{path}:{number}: a line is 'utterance channel start duration phone [confidence]', got "
                f"{len(fields)} fields: correct the line"
            )
        id, spelt = fields[0], fields[4]
        start_s, duration_s = _times(path, number, fields[2], fields[3])
        if spelt not in classes:
            classes[spelt] = phone_class(f"{path}:{number}", spelt, known)
        if id not in segments:
            segments[check_id(f"{path}:{number}", id)] = ([], [], [])
        starts_s, ends_s, phones = segments[id]
        if starts_s and start_s < starts_s[-1]:
            raise ValueError(
                f"{path}:{number}: {id!r} goes back in time, from {starts_s[-1]:g} s to {start_s:g} s: sort the lines"
            )
        starts_s.append(start_s)
        ends_s.append(start_s + duration_s)
        phones.append(classes[spelt])
    rows = {
        id: RawLabels(np.array(starts_s), np.array(ends_s), np.array(phones, dtype=np.int16))
        for id, (starts_s, ends_s, phones) in segments.items()
    }
    return Labels(path.name, False, phone_set, rows)


def phone_class(where: str, spelt: str, known: dict[str, int]) -> int:
    """Index of a phone by the name in a file; ``ValueError`` when it is no class."""
    plain = normalise_phone(spelt)
    name = plain if plain == SIL or _is_arpabet(known) else spelt
    if name not in known:
        raise ValueError(
            f"{where}: phone {spelt!r} is not one of the {len(known)} classes: correct it, or name all phones in "
            f"phones.txt beside the file ('PHONE id' a line)"
        )
    return known[name]


def fit_to_audio(where: str, raw: RawLabels, *, seconds: float, dense: bool, sil: int | None) -> PhoneAlignment:
    """Make segments cover an utterance from 0 s to its end, back to back.

    Gaps and overlaps of up to 30 ms are rounding: the later start decides. Longer gaps, also before the first and after
    the last segment, are silence (class ``sil``). What lies past the end of the audio by up to 30 ms is left out.

    Raises:
        ValueError: for longer overlaps, for labels longer than the audio, and for ``dense`` labels or labels without a
            silence class that leave out more than 30 ms.
    """
    start_s, end_s, phone = raw.start_s, raw.end_s, raw.phone
    slack_s = SLACK_S + 1e-6
    if end_s[-1] > seconds + slack_s:
        raise ValueError(
            f"{where}: labels end at {end_s[-1]:.3f} s but the audio at {seconds:.3f} s: give the labels of this audio"
        )
    steps_s = np.append(start_s[1:], seconds) - end_s  # from the end of each segment to the start of the next
    if steps_s[:-1].min(initial=0.0) < -slack_s:
        raise ValueError(
            f"{where}: segments overlap at {start_s[int(steps_s[:-1].argmin()) + 1]:.3f} s: correct the times"
        )
    gaps = np.flatnonzero(steps_s > slack_s)
    head = start_s[0] > slack_s
    if (len(gaps) or head) and (dense or sil is None):
        at_s = 0.0 if head else float(end_s[gaps[0]])
        raise ValueError(
            f"{where}: no label from {at_s:.3f} s although the audio is {seconds:.3f} s long: label all of it"
            + ("" if dense else ", or add SIL to phones.txt")
        )
    silence = -1 if sil is None else sil
    start_s = np.insert(start_s, gaps + 1, end_s[gaps])
    phone = np.insert(phone, gaps + 1, silence)
    if head:
        start_s, phone = np.insert(start_s, 0, 0.0), np.insert(phone, 0, silence)
    start_s[0] = 0.0
    end_s = np.append(start_s[1:], seconds)
    keep = (end_s > start_s) & (start_s < seconds)
    start_s, phone = start_s[keep], phone[keep]
    return PhoneAlignment(start_s, np.append(start_s[1:], seconds), phone)


def _runs(ids: np.ndarray) -> RawLabels:
    """Runs of equal frame labels (T,) int16 as segments."""
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    edges_s = np.append(first, len(ids)) * FRAME_S
    return RawLabels(edges_s[:-1], edges_s[1:], ids[first])


def seconds_of(text: str) -> float:
    """The number that a text is; ``ValueError`` for what is none, and for what only Python takes for one (``1_0``)."""
    if "_" in text:
        raise ValueError(f"could not convert string to float: {text[:40]!a}")
    return float(text)


def _times(path: Path, number: int, start: str, duration: str) -> tuple[float, float]:
    try:
        start_s, duration_s = seconds_of(start), seconds_of(duration)
    except ValueError as error:
        raise ValueError(f"{path}:{number}: start and duration are seconds ({error}): correct the line") from error
    if not (math.isfinite(start_s) and math.isfinite(duration_s) and 0 <= start_s < start_s + duration_s):
        raise ValueError(
            f"{path}:{number}: a segment starts at 0 s or later and lasts longer than 0 s, got start {start} and "
            f"duration {duration}: correct the line"
        )
    return start_s, duration_s
