"""What one upstream costs in a study, from a few real steps of it: pre-training, mean maps, extraction, timing lane.

Legend: S hidden states, D model dim.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ..downstream.hidden_states import extract, length_batches
from ..recipes.batches import Batch, hold_out, step_seed
from ..recipes.batches import Speech as Crops
from ..recipes.config import Recipe
from ..recipes.corpora import Corpus, FrameStore, Utterance
from ..recipes.objective import MaskedAcousticModel, ReconstructionHead
from ..upstream.contract import entry
from ..upstream.expert import UpstreamExpert
from ..upstream.features import HOP_SAMPLES, LogMel
from ..upstream.mel import MelExpert
from ..upstream.s3prl_upstreams import load_foreign, parse
from .attention import mean_maps
from .names import MEL, is_foreign
from .noise import Noise
from .prepare import batch_s
from .settings import Study
from .workloads import (
    encoder_for,
    features,
    inference,
    stacked_frames,
    train_step,
    wait,
    whole,
    whole_baseline,
)

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase

NUM_STEPS = 3  # timed, after one that is not
ENOUGH_S = 10.0  # steps that take longer are timed fewer times
SAMPLE_S = 30.0  # audio in the short extraction
HUB_S = 10.0  # about: to import s3prl.hub in the process that weighs an upstream's memory


@dataclass(frozen=True)
class Cost:
    """What one upstream costs, for one seed; 0 where it was not asked. The last two describe its hidden states."""

    pretrain_s: float = 0.0
    maps_s: float = 0.0  # the mean of its maps, when another upstream starts from them
    extract_s: float = 0.0
    lane_s: float = 0.0  # its share of the timing lane, without the process that weighs its memory
    states_bytes: float = 0.0
    checkpoint_bytes: float = 0.0
    realtime: float = 0.0  # computing time over audio time in the extraction
    shape: tuple[int, int] = (0, 0)  # S, D
    frame_repeat: int = 1


def measure_upstream(
    study: Study, corpus: Corpus, utterances: Sequence[Utterance], kinds: Collection[str], device: str
) -> Cost:
    """Measure the ``kinds`` of steps of one upstream, by doing each a few times with random weights.

    Args:
        study: of the upstream.
        corpus: to pre-train on; its lengths count, its frames are noise.
        utterances: those whose hidden states are needed; a few of them are encoded and written to a temporary folder.
        kinds: out of ``steps.KINDS``.
        device: where to compute.

    Raises:
        Exception: whatever the upstream raises.
    """
    where, recipe = torch.device(device), study.recipe
    torch.manual_seed(0)
    found = Cost()
    expert: UpstreamBase
    if study.upstream == MEL:
        expert = MelExpert(num_mels=recipe.model.num_mels)
    elif is_foreign(study.upstream):
        expert = load_foreign(parse(study.upstream))
    else:
        expert = own = fresh_expert(recipe.upstream, recipe)
        head = ReconstructionHead(hidden_dim=recipe.model.hidden_dim, output_dim=recipe.model.input_dim)
        model = MaskedAcousticModel(expert, head, recipe.pretrain.precision).to(where).train()
        found = replace(found, checkpoint_bytes=4 * sum(p.numel() for p in model.parameters()))
        if "pre-training" in kinds:
            found = replace(found, pretrain_s=_pretraining_s(model, recipe, corpus, where))
        if "mean maps" in kinds:
            found = replace(found, maps_s=_maps_s(own, corpus, where))
    if "extraction" in kinds:
        found = replace(found, **_extraction(study, expert, utterances, device))
    if "timing" in kinds:
        found = replace(found, lane_s=_lane_s(study, expert, where))
    return found


def fresh_expert(name: str, recipe: Recipe) -> UpstreamExpert:
    """The upstream with random weights; where it would start from maps, with those it has without a file of them."""
    starts_when = entry(name).info.starts_when
    own = {key: value for key, value in recipe.attention.items() if key != "maps" and key not in starts_when}
    return UpstreamExpert(name, long_input="windows", **asdict(recipe.model), **own)


def _pretraining_s(model: nn.Module, recipe: Recipe, corpus: Corpus, device: torch.device) -> float:
    """All steps at the median of those timed, and all validations. Batches have the lengths that the run will see."""
    config, options = recipe.pretrain, recipe.model
    lengths = {u.id: u.num_frames for u in corpus.utterances}
    noise = cast(FrameStore, Noise(lengths, (options.num_mels,), {}))
    train_ids, valid_ids = hold_out(list(lengths), config.valid_share, config.valid_utterances)
    crops = Crops(noise, train_ids, LogMel(num_mels=options.num_mels), options.stack, options.max_frames, config, 0)
    batches = [crops.batch(ids, step_seed(0, step)) for step, ids in enumerate(islice(crops.plan(), NUM_STEPS + 1))]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), fused=True)

    def loss(batch: Batch) -> torch.Tensor:
        moved = batch.to(device)
        return model(moved.corrupted, moved.target, moved.chosen, moved.keep)

    def step(batch: Batch) -> None:
        found = loss(batch)
        optimizer.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        wait(device)

    @torch.no_grad()
    def validate(batch: Batch) -> None:
        loss(batch)
        wait(device)

    step_s = median_s([partial(step, batch) for batch in batches])
    valid_s = median_s([partial(validate, batch) for batch in batches[:2]])
    frames = sum(min(options.max_frames, math.ceil(lengths[id] / options.stack)) for id in valid_ids)
    num_validations = math.ceil(config.steps / config.valid_every)
    return config.steps * step_s + num_validations * math.ceil(frames / config.batch_frames) * valid_s


def _maps_s(expert: UpstreamExpert, corpus: Corpus, device: torch.device) -> float:
    options = expert.options
    frames = torch.randn(options.max_frames, options.input_dim)
    one_s = median_s([lambda: mean_maps.mean_maps(expert.to(device), [frames])] * 3)
    return min(mean_maps.UTTERANCES, len(corpus.utterances)) * one_s


def _extraction(study: Study, expert: UpstreamBase, utterances: Sequence[Utterance], device: str) -> dict[str, Any]:
    """Encode some utterances of the middle length, and count for all of them what it took by second."""
    most_s, dtype = batch_s(study.upstream), study.probe.states_dtype
    batches = length_batches(utterances, most_s)
    middle = [utterance for batch in batches[len(batches) // 2 :] for utterance in batch]
    some = middle[: max(1, int(SAMPLE_S / middle[0].seconds))]
    audio_s, whole_s = sum(u.seconds for u in some), sum(u.seconds for u in utterances)
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        store = extract(expert, some, Path(folder) / "states", dtype, most_s, device)
        realtime = (perf_counter() - started) / audio_s
        num_bytes, shape = store.nbytes, store.frame_shape
        repeat = max(1, store.meta["upstream_rate"] // HOP_SAMPLES)  # s3prl's may have longer frames without repeating
        del store
    return {
        "extract_s": realtime * whole_s,
        "states_bytes": num_bytes / audio_s * whole_s,
        "realtime": realtime,
        "shape": shape,
        "frame_repeat": repeat,
    }


def _lane_s(study: Study, expert: UpstreamBase, device: torch.device) -> float:
    """All rounds of the lane, with the round that warms up and the one that finds out how often to repeat."""
    timing, recipe, besides_s = study.timing, study.recipe, 0.0
    if study.upstream == MEL:
        cases = [features(device)]
    elif is_foreign(study.upstream):
        baseline, besides_s = whole_baseline(recipe, max(timing.lengths_s), device), HUB_S
        experts = (expert.to(device), baseline)
        cases = [whole(each, length, device) for each in experts for length in timing.lengths_s]
    else:
        frames = [stacked_frames(length, recipe.model.stack) for length in timing.lengths_s]
        encoder = encoder_for(recipe, max(frames), device)
        cases = [inference(encoder, count, recipe.model.input_dim, device) for count in frames]
        cases.append(train_step(recipe, timing, device))
    return besides_s + (timing.rounds + 2) * sum(max(timing.min_sample_s, median_s([case, case])) for case in cases)


def median_s(calls: Sequence[Callable[[], object]]) -> float:
    """Median seconds of these calls without the first, which warms up; fewer of them when they take long."""
    seconds: list[float] = []
    for call in calls:
        started = perf_counter()
        call()
        seconds.append(perf_counter() - started)
        if sum(seconds) > ENOUGH_S:
            break
    return statistics.median(seconds[1:] or seconds)
