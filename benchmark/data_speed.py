"""What reading speech costs at the size of hundreds of hours: an index of many utterances that are links to a few.

    python -m s3prl_attention.benchmark data_speed --root /data/librispeech_mini --utterances 100000

A folder in LibriSpeech layout is filled with links until it has so many utterances. Then: how long loading it takes,
with and without the cached index; how much of the batches of an epoch is padding, how fast they are made and what
memory that takes; how fast log-Mel features are made on one core; and how long the steps of a real pre-training wait
for their batches.

Frames are shared like the files: an epoch reads each utterance's crop from those of the recording that it is a link to.
"""

import argparse
import itertools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ..downstream.hidden_states import MAX_BATCH_S, length_batches
from ..recipes.batches import Speech, log_mel_store
from ..recipes.config import Recipe, load_recipe
from ..recipes.corpora import Corpus, FrameStore, load_corpus, read_utterance
from ..recipes.pretrain import check_device, pretrain
from ..recipes.run_files import read_log
from ..upstream.features import LogMel
from .command_line import mistakes_told
from .environment import describe
from .lane import OtherLoad, exclusive_lane
from .lengths import padding
from .names import BASELINE, is_override
from .result_files import write_atomically

UTTERANCES_PER_CHAPTER, CHAPTERS_PER_SPEAKER = 40, 3  # about those of train-clean-360
READINGS = 10  # of memory in an epoch
FEATURE_UTTERANCES = 64  # whose log-Mel features are timed
FIRST_STEPS = 5  # left out: they start threads and fill caches


class SharedFrames:
    """The frames of a small store under many ids: those of an utterance are the recording's that it is a link to."""

    def __init__(self, store: FrameStore) -> None:
        self._store = store

    def num_frames(self, id: str) -> int:
        """T of an utterance."""
        return self._store.num_frames(id.partition("-")[2])

    def __getitem__(self, id: str) -> np.ndarray:
        """Frames (T, F)."""
        return self._store[id.partition("-")[2]]


def link_corpus(corpus: Corpus, folder: Path, count: int) -> None:
    """Fill ``folder`` with ``count`` links to the recordings of a corpus, in LibriSpeech layout; the id of each has a
    number of its own before the recording's."""
    utterances = itertools.cycle(corpus.utterances)
    chapters = -(-count // UTTERANCES_PER_CHAPTER)
    for chapter in range(chapters):
        place = folder / "train-links" / str(chapter // CHAPTERS_PER_SPEAKER) / str(chapter)
        place.mkdir(parents=True)
        for number in range(min(UTTERANCES_PER_CHAPTER, count - chapter * UTTERANCES_PER_CHAPTER)):
            utterance = next(utterances)
            name = f"{chapter * UTTERANCES_PER_CHAPTER + number}-{utterance.id}{utterance.path.suffix}"
            try:
                os.link(utterance.path, place / name)
            except OSError:  # another disk, or a file with too many links
                (place / name).symlink_to(utterance.path)


def start_up(folder: Path) -> tuple[Corpus, dict[str, float]]:
    """The linked corpus, and the seconds of its first and its second load."""
    taken, corpus = {}, None
    for name in ("first_load_s", "cached_load_s"):
        corpus = None
        started = perf_counter()
        corpus = load_corpus("librispeech", folder)
        corpus.speech_fingerprint  # noqa: B018 (what is filed under it needs it at once)
        taken[name] = perf_counter() - started
    assert corpus is not None
    return corpus, taken


def epoch(speech: Speech) -> dict[str, Any]:
    """All batches of one epoch: padding, seconds, and anonymous memory (what is not the mapped file) on the way."""
    frames = {id: min(speech.max_frames, -(-speech.store.num_frames(id) // speech.stack)) for id in speech.ids}
    plan, left, batches = speech.plan(), len(speech.ids), []
    while left > 0:
        batches.append(next(plan))
        left -= len(batches[-1])
    used = sum(frames.values())
    spent = sum(len(ids) * max(frames[id] for id in ids) for ids in batches)
    every, memory, started = max(1, len(batches) // READINGS), [anonymous_bytes()], perf_counter()
    with_batches = speech.batches(1)
    for number in range(len(batches)):
        next(with_batches)
        if (number + 1) % every == 0:
            memory.append(anonymous_bytes())
    seconds = perf_counter() - started
    with_batches.close()
    return {
        "batches": len(batches),
        "padding": 1 - used / spent,
        "batch_s": seconds / len(batches),
        "memory_bytes": memory,
    }


def anonymous_bytes() -> int | None:
    """Memory of this process that is no file's; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) * 1024


def feature_speed(corpus: Corpus, num_mels: int) -> dict[str, float]:
    """Seconds of audio whose features one thread makes in a second: from files, and from waveforms in memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        log_mel, chosen = LogMel(num_mels=num_mels), corpus.utterances[:FEATURE_UTTERANCES]
        audio_s = sum(utterance.seconds for utterance in chosen)
        with torch.inference_mode():
            waves = [read_utterance(utterance) for utterance in chosen]  # files are in the page cache from here on
            taken = {"reading_and_log_mel": np.inf, "log_mel": np.inf}
            for _ in range(5):
                started = perf_counter()
                for utterance in chosen:
                    log_mel.raw(read_utterance(utterance))
                between = perf_counter()
                for wave in waves:
                    log_mel.raw(wave)
                ended = perf_counter()
                taken["reading_and_log_mel"] = min(taken["reading_and_log_mel"], between - started)
                taken["log_mel"] = min(taken["log_mel"], ended - between)
    finally:
        torch.set_num_threads(threads)
    return {f"{name}_x_real_time": audio_s / seconds for name, seconds in taken.items()}


def waiting(recipe: Recipe, corpus: Corpus, folder: Path, device: str) -> dict[str, float]:
    """Of a real pre-training: median seconds of a step, and the share of all steps' time that was spent on waiting for
    batches."""
    done = pretrain(recipe, corpus, folder, seed=0, device=device)
    log = [line for line in read_log(done.log) if "step_s" in line][FIRST_STEPS:]
    waited = sum(line["data_wait_s"] for line in log)
    steps = [line["step_s"] for line in log]
    return {"step_s": float(np.median(steps)), "wait_share": waited / (waited + sum(steps)), "steps": len(log)}


def measure(options: argparse.Namespace, overrides: Sequence[str]) -> dict[str, Any]:
    """All of it; each part on a machine that nobody else of this user is using."""
    check_device(options.device)
    words = [*overrides, f"pretrain.steps={options.steps + FIRST_STEPS}", "pretrain.log_every=1"]
    words += [f"pretrain.{name}={options.steps + FIRST_STEPS}" for name in ("valid_every", "save_every")]
    recipe = load_recipe(options.upstream, options.preset, words)
    small = load_corpus("librispeech", options.root)
    model = recipe.model
    with exclusive_lane(print), _linked(small, options.utterances) as folder:
        load = OtherLoad()
        many, found = start_up(folder)
        store = log_mel_store(small, model.num_mels)
        log_mel = LogMel(num_mels=model.num_mels)
        log_mel.fit(torch.tensor(store.meta["mean"]), torch.tensor(store.meta["std"]))
        ids = [utterance.id for utterance in many.utterances]
        shared: Any = SharedFrames(store)
        speech = Speech(shared, ids, log_mel, model.stack, model.max_frames, recipe.pretrain, seed=0)
        batches = epoch(speech)
        buckets = padding(length_batches(many.utterances, MAX_BATCH_S))
        seconds, padded_s = (sum(bucket[name] for bucket in buckets) for name in ("seconds", "padded_s"))
        features = feature_speed(small, model.num_mels)
        steps = waiting(recipe, small, folder / ".run", options.device)
        busy = load.share()
    return {
        "utterances": len(ids),
        "hours": many.seconds / 3600,
        "preset": options.preset,
        "upstream": options.upstream,
        **found,
        **{f"epoch_{name}": value for name, value in batches.items()},
        "extraction_padding": 1 - seconds / padded_s,
        **features,
        **steps,
        "others_share": busy,
        "environment": describe(torch.get_num_threads()),
    }


@contextmanager
def _linked(corpus: Corpus, count: int) -> Iterator[Path]:
    """A folder of links, with a cache of its own; both go."""
    with tempfile.TemporaryDirectory(prefix="s3prl-attention-links-") as folder:
        before = os.environ.get("S3PRL_ATTENTION_CACHE")
        link_corpus(corpus, Path(folder), count)
        os.environ["S3PRL_ATTENTION_CACHE"] = str(Path(folder) / ".cache")
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["S3PRL_ATTENTION_CACHE"]
            else:
                os.environ["S3PRL_ATTENTION_CACHE"] = before


def told(found: dict[str, Any]) -> str:
    """A line for each number."""
    memory = [value for value in found["epoch_memory_bytes"] if value is not None]
    growth = f"{(max(memory) - memory[0]) / 1e6:.0f} MB" if memory else "unknown"
    rows = [
        ("utterances", f"{found['utterances']:,}, {found['hours']:.0f} h of audio (links to the same recordings)"),
        ("first load", f"{found['first_load_s']:.1f} s"),
        ("load with the cached index", f"{found['cached_load_s']:.1f} s"),
        ("batches of an epoch", f"{found['epoch_batches']:,}, {1e3 * found['epoch_batch_s']:.1f} ms each"),
        ("memory grown in the epoch", growth),
        ("padding: pre-training, extraction", f"{found['epoch_padding']:.1%}, {found['extraction_padding']:.1%}"),
        ("log-Mel, one core", f"{found['log_mel_x_real_time']:.0f} x real time"),
        ("reading and log-Mel, one core", f"{found['reading_and_log_mel_x_real_time']:.0f} x real time"),
        ("step", f"{found['step_s']:.3f} s, {found['upstream']}, preset {found['preset']}, {found['steps']} steps"),
        ("waiting for data", f"{found['wait_share']:.2%} of the steps"),
    ]
    if found["others_share"] is not None:
        rows.append(("others used", f"{found['others_share']:.0%} of the machine meanwhile"))
    return "\n".join(f"{name:36}{value}" for name, value in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: measures and prints."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    overrides = [word for word in given if is_override(word)]
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark data_speed", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--root", type=Path, required=True, help="a folder in LibriSpeech layout, some recordings")
    parser.add_argument("--utterances", type=int, default=100_000, metavar="N", help="links (default: 100000)")
    parser.add_argument("--upstream", default=BASELINE, help=f"whose steps are timed (default: {BASELINE})")
    parser.add_argument("--preset", default="study", help="of batches and steps (default: study)")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of pre-training (default: 30)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the numbers as JSON")
    options = parser.parse_args([word for word in given if word not in overrides])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with mistakes_told("interrupted"):
        if options.utterances < 1 or options.steps < 1:
            raise ValueError("--utterances and --steps must be at least 1")
        from ..upstream.allocator import keep_freed_memory

        keep_freed_memory()
        found = measure(options, overrides)
        print(told(found))
        if options.save:
            write_atomically(options.save, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
