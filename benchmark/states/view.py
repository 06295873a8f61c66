"""What is seen of one upstream's hidden states: places for pictures, and numbers for every state.

Legend: P points, S hidden states, D model dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..projection import pca, tsne
from .measures import Share, distances, nearest, silhouette, standardised
from .phone_classes import broad_class
from .sample import Sample

if TYPE_CHECKING:
    from ...recipes.corpora import FrameStore

SEED = 0  # of t-SNE


@dataclass(frozen=True)
class Numbers:
    """Of one state: how often the nearest neighbour has the same name (phone or speaker), and the same broad class of
    phones (None for speakers, and where all phones are of one class); the silhouette of the classes, else of the names,
    and what it is by chance."""

    name: Share
    broad: Share | None
    silhouette: float
    silhouette_chance: float


@dataclass(frozen=True)
class Seen:
    """P points in the plane, (P, 2) each, with the shares of variance of the two components; numbers of each state."""

    pca: np.ndarray
    ratios: np.ndarray
    tsne: np.ndarray
    by_state: tuple[Numbers, ...]


@dataclass(frozen=True)
class View:
    """An upstream: what it is called, which of its ``num_states`` is drawn, and what is seen of each sample."""

    label: str
    state: int
    num_states: int
    seen: dict[str, Seen]

    @property
    def state_name(self) -> str:
        """The state that is drawn, in words."""
        return state_name(self.state, self.num_states)


def state_name(state: int, num_states: int) -> str:
    """``input`` or ``layer 2``; of an upstream without layers ``features``."""
    if num_states == 1:
        return "features"
    return f"layer {state}" if state else "input"


def view(label: str, store: FrameStore, samples: Mapping[str, Sample], state: int | None = None) -> View:
    """Look at the states of each sample.

    Args:
        label: of the upstream.
        store: its stored hidden states.
        samples: by name.
        state: which one is drawn; None is the last. An upstream with only one has that one drawn.

    Raises:
        ValueError: when there is no such state.
    """
    num_states = store.frame_shape[0]
    state = num_states - 1 if state is None or num_states == 1 else state
    if not 0 <= state < num_states:
        raise ValueError(f"{label} has no layer {state}: its states are 0 (the input) to {num_states - 1}")
    return View(label, state, num_states, {name: _seen(sample, store, state) for name, sample in samples.items()})


def _seen(sample: Sample, store: FrameStore, state: int) -> Seen:
    states = sample.states(store)  # (P, S, D)
    drawn = standardised(states[:, state])
    places, ratios = pca(drawn, 2)
    numbers = tuple(_numbers(sample, standardised(states[:, number])) for number in range(states.shape[1]))
    return Seen(places, ratios, tsne(drawn, SEED), numbers)


def _numbers(sample: Sample, points: np.ndarray) -> Numbers:
    apart = distances(points)
    name = nearest(apart, sample.names, sample.groups, sample.speakers)
    classes = np.array([broad_class(phone) for phone in sample.names])
    if sample.frames is None or len(set(classes)) == 1:
        return Numbers(name, None, *silhouette(apart, sample.names))
    return Numbers(name, nearest(apart, classes, sample.groups, sample.speakers), *silhouette(apart, classes))
