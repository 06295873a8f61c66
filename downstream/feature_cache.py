"""Hidden states of frozen upstreams, kept by what made them, so that no utterance is encoded or stored twice.

    <cache>/hidden-states/<upstream>--<corpus>--<digits>/
        key.json           what decides the values
        part-0000, ...     frame stores with different utterances
        used               when it was last used, and by whom it is (``recipes/corpora/cache_room.py``)

An entry holds the utterances that were asked for until now and grows by the missing ones when more are: a task that
reads a part of a corpus costs a part. Long extractions are cut into parts of about a gigabyte, so that a killed one
goes on after its last whole part.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import shutil
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .hidden_states import MAX_BATCH_S, VERSION, Layout, extract, layout, length_batches

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase

    from ..recipes.corpora import FrameStore, Utterance

logger = logging.getLogger(__name__)

DTYPES = ("float16", "float32")
PART_BYTES = 1 << 30
KEY, PART = "key.json", "part-"


@dataclass(frozen=True)
class Key:
    """What decides the hidden states of an entry, as plain values.

    Args:
        upstream: its name.
        weights: ``weights_digest`` of it.
        options: its configuration.
        source: a digest of its code.
        long_input: how it treats long utterances, where it has a choice.
        dtype: of the stored values, one of ``DTYPES``.
        corpus: its name, for people.
        data: ``Corpus.speech_fingerprint``.
        version: of the extraction.
    """

    upstream: str
    weights: str
    options: dict[str, Any]
    source: str
    long_input: str
    dtype: str
    corpus: str
    data: str
    version: int = VERSION

    def __post_init__(self) -> None:
        """Refuse a dtype that is not kept."""
        if self.dtype not in DTYPES:
            raise ValueError(f"hidden states cannot be stored as {self.dtype!r}: choose {' or '.join(DTYPES)}")

    @property
    def text(self) -> str:
        """As JSON; equal keys have equal text."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @property
    def name(self) -> str:
        """Of the entry's folder."""
        digits = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return re.sub(r"[^\w+=@,.-]|^\.", "_", f"{self.upstream}--{self.corpus}--{digits}")


@dataclass(frozen=True)
class Cached:
    """Stored hidden states, which stay in the cache as long as ``store`` is referred to.

    ``extraction_s`` is what encoding the utterances asked for took, whenever that was; ``num_extracted`` of them were
    encoded now.
    """

    store: FrameStore
    extraction_s: float
    num_extracted: int


def states_folder() -> Path:
    """Where entries are."""
    from ..recipes.corpora import cache_dir

    return cache_dir() / "hidden-states"


def weights_digest(module: nn.Module) -> str:
    """64 hexadecimal digits of all parameters and saved buffers, by name: the content of a checkpoint wherever it lies,
    without what only pre-training used; for ``mel`` that of the fitted statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def cached_states(
    expert: UpstreamBase,
    utterances: Sequence[Utterance],
    key: Key,
    device: str | torch.device = "cpu",
    root: Path | None = None,
    part_bytes: int = PART_BYTES,
    max_batch_s: float = MAX_BATCH_S,
) -> Cached:
    """The hidden states of utterances: from the cache, after those that it lacks were extracted into it.

    When several processes ask for the same entry at once, one extracts and the others wait for it. A part whose index
    or size is not as it was written is named in the log and removed, and what is asked for of it is made again. Its
    bytes are checked when an utterance is read: a damaged one is an error that names the folder.

    Args:
        expert: the frozen upstream that ``key`` describes.
        utterances: of the corpus that ``key`` describes.
        key: what decides the states.
        device: where to compute.
        root: another folder than ``states_folder()``.
        part_bytes: of a part, about.
        max_batch_s: seconds of audio in a batch, padding included.

    Raises:
        ValueError: before a part is written, when limit or disk leave no room for it and all that are to follow; and
            what ``extract`` raises.
    """
    from ..recipes.corpora import FrameStore
    from ..recipes.corpora.cache import folder_lock
    from ..recipes.corpora.cache_room import claim

    entry = (root or states_folder()) / key.name
    release, num_extracted = claim(entry), 0
    try:
        parts = _parts(entry)
        if len(parts) < len(part_folders(entry)) or _missing(utterances, parts):
            with folder_lock(entry / "parts"):
                num_extracted = _extend(expert, utterances, key, device, entry, part_bytes, max_batch_s)
            parts = _parts(entry)
        store = FrameStore.open(*(folder for part in parts for folder in part.folders))
    except BaseException:
        release()
        raise
    weakref.finalize(store, release)
    ids = {utterance.id for utterance in utterances}
    return Cached(store, sum(_share(part, ids) for part in parts), num_extracted)


def read_key(entry: Path) -> dict[str, Any] | None:
    """The key of an entry as plain values; None for one that has none (an older version made it), or a damaged one."""
    try:
        key = json.loads((entry / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return key if isinstance(key, dict) else None


def part_folders(entry: Path) -> list[Path]:
    """The parts of an entry, in the order in which they were made."""
    return sorted(entry.glob(f"{PART}*"), key=_number)


def _number(part: Path) -> int:
    return int(part.name.removeprefix(PART))


def _parts(entry: Path, repair: bool = False) -> list[FrameStore]:
    """The parts that can be read; ``repair`` removes the others."""
    from ..recipes.corpora import FrameStore

    found = []
    for folder in part_folders(entry):
        try:
            found.append(FrameStore.open(folder))
        except ValueError as error:
            if repair:
                logger.warning("%s (done now)", error)
                shutil.rmtree(folder)
    return found


def _missing(utterances: Sequence[Utterance], parts: Sequence[FrameStore]) -> list[Utterance]:
    return [u for u in utterances if not any(u.id in part for part in parts)]


def _extend(
    expert: UpstreamBase,
    utterances: Sequence[Utterance],
    key: Key,
    device: str | torch.device,
    entry: Path,
    part_bytes: int,
    max_batch_s: float,
) -> int:
    """Extract what an entry lacks; how many utterances that were. The caller holds the lock of the entry's parts."""
    from ..recipes.corpora.cache import replace_file
    from ..recipes.corpora.cache_room import make_room, told

    for half_written in entry.glob(".*.tmp"):  # by a process that was killed
        shutil.rmtree(half_written, ignore_errors=True)
    missing = _missing(utterances, _parts(entry, repair=True))
    if not missing:  # another process made them while this one waited
        return 0
    kept = layout(expert, min(missing, key=lambda u: (u.seconds, u.id)), device)
    what = f"hidden states of {len(missing)} utterances from {key.upstream} in {key.dtype}"
    what += " (probe.states_dtype=float16 halves them)" if key.dtype == "float32" else ""
    portions = list(_portions(missing, kept, key.dtype, part_bytes, max_batch_s))
    sizes_bytes = [kept.num_bytes(portion, key.dtype) for portion in portions]
    logger.info("%s: %s", what, told(sum(sizes_bytes)))
    try:
        with replace_file(entry / KEY) as file:
            file.write_text(key.text, encoding="utf-8")
        for done, portion in enumerate(portions):
            make_room(entry, sum(sizes_bytes[done:]), what)  # again for each: others write meanwhile
            number = max(map(_number, part_folders(entry)), default=-1) + 1
            extract(expert, portion, entry / f"{PART}{number:04d}", key.dtype, max_batch_s, device)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"{what}: the disk of {entry.parent} is full, which it was not before: free some and run again"
        ) from error
    return len(missing)


def _portions(
    utterances: Sequence[Utterance], kept: Layout, dtype: str, part_bytes: int, max_batch_s: float
) -> Iterator[list[Utterance]]:
    """Utterances in portions of whole batches, each of up to ``part_bytes`` or one batch."""
    portion: list[Utterance] = []
    filled_bytes = 0
    for batch in length_batches(utterances, max_batch_s):
        batch_bytes = kept.num_bytes(batch, dtype)
        if portion and filled_bytes + batch_bytes > part_bytes:
            yield portion
            portion, filled_bytes = [], 0
        portion.extend(batch)
        filled_bytes += batch_bytes
    yield portion


def _share(part: FrameStore, ids: set[str]) -> float:
    """Seconds of a part's extraction that its utterances among ``ids`` took, by their frames."""
    wanted = sum(part.num_frames(id) for id in part.ids if id in ids)
    return part.meta["extraction_s"] * wanted / sum(map(part.num_frames, part.ids))
