"""Loads any folder in LibriSpeech layout: ``ROOT/SUBSET/SPEAKER/CHAPTER/ID.flac``, with the phone labels it finds."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .alignments import Labels, check_id, fit_to_audio, label_lines
from .audio_headers import AudioFile, Header, read_headers, undecodable
from .corpus import PHONE_SET, SIL, Corpus, PhoneAlignment, Utterance
from .label_files import LabelSource, find_labels, named_labels, read_labels

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".flac", ".wav")
LAYOUT = "ROOT/SUBSET/SPEAKER/CHAPTER/ID.flac (or .wav)"
LOOKED_INTO, DEEPEST = 3, 4  # folders in each, and levels, of what is no subset


@dataclass(frozen=True)
class _Found:
    """One audio file and its place in the layout."""

    subset: str
    speaker: str
    chapter: str
    id: str
    file: AudioFile


def load_librispeech(root: Path, *, alignments: Path | None = None, skip_broken: bool = False) -> Corpus:
    """Load all subsets under ``root``, which may also be one subset's folder or a parent whose one folder is the root.

    Phone labels come from ``root/alignments`` or ``alignments`` (a file or a folder): CTM first, then TextGrid, then
    s3prl frames; ``Corpus.note`` says which. Utterances without labels have ``phones=None``. With ``skip_broken``,
    those whose audio cannot be decoded to its end are left out (``Corpus.left_out``).

    Raises:
        ValueError: for a folder that is missing, empty or laid out otherwise, an id that comes twice, audio that cannot
            be read, and labels that are malformed or do not fit the audio.
    """
    root, subsets = _find_root(Path(root).expanduser().resolve())
    found = sorted(_scan(root, subsets), key=lambda item: (item.subset, item.speaker, item.chapter, item.id))
    first: dict[str, Path] = {}
    for item in found:
        if item.id in first:
            raise ValueError(f"{item.file.path}: utterance {item.id!r} is also {first[item.id]}: remove one of the two")
        first[item.id] = item.file.path
    broken = undecodable(root, [item.file for item in found]) if skip_broken else {}
    left_out = tuple(f"{item.id}: {broken[item.file.path]}" for item in found if item.file.path in broken)
    found = [item for item in found if item.file.path not in broken]
    if not found:
        raise ValueError(f"{root}: all {len(broken)} recordings are broken, the first: {next(iter(broken.values()))}")
    headers = read_headers(root, [item.file for item in found])
    texts = {chapter: _transcripts(chapter) for chapter in {item.file.path.parent for item in found}}
    folder = root / "alignments"
    sources = named_labels(Path(alignments).expanduser(), subsets) if alignments else find_labels(folder, subsets)
    phone_set, phones = _align(sources, found, headers)
    utterances = tuple(
        Utterance(
            id=item.id,
            path=item.file.path,
            sample_rate_hz=header.sample_rate_hz,
            num_samples=header.num_samples,
            speaker=item.speaker,
            chapter=item.chapter,
            subset=item.subset,
            text=texts[item.file.path.parent].get(item.id, ""),
            phones=phones.get(item.id),
            content=_content(item.file, header),
        )
        for item, header in zip(found, headers, strict=True)
    )
    note = _note(root, utterances, sources) + (f"; {len(broken)} left out as broken" if broken else "")
    return Corpus(f"librispeech-{root.name}", root, utterances, phone_set, False, note, left_out=left_out)


def _content(file: AudioFile, header: Header) -> int:
    """FLAC that changes changes its size, by which LibriSpeech's caches and results have always been filed."""
    return file.size_bytes if file.path.suffix.lower() == ".flac" else header.content


def _find_root(root: Path) -> tuple[Path, list[str]]:
    """The folder that holds the subsets, and their names."""
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder: give --root a folder in LibriSpeech layout, {LAYOUT}")
    if subsets := _subsets(root):
        _tell_misplaced(root, subsets)
        return root, subsets
    if _has_audio(root):
        return root.parent, [root.name]
    inner = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _subsets(folder)]
    if len(inner) == 1:
        subsets = _subsets(inner[0])
        _tell_misplaced(inner[0], subsets)
        return inner[0], subsets
    if inner:
        raise ValueError(f"{root}: holds several corpora, {', '.join(path.name for path in inner)}: give one as --root")
    raise ValueError(f"{root}: no audio in LibriSpeech layout here, expected {LAYOUT}: correct --root")


def _subsets(root: Path) -> list[str]:
    return [folder.name for folder in _folders(root) if _has_audio(folder)]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _has_audio(folder: Path) -> bool:
    return any(_is_audio(path.name) for path in folder.glob("*/*/*"))


def _is_audio(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def _tell_misplaced(root: Path, subsets: list[str]) -> None:
    """Warn of folders beside the subsets with audio at another depth, as of an archive unpacked one level too deep."""
    for folder in _folders(root):
        if folder.name not in subsets and (path := _misplaced(folder)):
            logger.warning("%s is left out, audio must lie at %s: move or remove %s", path, LAYOUT, folder)


def _misplaced(folder: Path) -> Path | None:
    """Audio somewhere below; looks into ``LOOKED_INTO`` folders of each, since there may be millions of other files."""
    for inner, below, names in os.walk(folder, followlinks=True):
        deep = len(Path(inner).relative_to(folder).parts)
        below[:] = sorted(below)[:LOOKED_INTO] if deep < DEEPEST else []
        if audio := next(filter(_is_audio, names), None):
            return Path(inner) / audio
    return None


def _scan(root: Path, subsets: list[str]) -> Iterator[_Found]:
    """All audio of the subsets. Raises ``ValueError`` for audio at another depth, which would go unnoticed, and for a
    name that is no id."""
    for subset in subsets:
        for folder, below, names in os.walk(root / subset, followlinks=True):
            parts = Path(folder).relative_to(root / subset).parts
            if len(parts) > 3:
                below.clear()  # deep enough to see misplaced audio; a link may lead in a circle
            audio = list(filter(_is_audio, names))
            if audio and len(parts) != 2:
                raise ValueError(f"{Path(folder) / audio[0]}: audio must lie at {LAYOUT}: move or remove it")
            for name in audio:
                path = Path(folder) / name
                yield _Found(subset, parts[0], parts[1], check_id(str(path), path.stem), _listed(path))


def _listed(path: Path) -> AudioFile:
    """The file with its size and time of change; a link to nowhere has none, and whoever opens it tells of it."""
    try:
        stat = path.stat()
    except OSError:
        return AudioFile(path, 0, 0)
    return AudioFile(path, stat.st_size, stat.st_mtime_ns)


def _transcripts(chapter: Path) -> dict[str, str]:
    """Text by utterance id, from a chapter's ``*.trans.txt``; it may also name audio that is not there."""
    texts: dict[str, str] = {}
    for path in sorted(chapter.glob("*.trans.txt")):
        for number, line in label_lines(path):
            id, _, text = line.partition(" ")
            if not text.strip() or id in texts:
                rule = "a line is 'ID TEXT'" if not text.strip() else f"{id!r} has a text already"
                raise ValueError(f"{path}:{number}: {rule}, got {line[:60]!r}: correct or remove the line")
            texts[id] = text.strip()
    return texts


def _align(
    sources: list[LabelSource], found: list[_Found], headers: list[Header]
) -> tuple[tuple[str, ...], dict[str, PhoneAlignment]]:
    """The classes of all label files together, and each labelled utterance's alignment in them."""
    labels = [read_labels(source) for source in sources]
    phone_set = _common_phone_set(labels)
    phones: dict[str, PhoneAlignment] = {}
    for source, label in zip(sources, labels, strict=True):
        index = np.array([phone_set.index(name) for name in label.phone_set], dtype=np.int16)
        sil = label.phone_set.index(SIL) if SIL in label.phone_set else None
        where = source.files[0] if len(source.files) == 1 else source.files[0].parent
        num_before = len(phones)
        for item, header in zip(found, headers, strict=True):
            raw = label.rows.get(item.id) if source.subset in (None, item.subset) else None
            if raw is not None:
                seconds = header.num_samples / header.sample_rate_hz
                fitted = fit_to_audio(f"{where}: {item.id}", raw, seconds=seconds, dense=label.dense, sil=sil)
                phones[item.id] = PhoneAlignment(fitted.start_s, fitted.end_s, index[fitted.phone])
        if len(phones) == num_before:
            theirs = f"its ids look like {next(iter(label.rows))!r}" if label.rows else "it is empty"
            raise ValueError(
                f"{where}: labels no utterance of this corpus, {theirs}, those of the audio like {found[0].id!r}: give "
                f"the labels of this audio"
            )
    return phone_set, phones


def _common_phone_set(labels: list[Labels]) -> tuple[str, ...]:
    """The 40 classes where all files use them, else the names of all files in order. Numbers and names do not mix."""
    names = dict.fromkeys(name for label in labels for name in label.phone_set)
    numbered = [label.source for label in labels if label.phone_set and label.phone_set[0].isdecimal()]
    if numbered and len(numbered) != len(labels):
        raise ValueError(f"{numbered[0]}: its classes are numbers, other labels have names: put a phones.txt beside it")
    return PHONE_SET if names and set(names) <= set(PHONE_SET) else tuple(names)


def _note(root: Path, utterances: tuple[Utterance, ...], sources: list[LabelSource]) -> str:
    labelled = sum(utterance.phones is not None for utterance in utterances)
    speakers = len({utterance.speaker for utterance in utterances})
    named = ", ".join(
        source.files[0].name if len(source.files) == 1 else f"{len(source.files)} TextGrids" for source in sources
    )
    found = f"phone labels for {labelled}, from {named}" if sources else "no phone labels"
    counts = f"{len(utterances)} utterances, {speakers} speakers"
    return f"recorded speech in LibriSpeech layout ({root.name}): {counts}, {found}"
