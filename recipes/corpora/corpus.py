"""The types that everything downstream uses: corpus, utterance, phone alignment."""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160  # 10 ms at 16 kHz
SIL = "SIL"
ARPABET = (
    *(
        "AA",
        "AE",
        "AH",
        "AO",
        "AW",
        "AY",
        "B",
        "CH",
        "D",
        "DH",
        "EH",
        "ER",
        "EY",
        "F",
        "G",
        "HH",
        "IH",
        "IY",
        "JH",
        "K",
    ),
    *("L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
PHONE_SET = (SIL, *ARPABET)  # the 40 classes, in the order of their ids
SPLITS = ("train", "dev", "test")
TOLD = 3  # names, or mistakes of one kind, in a message; all are counted


def near_names(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? known: x, y``: the second half of a message about an unknown name."""
    names = [name if name.isprintable() else ascii(name) for name in known]
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"


def num_samples_at_16k(num_samples: int, sample_rate_hz: int) -> int:
    """How many samples a recording has after ``read_audio`` has resampled it."""
    return -(-num_samples * SAMPLE_RATE_HZ // sample_rate_hz)


@dataclass(frozen=True)
class PhoneSegment:
    """One phone from ``start_s`` up to ``end_s``."""

    start_s: float
    end_s: float
    phone: str


@dataclass(frozen=True, eq=False)
class PhoneAlignment:
    """The phones of an utterance, back to back from 0 s to its end.

    Three arrays of one length: ``start_s`` and ``end_s`` float64, ``phone`` int16, an index into ``Corpus.phone_set``.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    phone: np.ndarray

    def __post_init__(self) -> None:
        assert len(self.start_s) == len(self.end_s) == len(self.phone) > 0, "an alignment has at least one segment"

    def frame_labels(self, num_frames: int, hop_s: float = 0.01) -> np.ndarray:
        """Class of the segment at each frame's centre, ``(i + 0.5) * hop_s``: int64 (num_frames,).

        The last frame may be partial: when its centre lies past the end, the last segment counts.

        Raises:
            ValueError: when ``num_frames`` reaches past the alignment by more than that.
        """
        centres_s = (np.arange(num_frames) + 0.5) * hop_s
        end_s = float(self.end_s[-1])
        if num_frames > 0 and centres_s[-1] >= end_s + hop_s:
            raise ValueError(
                f"{num_frames} frames of {hop_s:g} s were asked of an alignment that ends at {end_s:.3f} s: "
                f"ask for at most {int(np.ceil(end_s / hop_s))}"
            )
        segment = np.searchsorted(self.end_s, centres_s, side="right")
        return self.phone[np.minimum(segment, len(self.phone) - 1)].astype(np.int64)


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one: ``num_samples`` of one channel from ``start_sample`` on, at ``sample_rate_hz``.

    ``content`` changes when the audio does (a checksum, or of FLAC in LibriSpeech layout the size in bytes); 0 if
    unknown.
    ``split`` is ``train``, ``dev`` or ``test`` where the corpus assigns utterances itself, else empty. ``labels`` are
    further facts by name, for example ``language``; the one called ``label`` is what tasks of that kind ask for.
    ``phone_names`` are phones without times, for recognition only; empty when there are none or ``phones`` has them.
    ``whole`` says that the recording is all of its file, which is then checked when it is read.
    """

    id: str
    path: Path
    sample_rate_hz: int
    num_samples: int
    speaker: str
    chapter: str
    subset: str
    text: str
    phones: PhoneAlignment | None
    content: int = 0
    start_sample: int = 0
    split: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    phone_names: tuple[str, ...] = ()
    whole: bool = True

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sample_rate_hz

    @property
    def num_frames(self) -> int:
        """10 ms frames of the 16 kHz signal; the last one may be partial."""
        return -(-num_samples_at_16k(self.num_samples, self.sample_rate_hz) // HOP_SAMPLES)

    def segments(self, phone_set: tuple[str, ...]) -> list[PhoneSegment]:
        """The phones by name, in order; an empty list when the utterance has no alignment."""
        if self.phones is None:
            return []
        rows = zip(self.phones.start_s.tolist(), self.phones.end_s.tolist(), self.phones.phone.tolist(), strict=True)
        return [PhoneSegment(start_s, end_s, phone_set[phone]) for start_s, end_s, phone in rows]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances, sorted by subset, speaker, chapter and id.

    ``phone_set`` names the classes of the alignments (empty when there are none); ``note`` says in one line what the
    data is and where its labels come from. ``assigned_by`` names what assigns the utterances to train, dev and test,
    for example ``the split lists`` (empty: nothing does). ``shared_speakers`` allows those sets to share speakers.
    ``implied_labels`` are labels that follow from the speakers; the fingerprint leaves them out. ``left_out`` has
    ``ID: reason`` for each recording that is broken and was asked to be left out.
    """

    name: str
    root: Path
    utterances: tuple[Utterance, ...]
    phone_set: tuple[str, ...]
    synthetic: bool
    note: str
    assigned_by: str = ""
    shared_speakers: bool = False
    implied_labels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def subsets(self) -> list[str]:
        """Names of the subsets, sorted."""
        return sorted({utterance.subset for utterance in self.utterances})

    def select(self, *subsets: str) -> "Corpus":
        """The corpus of these subsets only. Raises ``ValueError`` with near names for one that is not there."""
        known = self.subsets()
        for subset in subsets:
            if subset not in known:
                raise ValueError(f"corpus {self.name!r} has no subset {subset!r}: {near_names(subset, known)}")
        if not subsets:
            raise ValueError(f"select needs at least one subset of {self.name!r}: {', '.join(known)}")
        return dataclasses.replace(self, utterances=tuple(u for u in self.utterances if u.subset in subsets))

    @property
    def seconds(self) -> float:
        """Total duration."""
        return sum(utterance.seconds for utterance in self.utterances)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with audio, speakers, chapters, subsets, splits or labels of any kind, not
        with the folder."""
        return self._fingerprint(with_labels=True)

    @cached_property
    def speech_fingerprint(self) -> str:
        """Like ``fingerprint``, but the same whatever ``split``, ``labels`` and ``phone_names`` are: features and
        pre-training, which read none of these, are filed under it.

        ``subset`` enters, and a manifest without such a column takes it from the split. Of an assigned corpus,
        pre-training takes a part, of which the split decides what is in it. Alignments with times enter too, though
        neither reads them: when some come later, into ``ROOT/alignments`` for example, both are made anew.
        """
        return self._fingerprint(with_labels=False)

    def _fingerprint(self, *, with_labels: bool) -> str:
        # the classes of names without times are for recognition only, like the names
        named = self.phone_set if with_labels or any(u.phones is not None for u in self.utterances) else ()
        digest = hashlib.sha256(repr(named).encode())
        for u in self.utterances:
            row = (u.id, u.num_samples, u.sample_rate_hz, u.content, u.speaker, u.chapter, u.subset, u.phones is None)
            digest.update(repr(row).encode())
            if u.phones is not None:
                for times_s in (u.phones.start_s, u.phones.end_s):
                    digest.update(np.rint(times_s * 1e6).astype("<i8").tobytes())
                digest.update(u.phones.phone.astype("<i2").tobytes())
            if u.start_sample:  # like the labels: a corpus without them has the digits it had before there were any
                digest.update(f"start {u.start_sample}".encode())
            labels = sorted((name, value) for name, value in u.labels.items() if name not in self.implied_labels)
            if with_labels and (u.split or labels or u.phone_names):
                digest.update(repr((u.split, labels, u.phone_names)).encode())
        return digest.hexdigest()[:16]
