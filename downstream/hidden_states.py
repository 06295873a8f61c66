"""Hidden states of a frozen upstream, computed once and kept, for every head, epoch and seed to read.

Legend: B batch, T 10 ms frames, t distinct frames, S hidden states (layers + 1), D model dim, N frames or utterances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .alignment import TOLERATED_FRAMES
from .featurizer import normalize_states

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase

    from ..recipes.corpora import FrameStore, Utterance


MAX_BATCH_S = 120.0  # of audio, padding included
VERSION = 1  # raise it when other values or other frames are stored of the same upstream and audio


class Layout(NamedTuple):
    """Of an upstream's hidden states: samples at 16 kHz from one to the next, how often each is repeated, S, D."""

    rate: int
    repeat: int
    num_states: int
    dim: int

    def num_frames(self, utterance: Utterance) -> int:
        """Distinct frames t of an utterance."""
        from ..recipes.corpora.corpus import num_samples_at_16k

        num_samples = num_samples_at_16k(utterance.num_samples, utterance.sample_rate_hz)
        return math.ceil(math.ceil(num_samples / self.rate) / self.repeat)

    def num_bytes(self, utterances: Sequence[Utterance], dtype: str) -> int:
        """Of the stored states of utterances, all together."""
        each = self.num_states * self.dim * np.dtype(dtype).itemsize
        return each * sum(map(self.num_frames, utterances))


def extract(
    expert: UpstreamBase,
    utterances: Sequence[Utterance],
    folder: Path,
    dtype: str = "float16",
    max_batch_s: float = MAX_BATCH_S,
    device: str | torch.device = "cpu",
) -> FrameStore:
    """Run a frozen upstream over utterances and store its hidden states, an array (t, S, D) for each.

    An upstream that stacks frames repeats each of its own frames ``expert.frame_repeat`` times to reach 10 ms; only
    the distinct ones are kept. The store's ``meta`` holds ``frame_repeat``, ``num_layers`` (S - 1), ``dim`` (D),
    ``upstream_rate`` (samples at 16 kHz from one kept frame to the next) and ``extraction_s`` (what all this took).

    Args:
        expert: s3prl's contract: waveforms -> ``{"hidden_states": [(B, T, D), ...]}``; is moved to ``device``.
        utterances: what to encode, in batches of similar length.
        folder: of the store; appears when it is complete.
        dtype: of the stored values.
        max_batch_s: seconds of audio in a batch, padding included; a longer utterance is a batch of its own.
        device: where to compute.

    Raises:
        ValueError: naming the utterance, for audio that cannot be read, for hidden states that are not finite (in
            ``dtype``), and for an upstream whose number of frames does not fit its downsample rate.
    """
    from ..recipes.corpora import FrameStore

    if not utterances:
        raise ValueError("there is no utterance to extract hidden states from: choose a corpus or subset that has some")
    started_s = perf_counter()

    def everything() -> Iterator[tuple[str, np.ndarray]]:
        yield name, first
        yield from items
        meta["extraction_s"] = perf_counter() - started_s

    with _frozen(expert, device):
        batches = length_batches(utterances, max_batch_s)
        items = _encode(expert, batches, dtype, torch.device(device), len(utterances))
        name, first = next(items)  # the first batch tells the shape, which the store's meta repeats
        repeat = _frame_repeat(expert)
        meta = {
            "frame_repeat": repeat,
            "num_layers": first.shape[1] - 1,
            "dim": first.shape[2],
            "upstream_rate": expert.get_downsample_rates("hidden_states") * repeat,
        }
        return FrameStore.create(folder, everything(), dtype, meta)


def layout(expert: UpstreamBase, utterance: Utterance, device: str | torch.device = "cpu") -> Layout:
    """How an upstream's hidden states will be stored, seen from one utterance: a short one is quick."""
    with _frozen(expert, device), torch.inference_mode():
        states = expert([wave_of(utterance).to(device)])["hidden_states"]
    return Layout(expert.get_downsample_rates("hidden_states"), _frame_repeat(expert), len(states), states[0].shape[-1])


def wave_of(utterance: Utterance) -> Tensor:
    """The audio of an utterance: (samples,) float32 at 16 kHz."""
    from ..recipes.corpora import read_utterance

    return read_utterance(utterance)


def means(store: FrameStore, ids: Sequence[str], normalize: bool = False) -> np.ndarray:
    """The mean over time of each hidden state: float32 (N, S, D), in the order of ``ids``.

    A weighted sum of states commutes with the mean over time, so a head that reads the mean needs nothing else.
    ``normalize`` layer-norms each state before, which a weighted sum of normalised states commutes with as well.
    """
    rows = np.empty((len(ids), *store.frame_shape), dtype=np.float32)
    for row, id in enumerate(tqdm(ids, desc="means", disable=None, leave=False)):
        if normalize:
            frames = torch.from_numpy(store[id].astype(np.float32))
            rows[row] = normalize_states(frames).mean(dim=0).numpy()
        else:
            rows[row] = store[id].mean(axis=0, dtype=np.float32)
    return rows


def length_batches(utterances: Sequence[Utterance], max_batch_s: float) -> list[list[Utterance]]:
    """Utterances in batches of similar length, the longest first, each of ``max_batch_s`` seconds with padding."""
    batches: list[list[Utterance]] = []
    for utterance in sorted(utterances, key=lambda u: (-u.seconds, u.id)):
        if batches and batches[-1][0].seconds * (len(batches[-1]) + 1) <= max_batch_s:
            batches[-1].append(utterance)
        else:
            batches.append([utterance])
    return batches


def _encode(
    expert: UpstreamBase, batches: list[list[Utterance]], dtype: str, device: torch.device, num_utterances: int
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, (t, S, D)) of each utterance."""
    from ..recipes.corpora import raise_for_all

    rate, repeat = expert.get_downsample_rates("hidden_states"), _frame_repeat(expert)
    with tqdm(total=num_utterances, desc="hidden states", unit="utt", disable=None, leave=False) as bar:
        for batch in batches:
            try:
                waves = [wave_of(utterance).to(device) for utterance in batch]
            except ValueError as error:
                raise_for_all([utterance for each in batches for utterance in each], error)
            lengths = [math.ceil(len(wave) / rate) for wave in waves]
            with torch.inference_mode():
                states = expert(waves)["hidden_states"]
                _check_length(batch, lengths, states, rate)
                states = torch.stack([state[:, ::repeat] for state in states], dim=2)  # (B, t_max, S, D)
            for utterance, length, frames in zip(batch, lengths, states, strict=True):
                yield utterance.id, _stored(utterance, frames[: math.ceil(length / repeat)], dtype)
            bar.update(len(batch))


def _stored(utterance: Utterance, frames: Tensor, dtype: str) -> np.ndarray:
    if not torch.isfinite(frames).all():
        raise ValueError(
            f"utterance {utterance.id!r}: the upstream's hidden states hold NaN or infinity: check its checkpoint and "
            f"the audio {utterance.path}"
        )
    stored = frames.to(getattr(torch, dtype))
    if not torch.isfinite(stored).all():
        raise ValueError(
            f"utterance {utterance.id!r}: hidden states up to {float(frames.abs().max()):.3g} do not fit {dtype}: "
            f"store them as float32"
        )
    return stored.cpu().numpy()


def _check_length(batch: list[Utterance], lengths: list[int], states: Sequence[Tensor], rate: int) -> None:
    for layer, state in enumerate(states):
        if abs(state.shape[1] - max(lengths)) > TOLERATED_FRAMES:
            raise ValueError(
                f"utterance {batch[0].id!r}: hidden state {layer} has {state.shape[1]} frames where {rate} samples a "
                f"frame make {max(lengths)}: correct the upstream's get_downsample_rates"
            )


@contextmanager
def _frozen(expert: UpstreamBase, device: str | torch.device) -> Iterator[None]:
    """In evaluation mode on ``device``; afterwards in the mode it was in."""
    training = expert.training
    expert.eval().to(device)
    try:
        yield
    finally:
        expert.train(training)


def _frame_repeat(expert: UpstreamBase) -> int:
    """How often the upstream repeats each frame; s3prl's own upstreams do not."""
    return int(getattr(expert, "frame_repeat", 1))
