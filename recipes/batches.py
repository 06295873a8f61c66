"""From a corpus to batches of stacked log-Mel frames, each a pure function of (seed, step).

Legend: B batch, T 10 ms frames, n stacked frames, F Mel bands, C = stack * F.
"""

import hashlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..upstream.features import LogMel, pad_frames, stack_frames
from .config import PretrainConfig
from .corpora import Corpus, FrameStore, Utterance, cache_dir, ensure_folder, raise_for_all, read_utterance
from .objective import corrupt, mask_spans

logger = logging.getLogger(__name__)

FEATURE_VERSION = 1  # raise it when LogMel.raw changes, so that no stale features are read


def log_mel_store(corpus: Corpus, num_mels: int) -> FrameStore:
    """The log-Mel frames (T, F) float16 of a corpus, computed once and kept in the cache; meta has mean and std. Of
    several processes that ask at once, one computes them and the others wait."""
    key = hashlib.sha256(f"{FEATURE_VERSION} {num_mels} {corpus.speech_fingerprint}".encode()).hexdigest()[:16]
    folder = cache_dir() / "log-mel" / f"{corpus.name}-{key}"

    def make(staging: Path) -> None:
        logger.info("log-Mel features of %d utterances of %s -> %s", len(corpus.utterances), corpus.name, folder)
        moments = Moments(num_mels)
        computed = _computed(corpus.utterances, LogMel(num_mels=num_mels), moments)
        FrameStore.write(staging, folder, computed, "float16", moments.meta)

    return FrameStore.open(ensure_folder(folder, make))


class Moments:
    """Running mean and standard deviation of every Mel band; ``meta`` fills when ``close`` is called."""

    def __init__(self, num_mels: int) -> None:
        self.count = 0
        self.sum, self.square = np.zeros(num_mels), np.zeros(num_mels)
        self.meta: dict[str, list[float]] = {}

    def add(self, frames: np.ndarray) -> None:
        """Count frames (T, F)."""
        self.count += len(frames)
        self.sum += frames.sum(0, dtype=np.float64)
        self.square += np.square(frames, dtype=np.float64).sum(0)

    def close(self) -> None:
        """Write mean and std into ``meta``."""
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.square / self.count - mean**2, 0.0))
        self.meta.update(mean=mean.tolist(), std=std.tolist())


def _computed(utterances: Sequence[Utterance], log_mel: LogMel, moments: Moments) -> Iterator[tuple[str, np.ndarray]]:
    """(id, frames) of each utterance, a few at a time so that memory stays bounded."""

    @torch.inference_mode()
    def frames(utterance: Utterance) -> np.ndarray:
        wave = read_utterance(utterance)
        try:
            computed = log_mel.raw(wave).numpy()
        except ValueError as error:  # finite, but too loud to be squared
            raise ValueError(f"{utterance.path}: {error}") from error
        assert len(computed) == utterance.num_frames, utterance.id
        return computed

    waiting = iter(utterances)
    with ThreadPoolExecutor(2) as pool, tqdm(total=len(utterances), desc="log-Mel", disable=None) as bar:
        while chunk := list(islice(waiting, 64)):
            try:
                made = list(pool.map(frames, chunk))
            except ValueError as error:
                raise_for_all(utterances, error)
            for utterance, computed in zip(chunk, made, strict=True):
                moments.add(computed)
                yield utterance.id, computed
                bar.update()
    moments.close()


@dataclass(frozen=True)
class Batch:
    """What one step sees, or a part of it: ``corrupted`` and ``target`` (B, n, C) float32, ``chosen`` and ``keep``
    (B, n) bool; ``weight`` is its share of all frames that the step has to reconstruct."""

    corrupted: Tensor
    target: Tensor
    chosen: Tensor
    keep: Tensor
    weight: float = 1.0

    def to(self, device: torch.device) -> "Batch":
        """Move to a device."""
        return self.changed(lambda tensor: tensor.to(device))

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same with ``change`` applied to each tensor."""
        return Batch(
            change(self.corrupted), change(self.target), change(self.chosen), change(self.keep), weight=self.weight
        )


@dataclass(frozen=True)
class Speech:
    """The frames to train on, cut into crops of at most ``max_frames`` stacked frames.

    Args:
        store: raw log-Mel frames.
        ids: the utterances to draw from.
        log_mel: holds the corpus statistics.
        stack: frames joined to one.
        max_frames: longest crop, in stacked frames.
        config: batch size and masking.
        seed: of order, crops and masks.
        shares: which parts of every batch are made here, each a batch of its own.
        num_shares: into how many parts the utterances of a batch are dealt out.
    """

    store: FrameStore
    ids: Sequence[str]
    log_mel: LogMel
    stack: int
    max_frames: int
    config: PretrainConfig
    seed: int
    shares: Sequence[int] = (0,)
    num_shares: int = 1

    def plan(self) -> Iterator[list[str]]:
        """Batches of ids without end: utterances of like length together, each once an epoch, in random order."""
        lengths = {id: min(self.max_frames, -(-self.store.num_frames(id) // self.stack)) for id in self.ids}
        epoch = 0
        while True:
            order = np.random.default_rng([self.seed, epoch])
            shuffled = [self.ids[i] for i in order.permutation(len(self.ids))]
            batches: list[list[str]] = [[]]
            for id in sorted(shuffled, key=lambda id: -lengths[id]):  # stable: ties stay shuffled
                longest = lengths[batches[-1][0]] if batches[-1] else lengths[id]
                if batches[-1] and longest * (len(batches[-1]) + 1) > self.config.batch_frames:
                    batches.append([])
                batches[-1].append(id)
            yield from (batches[i] for i in order.permutation(len(batches)))
            epoch += 1

    def batch(self, ids: Sequence[str], seed: int, share: int = 0) -> Batch:
        """Crop, stack and mask utterances; the same for the same ids and seed, whatever the number of shares: all are
        drawn for, and those of other shares are not read.

        A share without an utterance takes the last one, with weight 0.
        """
        generator = torch.Generator().manual_seed(seed)
        mine = range(share, len(ids), self.num_shares) or range(len(ids) - 1, len(ids))
        target, corrupted, chosen, num_chosen = [], [], [], 0
        for place, id in enumerate(ids):
            start, end = self._crop(id, generator)
            frames = self._frames(id, start, end) if place in mine else torch.empty(-(-(end - start) // self.stack), 0)
            mask = mask_spans(len(frames), self.config.mask_share, self.config.span_frames, generator)
            hidden = corrupt(frames, mask, generator)
            num_chosen += int(mask.sum())
            if place in mine:
                target.append(frames)
                chosen.append(mask)
                corrupted.append(hidden)
        padded, keep = pad_frames(target)
        masks = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        weight = int(masks.sum()) / num_chosen if share < len(ids) else 0.0
        return Batch(pad_frames(corrupted)[0], padded, masks, keep, weight)

    def _crop(self, id: str, generator: torch.Generator) -> tuple[int, int]:
        """First and last 10 ms frame of the part of an utterance that a step sees."""
        num_frames, longest = self.store.num_frames(id), self.max_frames * self.stack
        start = int(torch.randint(max(0, num_frames - longest) + 1, (), generator=generator))
        return start, min(num_frames, start + longest)

    def _frames(self, id: str, start: int, end: int) -> Tensor:
        """Normalised and stacked, (n, C)."""
        frames = torch.from_numpy(np.array(self.store[id][start:end], dtype=np.float32))
        return stack_frames((frames - self.log_mel.mean) / self.log_mel.std, self.stack)

    def batches(self, first_step: int) -> Generator[tuple[list[Batch], float], None, None]:
        """(a batch for each of ``shares``, seconds waited for them) of step ``first_step``, the next, ..., made one
        ahead in a thread."""
        ready: Queue[list[Batch] | BaseException] = Queue(maxsize=2)
        stop = Event()

        def produce() -> None:
            try:
                for step, ids in enumerate(islice(self.plan(), first_step - 1, None), start=first_step):
                    seed = step_seed(self.seed, step)
                    ready.put([self.batch(ids, seed, share) for share in self.shares])
                    if stop.is_set():
                        return
            except BaseException as error:  # handed to the training loop, which raises it
                ready.put(error)

        thread = Thread(target=produce, daemon=True)
        thread.start()
        try:
            while True:
                started = perf_counter()
                made = ready.get()
                if isinstance(made, BaseException):
                    raise made
                yield made, perf_counter() - started
        finally:
            stop.set()
            while thread.is_alive():  # it must not be in the middle of a tensor when the process ends
                with suppress(Empty):
                    ready.get_nowait()
                thread.join(0.005)


def step_seed(seed: int, step: int, share: int = 0) -> int:
    """One seed for everything random in a step, or in a later share of it, so that a resumed run needs to remember
    none."""
    text = f"{seed} {step} {share}" if share else f"{seed} {step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def hold_out(ids: Sequence[str], share: float, most: int) -> tuple[list[str], list[str]]:
    """(train, valid) ids; which are held out depends on the ids alone, not on their order."""
    num_valid = min(most, max(1, round(share * len(ids))), len(ids) - 1)
    if num_valid < 1:
        raise ValueError(f"pre-training needs at least 2 utterances, got {len(ids)}: name more subsets or data")
    ranked = sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())
    valid = set(ranked[:num_valid])
    return [id for id in ids if id not in valid], sorted(valid)
