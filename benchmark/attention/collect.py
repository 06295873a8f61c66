"""Runs crops of one length through a trained upstream and keeps means of its attention maps, never all maps.

Legend: B crops, T stacked frames of a crop, C input dim, P places (layers where a map is looked at), H heads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...recipes.batches import log_mel_store
from ...recipes.corpora import Corpus, Utterance
from ...upstream.expert import UpstreamExpert
from ...upstream.features import stack_frames
from ..scattered import scattered
from .mean_maps import check_has_maps, cpu_log_mel
from .metrics import by_offset, distance, globalness, mass, spread, verticality

BATCH = 8
FEWEST = 8  # crops: of fewer, a mean map says little, and how much maps vary even less
PHONE, SEGMENT, TURN = "phone", "segment", "turn"


@dataclass(frozen=True)
class Crop:
    """``frames`` (T, C) as the encoder takes them; ``marks`` by name int64 (T,): frames with the same number belong
    together."""

    id: str
    frames: Tensor
    marks: Mapping[str, Tensor]


@dataclass(frozen=True)
class Collected:
    """What is kept of the maps of N crops; places that always have the same maps count once.

    Args:
        mean: the mean maps (P, H, T, T) float64.
        spread: mean squared distance of a crop's map to an even one, summed over its T x T places: (P, H).
        globalness, verticality, distance: means of the measures of single maps, (P, H).
        within: by mark, the share of attention that stays within it, (P, H).
        chance: by mark, what an even map has of it.
        samples: maps of the first crops (S, P, H, T, T) float16.
        ids: of the N crops.
        layers: for each place, the number of its layer from 1.
    """

    mean: Tensor
    spread: Tensor
    globalness: Tensor
    verticality: Tensor
    distance: Tensor
    within: dict[str, Tensor]
    chance: dict[str, float]
    samples: Tensor
    ids: list[str]
    layers: list[int]

    @property
    def explained(self) -> Tensor:
        """Share of what sets maps apart from an even one that is the same in every crop, (P, H): 1 for maps that do not
        depend on the input, 0 where only the even map is common to them; NaN where every map is even.

        The mean of N maps holds 1/N of what is not common, which is taken off.
        """
        return self._share(self.mean, noise=1.0)

    @property
    def explained_by_offset(self) -> Tensor:
        """The part of ``explained`` that hangs on key - query alone, (P, H)."""
        num_frames = self.mean.shape[-1]
        return self._share(spread(by_offset(self.mean)), noise=(2 * num_frames - 1) / num_frames**2)

    def _share(self, common: Tensor, noise: float) -> Tensor:
        """What common maps (P, H, T, T) explain; ``noise``: of a map's places, the share that they are free to fit."""
        count = len(self.ids)
        whole, fitted = (_size(maps) for maps in (self.mean, common))
        own = (self.spread - whole).clamp_min(0) * count / (count - 1)
        total = whole - own / count + own
        return torch.where(self.spread > 1e-9, ((fitted - noise * own / count) / total).clamp(0, 1), torch.nan)


def collect(expert: UpstreamExpert, crops: Iterable[Crop], samples: int = 0) -> Collected:
    """Means over the maps of crops of one length, at every layer.

    Raises:
        ValueError: for an upstream without maps, or fewer than 8 crops.
    """
    check_has_maps(expert)
    layers = places(expert)
    sums = _Sums(samples)
    for batch in _batches(crops):
        sums.add(batch, maps_of(expert, torch.stack([crop.frames for crop in batch]), layers))
    return sums.result(layers)


def _size(maps: Tensor) -> Tensor:
    """Squared distance of maps (..., T, T) to even ones."""
    return (maps - 1 / maps.shape[-1]).square().sum((-2, -1))


def places(expert: UpstreamExpert) -> list[int]:
    """The layers (from 1) whose maps can differ: one where layers share maps that do not depend on the input."""
    options = expert.options
    one = options.shared_layers and not expert.entry.info.input_dependent
    return [1] if one else list(range(1, options.num_layers + 1))


@torch.inference_mode()
def maps_of(expert: UpstreamExpert, frames: Tensor, layers: Sequence[int]) -> Tensor:
    """The maps (B, P, H, T, T) of crops (B, T, C) at some layers.

    Raises:
        ValueError: when what the attention calls its maps are none.
    """
    encoder = expert.encoder.eval()
    states = encoder(frames.to(encoder.input.weight.device), None)
    found = []
    for layer in layers:
        attention: Any = encoder.layers[(layer - 1) % len(encoder.layers)].get_submodule("attention")
        maps = attention.weights(states[layer - 1], None)
        if not torch.allclose(maps.sum(-1), torch.ones((), device=maps.device), atol=1e-3):
            raise ValueError(f"{expert.name} has rows of attention that do not sum to 1: it has no maps to analyse")
        found.append(maps)
    return torch.stack(found, dim=1)


class _Sums:
    """Running sums over crops; ``add`` takes maps (B, P, H, T, T)."""

    def __init__(self, samples: int) -> None:
        self.most = samples
        self.ids: list[str] = []
        self.kept: list[Tensor] = []
        self.totals: dict[str, Tensor] = {}
        self.marks: tuple[str, ...] = ()
        self.chance: dict[str, float] = {}

    def add(self, crops: Sequence[Crop], maps: Tensor) -> None:
        """Count these crops."""
        self.kept += [each.half().cpu() for each in maps[: max(0, self.most - len(self.ids))]]
        self.ids += [crop.id for crop in crops]
        self._sum("mean", maps)
        self._sum("spread", _size(maps))
        for name, measure in (("globalness", globalness), ("verticality", verticality), ("distance", distance)):
            self._sum(name, measure(maps))
        self.marks = tuple(crops[0].marks)
        for mark in self.marks:
            labels = torch.stack([crop.marks[mark] for crop in crops]).to(maps.device)
            same = labels[:, :, None] == labels[:, None, :]
            self._sum(f"within {mark}", mass(maps, same[:, None, None]))
            self.chance[mark] = self.chance.get(mark, 0.0) + float(same.double().mean((-2, -1)).sum())

    def _sum(self, name: str, values: Tensor) -> None:
        total = values.sum(0, dtype=torch.float64).cpu()
        self.totals[name] = self.totals[name] + total if name in self.totals else total

    def result(self, layers: list[int]) -> Collected:
        """Means of what was counted."""
        count = len(self.ids)
        if count < FEWEST:
            raise ValueError(
                f"attention maps need at least {FEWEST} crops, got {count}: see --frames, or give more data"
            )
        means = {name: total / count for name, total in self.totals.items()}
        return Collected(
            mean=means["mean"],
            spread=means["spread"],
            globalness=means["globalness"],
            verticality=means["verticality"],
            distance=means["distance"],
            within={mark: means[f"within {mark}"] for mark in self.marks},
            chance={mark: total / count for mark, total in self.chance.items()},
            samples=torch.stack(self.kept) if self.kept else torch.empty(0),
            ids=self.ids,
            layers=layers,
        )


def _batches(crops: Iterable[Crop]) -> Iterator[list[Crop]]:
    waiting = iter(crops)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def utterances_for(corpus: Corpus, num_frames: int, stack: int, most: int) -> list[Utterance]:
    """At most ``most`` utterances of ``num_frames`` stacked frames or more, always the same, in a scattered order.

    Raises:
        ValueError: when there are fewer than 8 of them.
    """
    long = [u for u in corpus.utterances if u.num_frames >= num_frames * stack]
    if len(long) < FEWEST:
        raise ValueError(
            f"{corpus.name} has {len(long)} utterances of {num_frames} stacked frames ({num_frames * stack / 100:g} s) "
            f"or more, and maps need {FEWEST}: choose shorter crops with --frames"
        )
    return scattered(long)[:most]


def crops(
    expert: UpstreamExpert, corpus: Corpus, utterances: Sequence[Utterance], num_frames: int, seed: int = 0
) -> Iterator[Crop]:
    """One crop of each utterance, from a random place, normalised as in pre-training; marked by phone and by segment
    (one phone from start to end, silence included) where all utterances have alignments."""
    options = expert.options
    store, log_mel = log_mel_store(corpus, options.num_mels), cpu_log_mel(expert)
    aligned = all(u.phones is not None for u in utterances)
    rng = np.random.default_rng(seed)
    for utterance in utterances:
        length = num_frames * options.stack
        start = int(rng.integers(utterance.num_frames - length + 1))
        raw = torch.from_numpy(np.array(store[utterance.id][start : start + length], dtype=np.float32))
        frames = stack_frames((raw - log_mel.mean) / log_mel.std, options.stack)
        yield Crop(utterance.id, frames, _marks(utterance, start, num_frames, options.stack) if aligned else {})


def _marks(utterance: Utterance, start: int, num_frames: int, stack: int) -> dict[str, Tensor]:
    """The phone and the segment in which the centre of each stacked frame lies."""
    assert utterance.phones is not None
    centres_s = 0.01 * (start + (np.arange(num_frames) + 0.5) * stack)
    segment = np.searchsorted(utterance.phones.end_s, centres_s, side="right").clip(max=len(utterance.phones.end_s) - 1)
    phone = utterance.phones.phone[segment].astype(np.int64)
    return {PHONE: torch.from_numpy(phone), SEGMENT: torch.from_numpy(segment)}


def turns(crops: Iterable[Crop], speakers: Mapping[str, str]) -> Iterator[Crop]:
    """Crops of two speakers: the first half of one crop, then the second half of the next by somebody else, marked by
    turn. A crop that finds no such partner is left out."""
    waiting: list[Crop] = []
    for crop in crops:
        partner = next((other for other in waiting if speakers[other.id] != speakers[crop.id]), None)
        if partner is None:
            waiting.append(crop)
            continue
        waiting = [other for other in waiting if other is not partner]
        half = len(crop.frames) // 2
        mark = (torch.arange(len(crop.frames)) >= half).long()
        yield Crop(f"{partner.id} + {crop.id}", torch.cat([partner.frames[:half], crop.frames[half:]]), {TURN: mark})
