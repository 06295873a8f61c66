"""Loads any collection of recordings that a CSV describes, a row for each utterance.

    path,speaker,chapter,split,text,language
    clips/a.wav,anna,monday,train,hello there,en
    clips/b.wav,anna,tuesday,dev,"well, yes",en

``path`` and ``speaker`` must be there; ``id``, ``chapter`` (or ``session``), ``subset``, ``split`` (train, dev, test),
``text``, ``start`` and ``end`` (seconds, a part of a longer file) and ``phones`` may be. Every other column is a label.
"""

import stat
from collections.abc import Sequence
from pathlib import Path

from .audio_headers import AudioFile, Header, headers_or_reasons, undecodable
from .corpus import Corpus, Utterance
from .manifest_phones import Span, read_phones
from .manifest_table import Problems, Row, read_table

NAMES = ("manifest.csv", "manifest.tsv")


def load_manifest(
    root: Path, *, label: str = "label", shared_speakers: bool = False, skip_broken: bool = False
) -> Corpus:
    """Load the recordings that a CSV (or, separated by tabs, a TSV) lists; paths are relative to its folder.

    Args:
        root: the file, or a folder that holds ``manifest.csv`` or ``manifest.tsv``.
        label: the column that tasks of kind ``label`` read; it is filed as ``labels["label"]``.
        shared_speakers: whether the splits may share speakers.
        skip_broken: leave out rows whose audio is missing or cannot be decoded to its end (``Corpus.left_out``).

    Raises:
        ValueError: naming columns and lines, as many as are wrong at once.
    """
    path = _find(Path(root).expanduser().resolve())
    problems = Problems(path)
    rows = read_table(path, label, problems)
    rows, left_out = _sound(path, rows) if skip_broken else (rows, [])
    spans = _spans(path.parent, rows, problems)
    problems.check()
    phone_set, phones = read_phones(path.parent, rows, spans, problems)
    problems.check()
    utterances = [
        Utterance(
            id=row.id,
            path=span.file.path,
            sample_rate_hz=span.sample_rate_hz,
            num_samples=span.num_samples,
            speaker=row.speaker,
            chapter=row.chapter,
            subset=row.subset,
            text=row.text,
            phones=alignment,
            content=span.content,
            start_sample=span.start_sample,
            split=row.split,
            labels=row.labels,
            phone_names=names,
            whole=row.start_s is None and row.end_s is None,
        )
        for row, span, (alignment, names) in zip(rows, spans, phones, strict=True)
    ]
    utterances.sort(key=lambda u: (u.subset, u.speaker, u.chapter, u.id))
    return Corpus(
        name=f"manifest-{path.parent.name if path.name in NAMES else path.stem}",
        root=path.parent,
        utterances=tuple(utterances),
        phone_set=phone_set,
        synthetic=False,
        note=_note(path, utterances, len(left_out)),
        assigned_by="the column split" if any(row.split for row in rows) else "",
        shared_speakers=shared_speakers,
        left_out=tuple(left_out),
    )


def _sound(path: Path, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows whose audio is whole, and for each of the others why it is not."""
    files = {row.path: _listed(path.parent / row.path) for row in rows}
    there = [file for file in files.values() if file is not None]
    broken = undecodable(path.parent, there)
    reasons = {name: broken.get(file.path, "") if file else f"{path.parent / name}: no such audio file"
               for name, file in files.items()}  # fmt: skip
    left = [f"{row.id}: line {row.line}: {reasons[row.path]}" for row in rows if reasons[row.path]]
    kept = [row for row in rows if not reasons[row.path]]
    if rows and not kept:
        raise ValueError(f"{path}: all {len(rows)} recordings are broken, the first: {left[0]}")
    return kept, left


def _find(root: Path) -> Path:
    """The file of a manifest."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise ValueError(f"{root}: no such file or folder: give --root a CSV, or a folder that holds manifest.csv")
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) != 1:
        there = "both manifest.csv and manifest.tsv" if found else "no manifest.csv"
        raise ValueError(f"{root}: holds {there}: give --root the file")
    return found[0]


def _spans(folder: Path, rows: Sequence[Row], problems: Problems) -> list[Span]:
    """Where in which file each row's audio lies; the header of a file is read once, however many rows it has."""
    files = {path: _listed(folder / path) for path in dict.fromkeys(row.path for row in rows)}
    there = {path: file for path, file in files.items() if file is not None}
    headers = dict(zip(there, headers_or_reasons(folder, list(there.values())), strict=True))
    spans = []
    for row in rows:
        header = headers.get(row.path)
        if header is None:
            cure = "correct the column path, which is relative to the manifest"
            problems.add("the audio file is missing", cure, row.line, repr(row.path))
        elif isinstance(header, str):
            cure = "replace the files, remove the rows, or leave them out with skip_broken (--skip-broken)"
            problems.add("the audio cannot be read", cure, row.line, header)
        else:
            span = _span(row, there[row.path], header)
            if span is None:
                detail = f"{row.start_s or 0:g} s to {'the end' if row.end_s is None else f'{row.end_s:g} s'} of "
                detail += f"{header.num_samples / header.sample_rate_hz:g} s"
                cure = "correct them, or leave end empty for the end of the file"
                problems.add("start and end do not lie in the recording", cure, row.line, detail)
            else:
                spans.append(span)
    return spans


def _span(row: Row, file: AudioFile, header: Header) -> Span | None:
    """The row's samples, or None when they do not lie in the file."""
    rate_hz, length, content = header
    start = round((row.start_s or 0.0) * rate_hz)
    stop = length if row.end_s is None else round(row.end_s * rate_hz)
    return Span(file, rate_hz, start, stop - start, length, content) if start < stop <= length else None


def _listed(path: Path) -> AudioFile | None:
    """The file with what the folder listing says about it, or None when it is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a path that no system can have
        return None
    return AudioFile(path, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _note(path: Path, utterances: Sequence[Utterance], num_left_out: int) -> str:
    num_files = len({utterance.path for utterance in utterances})
    parts = f" in {num_files} files" if num_files < len(utterances) else ""
    speakers = len({utterance.speaker for utterance in utterances})
    facts = [f"{len(utterances)} utterances{parts}, {speakers} speakers"]
    with_phones = sum(utterance.phones is not None for utterance in utterances)
    named = sum(bool(utterance.phone_names) for utterance in utterances)
    facts += [f"phone labels for {with_phones}"] if with_phones else []
    facts += [f"phones without times for {named}"] if named else []
    labelled = [utterance.labels["label"] for utterance in utterances if "label" in utterance.labels]
    facts += [f"{len(set(labelled))} classes of label for {len(labelled)}"] if labelled else []
    facts += [f"{num_left_out} left out as broken"] if num_left_out else []
    return f"recordings listed in {path.name}: {', '.join(facts)}"
