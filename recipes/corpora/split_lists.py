"""Lists of utterance ids that say which are for training and which for testing, as those of CPC for LibriSpeech."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .alignments import check_id, label_lines
from .corpus import SPLITS, TOLD, Corpus
from .speakers_table import NAME, Speaker, read_speakers

logger = logging.getLogger(__name__)

FILES = {split: f"{split}_split.txt" for split in SPLITS}


def assign_splits(corpus: Corpus, where: str) -> Corpus:
    """The corpus with ``split`` of every utterance that the lists name; speakers may be in several of them.

    Args:
        corpus: in LibriSpeech layout.
        where: a folder with ``train_split.txt``, ``test_split.txt`` and perhaps ``dev_split.txt``, or such files
            separated by commas; an id a line.

    Raises:
        ValueError: for missing or malformed lists, and for ids that the corpus lacks although it has their subset.
    """
    splits = _read(find_lists(where))
    known = {utterance.id for utterance in corpus.utterances} | {text.partition(": ")[0] for text in corpus.left_out}
    if not any(id in known for id in splits):
        raise ValueError(
            f"{where}: the split lists name no utterance of this corpus, their ids look like {next(iter(splits))!r}, "
            f"those of the audio like {corpus.utterances[0].id!r}: give the lists of these subsets"
        )
    elsewhere = _elsewhere(corpus, [id for id in splits if id not in known], where)
    note = corpus.note
    if elsewhere:
        note += f"; {elsewhere} utterances of the split lists belong to subsets that are not here"
        logger.warning("%s: %d ids belong to subsets that are not at %s", where, elsewhere, corpus.root)
    assigned = tuple(replace(utterance, split=splits.get(utterance.id, "")) for utterance in corpus.utterances)
    return replace(corpus, utterances=assigned, note=note, assigned_by="the split lists", shared_speakers=True)


def find_lists(where: str) -> dict[str, Path]:
    """The list of each split, as ``assign_splits`` takes them; ``ValueError`` when train or test has none."""
    folder = Path(where).expanduser()
    if folder.is_dir():
        found = {split: folder / name for split, name in FILES.items() if (folder / name).is_file()}
    else:
        paths = [folder] if folder.is_file() else [Path(part.strip()).expanduser() for part in where.split(",")]
        found = {}
        for path in paths:
            split = next((split for split in SPLITS if path.name.startswith(split)), None)
            if not path.is_file() or split is None or split in found:
                why = (
                    "no such file or folder" if not path.is_file() else "its name begins with none of train, dev, test"
                )
                why = f"a second list of {split}" if split in found else why
                raise ValueError(f"{path}: {why}: give data.split_lists=FOLDER or TRAIN_FILE,TEST_FILE")
            found[split] = path
    missing = [FILES[split] for split in ("train", "test") if split not in found]
    if missing:
        raise ValueError(f"{where}: there is no {' and no '.join(missing)}: give data.split_lists both")
    return found


def _read(files: Mapping[str, Path]) -> dict[str, str]:
    """The split of each id."""
    splits: dict[str, str] = {}
    for split, path in files.items():
        for number, line in label_lines(path):
            if len(line.split()) != 1:
                raise ValueError(f"{path}:{number}: a line is one utterance id, got {line[:60]!r}: correct the line")
            if check_id(f"{path}:{number}", line) in splits:
                raise ValueError(f"{path}:{number}: utterance {line!r} is in {splits[line]} already: remove one")
            splits[line] = split
        if split not in splits.values():
            raise ValueError(f"{path}: is empty: write one utterance id a line")
    return splits


def _elsewhere(corpus: Corpus, missing: Sequence[str], where: str) -> int:
    """How many of the missing ids belong to subsets that are not here; ``ValueError`` when others are missing too.

    ``SPEAKERS.TXT`` tells the subset of a speaker; without it, a speaker of whom nothing is here counts as one of
    another subset.
    """
    table: Mapping[str, Speaker] = read_speakers(corpus.root)
    here, subsets = {utterance.speaker for utterance in corpus.utterances}, set(corpus.subsets())
    lacking = []
    for id in missing:
        speaker = id.split("-")[0]
        is_here = speaker in here or (speaker in table and table[speaker].subset in subsets)
        lacking += [id] if is_here else []
    if lacking:
        more = f" and {len(lacking) - TOLD} more" if len(lacking) > TOLD else ""
        raise ValueError(
            f"{where}: the corpus lacks {len(lacking)} utterances of the split lists, although it has their speakers "
            f"or subsets ({NAME}): {', '.join(lacking[:TOLD])}{more}: fetch them, or remove them from the lists"
        )
    return len(missing)
