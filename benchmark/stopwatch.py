"""The timing of a run's upstreams: interleaved with the baseline, alone on the machine, kept in files."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..recipes.lineage import deciding
from ..upstream.kernels.onednn import worthwhile
from ..upstream.printable import printable
from ..upstream.s3prl_upstreams import load_foreign, parse
from .environment import describe
from .lane import exclusive_lane
from .memory import Memory, ProcessDied, peak_memory
from .names import BASELINE, MEL, is_foreign, is_pretrained
from .result_files import safe_name, write_atomically
from .settings import Study
from .sources import source_hash
from .timing import Samples, measure_interleaved
from .workloads import (
    FEATURES_S,
    encoder_for,
    features,
    inference,
    stacked_frames,
    train_step,
    whole,
    whole_baseline,
)

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # {"time", "memory": as in a result file, "error": why a part is missing, or None}


def timing_path(out: Path, study: Study, threads: int, machine: str) -> Path:
    """Where the record of one upstream goes; the name changes with all that changes its times. ``machine`` is from
    ``machine_of``."""
    resolved = study.resolved()
    attention = {key: value for key, value in resolved["attention"].items() if key != "maps"}  # weights take no time
    parts = [resolved["model"], attention, resolved["timing"], deciding(resolved["pretrain"])]
    parts += [study.checkpoint] if study.checkpoint is not None else []
    text = json.dumps([parts, threads, machine, source_hash(study.upstream)], sort_keys=True)
    return out / "timing" / f"{safe_name(study.label)}--{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def machine_of(device: str) -> str:
    """What else changes times: the processors, PyTorch, and whether linear layers go through oneDNN."""
    here = describe(torch.get_num_threads(), device)
    parts = [here["cpu"], device, here.get("gpu", ""), f"torch {here['packages']['torch']}", f"oneDNN {worthwhile()}"]
    return ", ".join(part for part in parts if part)


def read_record(path: Path) -> Record | None:
    """The record in ``path``; None when there is none, or none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if "time" in record and "memory" in record else None
    except (OSError, ValueError, TypeError):
        return None


def is_timed(path: Path) -> bool:
    """Whether there is a record in ``path`` and nothing failed in it: what failed is tried again by the next run."""
    record = read_record(path)
    return record is not None and not record.get("error")


def time_upstreams(
    studies: dict[str, Study], paths: dict[str, Path], threads: int, device: str, overrides: Sequence[str]
) -> None:
    """Time the upstreams and the baseline in one exclusive, interleaved run and write a record for each.

    ``studies`` must hold the baseline; ``mel`` in it has no encoder, so that only the features count for it. s3prl's
    upstreams cannot be cut into features and encoder: they are timed as a whole, beside the whole of the baseline. One
    that cannot be loaded gets no record: a network may be there in the next run. What fails is logged, and its record
    says why.
    """
    where = torch.device(device)
    encoders = [name for name in studies if is_pretrained(name)]
    timing = studies[BASELINE].timing
    errors: dict[str, str] = {}

    def fail(name: str, reason: str) -> None:
        errors[name] = " ".join(printable(reason).split())
        logger.warning("timing of %s failed: %s", name, errors[name])

    wholes = _built(filter(is_foreign, studies), fail, lambda name: load_foreign(parse(name)).to(where))
    timed = [*encoders, *wholes]

    def there() -> bool:
        return all(is_timed(paths[name]) for name in (*timed, MEL) if name in studies)

    if there():
        return  # nothing but what could not be loaded was missing
    measured: dict[str, dict[str, Samples]] = {}

    def measure(title: str, cases: dict[str, Callable[[], None]]) -> None:
        measured[title] = measure_interleaved(
            cases,
            timing.rounds,
            max_retries=timing.max_retries,
            min_sample_s=timing.min_sample_s,
            title=f"time {title}",
        )
        for name, samples in measured[title].items():
            if samples.error:
                fail(name, f"{title}: {samples.error}")

    with exclusive_lane():
        if there():
            return  # another process has timed them meanwhile
        memory = {name: _memory(name, studies[name], fail, threads, device, overrides) for name in timed}
        deadly = {name for name in timed if name in errors}  # they would end this process too
        timed, encoders = ([name for name in names if name not in deadly] for names in (timed, encoders))
        wholes = {name: expert for name, expert in wholes.items() if name not in deadly}
        logger.info("timing %s with %d threads", ", ".join(timed), threads)
        measure("features", {MEL: features(where)})
        built = _built(encoders, fail, lambda name: _lengths(studies[name], where))
        for length in timing.lengths_s:
            measure(f"inference_{length:g}s", {name: cases[length] for name, cases in built.items()})
        del built
        if wholes and BASELINE not in deadly:
            wholes[BASELINE] = whole_baseline(studies[BASELINE].recipe, max(timing.lengths_s), where)
        for length in timing.lengths_s if wholes else ():
            measure(f"whole_{length:g}s", {name: whole(each, length, where) for name, each in wholes.items()})
        del wholes
        measure("train_step", _built(encoders, fail, lambda name: train_step(studies[name].recipe, timing, where)))
        for name, study in studies.items():
            if is_foreign(name) and name not in memory:
                continue
            record = {
                "time": {
                    "baseline": BASELINE,
                    "interleaved_with": timed,
                    "threads": threads,
                    "setting": {"device": device, **study.resolved()["timing"]},
                    "phases": _phases(name, measured),
                },
                "memory": memory.get(name),
                "error": errors.get(name),
            }
            write_atomically(paths[name], (json.dumps(record, indent=1) + "\n").encode())


def _memory(
    name: str,
    study: Study,
    fail: Callable[[str, str], None],
    threads: int,
    device: str,
    overrides: Sequence[str],
) -> Memory | None:
    try:
        return peak_memory(name, study.recipe.preset, overrides, threads, device)
    except ProcessDied as error:
        fail(name, str(error))
        return None
    except Exception as error:  # a number less on the leaderboard, no reason to end the run
        logger.warning("%s", error)
        return None


def _built(names: Iterable[str], fail: Callable[[str, str], None], build: Callable[[str], Any]) -> dict[str, Any]:
    """What ``build`` makes for each name; a failure is told to ``fail`` and leaves the others alone."""
    built = {}
    for name in names:
        try:
            built[name] = build(name)
        except Exception as error:  # a plug-in may raise anything
            fail(name, f"{type(error).__name__}: {error}")
    return built


def _lengths(study: Study, device: torch.device) -> dict[float, Callable[[], None]]:
    model = study.recipe.model
    frames = {length: stacked_frames(length, model.stack) for length in study.timing.lengths_s}
    encoder = encoder_for(study.recipe, max(frames.values()), device)
    return {length: inference(encoder, count, model.input_dim, device) for length, count in frames.items()}


def _phases(name: str, measured: dict[str, dict[str, Samples]]) -> dict[str, Any]:
    phases = {}
    for title, samples in measured.items():
        if title.startswith("whole_") != is_foreign(name):
            continue
        own = samples.get(MEL if title == "features" else name)
        if own is None or own.error:
            continue
        base = samples.get(BASELINE)
        audio_s = FEATURES_S if title == "features" else None
        if title.startswith(("inference_", "whole_")):
            audio_s = float(title.partition("_")[2].removesuffix("s"))
        phases[title] = {
            "audio_s": audio_s,
            "samples_s": list(own.samples_s),
            "baseline_samples_s": list(base.samples_s) if base is not None and not base.error else [],
            "disturbed": list(own.disturbed),
        }
    return phases
