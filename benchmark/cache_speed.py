"""A probe from stored hidden states against the same probe with the upstream run at every step, as s3prl does it.

Both sides train the same head (weighted sum, mean over time, linear) from the same start on the same batches. One takes
the states from a cache that is filled for this measurement; the other reads the audio, runs the frozen upstream without
gradients and mixes its frames, at each step. They take turns in chunks of steps, so that drift of the machine meets
both.

Legend: S hidden states, B utterances, T frames of the longest one, D model dim.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import downstream
from ..downstream.feature_cache import cached_states
from ..downstream.hidden_states import wave_of
from ..downstream.outcomes import Outcome, accuracy
from ..downstream.probe import build_probe
from ..downstream.splits import SPLITS, Fold
from ..downstream.states import States
from ..recipes.corpora import Corpus, Utterance, cache_dir
from .cache_dtypes import difference, percent, requested
from .command_line import check_counts
from .environment import describe
from .lane import OtherLoad, exclusive_lane
from .prepare import frozen_upstream, states_key
from .result_files import write_atomically
from .statistics import clustered_interval, ratio_spread
from .workloads import wait

TASK, ASKED_STEPS = "speaker", 2000
STORED, RUN = "stored states", "upstream at every step"
BUSY = 0.1  # share of the machine that others may take before a chunk counts as disturbed

Read = Callable[[Sequence[Utterance]], tuple[Tensor, list[int]]]  # -> states (S, B, T, D), frames of each utterance


@dataclass
class Side:
    """One way to get at states, the head that it trains, and what its chunks of steps took."""

    read: Read
    head: "Head"
    chunks_s: list[float] = field(default_factory=list)
    disturbed: list[bool] = field(default_factory=list)

    def train(self, batches: Sequence[Sequence[Utterance]]) -> None:
        """A chunk of steps, timed."""
        device = self.head.parameters[0].device
        wait(device)
        load, started_s = OtherLoad(), perf_counter()
        for batch in batches:
            self.head.learn(*self.read(batch), batch)
        wait(device)
        self.chunks_s.append(perf_counter() - started_s)
        self.disturbed.append((load.share() or 0.0) > BUSY)

    @torch.no_grad()
    def score(self, utterances: Sequence[Utterance], size: int) -> list[Outcome]:
        """The outcome of every utterance."""
        records: dict[str, list[Any]] = {}
        for start in range(0, len(utterances), size):
            batch = utterances[start : start + size]
            self.head.loss("test", *self.read(batch), batch, records)
        return records["outcomes"]


class Head:
    """A weighted sum and the task's head in training, both from a seed."""

    def __init__(self, states: States, corpus: Corpus, fold: Fold, learning_rate: float, seed: int) -> None:
        probe = build_probe(TASK, corpus, fold, states, seed)
        self.expert, self.mix = probe.expert, probe.mix
        self.parameters = [*self.expert.parameters(), *self.mix.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate)

    def loss(
        self, split: str, states: Tensor, lengths: Sequence[int], batch: Sequence[Utterance], records: Any = None
    ) -> Tensor:
        """Of a batch: ``states`` (S, B, T, D) with ``lengths`` valid frames."""
        features = [row[:length] for row, length in zip(self.mix(states), lengths, strict=True)]
        labels = [self.expert.label(utterance) for utterance in batch]
        return self.expert(split, features, labels, [utterance.id for utterance in batch], records=records)

    def learn(self, states: Tensor, lengths: Sequence[int], batch: Sequence[Utterance]) -> None:
        """One step, with s3prl's clipping."""
        self.optimizer.zero_grad()
        self.loss("train", states, lengths, batch).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


@dataclass
class Upstream:
    """A frozen upstream that is run whenever states are read; ``reading_s`` is what the audio took."""

    expert: Any
    device: torch.device
    reading_s: float = 0.0

    @torch.no_grad()
    def read(self, batch: Sequence[Utterance]) -> tuple[Tensor, list[int]]:
        """(S, B, T, D) and the frames of each utterance."""
        started_s = perf_counter()
        waves = [wave_of(utterance).to(self.device) for utterance in batch]
        self.reading_s += perf_counter() - started_s
        states = self.expert(waves)["hidden_states"]
        rate = self.expert.get_downsample_rates("hidden_states")
        return torch.stack(list(states)), [-(-len(wave) // rate) for wave in waves]


def run(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Measure and print."""
    check_counts(options, "steps", "batch", "chunk")
    study, speech = requested(options, overrides)
    corpus, device = speech.probing, torch.device(options.device)
    expert, _ = frozen_upstream(study, speech, options.seed, options.out, options.device)
    fold = downstream.load(TASK).folds(corpus, study.probe.subsets)[0]
    everyone = [utterance for split in SPLITS for utterance in fold.utterances(split)]
    plan = list(batches(fold.train, options.batch, options.steps, options.seed))
    expert.eval().to(device)
    cache_dir().mkdir(parents=True, exist_ok=True)
    with exclusive_lane(print), tempfile.TemporaryDirectory(prefix=".speed-", dir=cache_dir()) as folder:
        load, started_s = OtherLoad(), perf_counter()
        key = states_key(study.upstream, expert, corpus, study.probe.states_dtype)
        cached = cached_states(expert, everyone, key, device, Path(folder) / "hidden-states")
        extraction_s = perf_counter() - started_s
        states = States(cached.store, [fold], "mean", False, device)
        filling = {"extraction_s": extraction_s, "means_s": perf_counter() - started_s - extraction_s}
        filling["disturbed"] = (load.share() or 0.0) > BUSY
        upstream = Upstream(expert, device)

        def sides() -> dict[str, Side]:
            heads = [Head(states, corpus, fold, options.learning_rate, options.seed) for _ in range(2)]
            return {STORED: Side(lambda batch: (states.read(batch)[:, :, None], [1] * len(batch)), heads[0]),
                    RUN: Side(upstream.read, heads[1])}  # fmt: skip

        for side in sides().values():  # others, that are thrown away: the first step of each is slower
            side.train(plan[:1])
        upstream.reading_s = 0.0
        made = sides()
        for number, start in enumerate(tqdm(range(0, options.steps, options.chunk), desc="chunks", disable=None)):
            for side in list(made.values())[:: 1 if number % 2 == 0 else -1]:
                side.train(plan[start : start + options.chunk])
        reading_s = upstream.reading_s
        outcomes = {name: side.score(fold.test, options.batch) for name, side in made.items()}
    print(f"{TASK} on {options.upstream}, preset {options.preset}, {corpus.name}: {options.steps} steps of "
          f"{options.batch} utterances in chunks of {options.chunk}, {torch.get_num_threads()} threads")  # fmt: skip
    print("\n".join([*times(made, filling, reading_s, options.steps), *scores(outcomes)]))
    if options.save:
        text = json.dumps(raw(options, made, filling, reading_s, outcomes), indent=1) + "\n"
        write_atomically(options.save, text.encode())


def raw(
    options: argparse.Namespace,
    sides: dict[str, Side],
    filling: dict[str, Any],
    reading_s: float,
    outcomes: dict[str, list[Outcome]],
) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    return {
        "options": {name: str(value) for name, value in vars(options).items()},
        "filling": filling,
        "reading_s": reading_s,
        "sides": {
            name: {
                "chunks_s": side.chunks_s,
                "disturbed": side.disturbed,
                "accuracy": accuracy(outcomes[name]),
                "num_scored": len(outcomes[name]),
            }
            for name, side in sides.items()
        },
        "environment": describe(torch.get_num_threads()),
    }


def batches(train: Sequence[Utterance], size: int, steps: int, seed: int) -> Iterator[list[Utterance]]:
    """``steps`` batches of ``size`` utterances, fewer at the end of an epoch, in another order in each."""
    rng, done = np.random.default_rng(seed), 0
    while True:
        order = rng.permutation(len(train))
        for start in range(0, len(order), size):
            if done == steps:
                return
            yield [train[index] for index in order[start : start + size]]
            done += 1


def times(sides: dict[str, Side], filling: dict[str, Any], reading_s: float, steps: int) -> list[str]:
    """Lines that tell wall-clock time and how many times faster stored states are."""
    stored, upstream = sides[STORED], sides[RUN]
    steps_s = {name: sum(side.chunks_s) for name, side in sides.items()}
    filling_s = filling["extraction_s"] + filling["means_s"]
    total_s = filling_s + steps_s[STORED]
    median, low, high = ratio_spread(upstream.chunks_s, stored.chunks_s)
    disturbed = sum(stored.disturbed) + sum(upstream.disturbed)
    lines = [
        f"{STORED}: {total_s:.1f} s = extraction {filling['extraction_s']:.1f} s + means over time "
        f"{filling['means_s']:.1f} s + steps {steps_s[STORED]:.1f} s ({1000 * steps_s[STORED] / steps:.2f} ms each)",
        f"{RUN}: {steps_s[RUN]:.1f} s ({1000 * steps_s[RUN] / steps:.1f} ms each), of which reading audio "
        f"{reading_s:.1f} s",
        f"faster with {STORED}: {steps_s[RUN] / total_s:.1f} times with extraction, steps alone {median:.0f} times "
        f"(quartiles of {len(stored.chunks_s)} chunks {low:.0f} to {high:.0f})",
        f"others used the machine in {disturbed} of {2 * len(stored.chunks_s)} chunks"
        + (", and during extraction" if filling["disturbed"] else ""),
    ]
    if steps < ASKED_STEPS:
        more = ASKED_STEPS / steps
        told = steps_s[RUN] * more / (filling_s + steps_s[STORED] * more)
        lines.append(
            f"only {steps} of {ASKED_STEPS} steps were run: at the same pace all of them would be {told:.1f} times "
            f"faster with extraction, which was not measured"
        )
    return lines


def scores(outcomes: dict[str, list[Outcome]]) -> list[str]:
    """Lines that tell the test accuracy of both sides and their paired difference."""
    lines = []
    for name, found in outcomes.items():
        right, items = [row.correct for row in found], [row.total for row in found]
        interval = clustered_interval(right, items, [row.speaker for row in found])
        spread = "" if interval is None else f" ({percent(interval[0])} to {percent(interval[1])})"
        lines.append(f"test accuracy, {name}: {percent(accuracy(found))}{spread}, {len(found)} utterances")
    pairs = [[{"fold": 0, **row._asdict()} for row in outcomes[name]] for name in (STORED, RUN)]
    return [*lines, f"difference: {difference(TASK, *pairs)}"]
