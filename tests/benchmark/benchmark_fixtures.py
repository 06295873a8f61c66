"""Cells for the tests of results and leaderboard: valid by construction, changed by dotted keys; folders of them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from s3prl_attention.benchmark.result_files import cell_path, read_cells, write_cell, write_utterances
from s3prl_attention.benchmark.rows import Row, rows

NAMES = {"self_attention": (1.0, 0.5), "fixed_init": (0.75, 0.55), "synthesizer_random": (0.8, 0.45)}  # speed, score

BASE: dict = {
    "schema": 2,
    "status": "ok",
    "reason": None,
    "cell": {
        "upstream": "fixed_init",
        "downstream": "speaker",
        "seed": 0,
        "probe_seed": 0,
        "preset": "demo",
        "corpus": "synthetic-small",
    },
    "upstream": {
        "name": "fixed_init",
        "title": "Fixed initialisation",
        "source_hash": "aaaa",
        "parameters": 2_612_345,
        "macs_10s": 1_200_000_000,
        "order": "n^2",
        "hidden_dim": 256,
    },
    "task": {
        "name": "speaker",
        "metric": "accuracy",
        "higher_is_better": True,
        "head": "linear",
        "unit": "utterances",
        "split": "The same 40 speakers in train and test, from different chapters.",
    },
    "data": {
        "fingerprint": "f00d",
        "synthetic": True,
        "note": "Speech of a formant synthesiser, sampled speakers.",
        "splits": {"train": 800, "dev": 200, "test": 200},
        "num_speakers_test": 40,
        "num_folds": 1,
        "lengths": [
            {"bucket": "0-5 s", "utterances": 200, "seconds": 700.0, "padded_s": 875.0},
            {"bucket": "5-10 s", "utterances": 400, "seconds": 2900.0, "padded_s": 3000.0},
            {"bucket": "10-15 s", "utterances": 0, "seconds": 0.0, "padded_s": 0.0},
            {"bucket": "15+ s", "utterances": 100, "seconds": 1900.0, "padded_s": 1900.0},
        ],
    },
    "config": {
        "upstream": "fixed_init",
        "data": {"corpus": "synthetic", "root": None, "seed": 0},
        "attention": {"init": "log"},
        "pretrain": {"steps": 1000, "learning_rate": 0.001},
        "probe": {"num_epochs": 30, "learning_rates": [0.001, 0.01]},
    },
    "difference": {},
    "pretrain": {"steps": 1000, "valid_loss": 0.457, "train_loss": 0.45, "seconds": 61.2, "log": "log.jsonl"},
    "probe": {
        "seconds": 3.5,
        "extraction_s": 2.5,
        "layer_weights": [[0.5, 0.5]],
        "chosen_epoch": [7],
        "epochs": 30,
        "tried": [{"learning_rate": 0.001, "dev": [0.5]}, {"learning_rate": 0.01, "dev": [0.6]}],
        "chosen": [{"learning_rate": 0.01}],
        "chosen_on": "dev",
    },
    "scores": {"dev": 0.6, "test": 0.55, "chance": 0.025, "items": 200, "utterances": "set by save"},
    "time": {
        "baseline": "self_attention",
        "interleaved_with": ["self_attention", "fixed_init"],
        "threads": 2,
        "setting": {"batch": 4},
        "phases": {},
    },
    "memory": {"train_bytes": 512_000_000, "inference_bytes": 128_000_000},
    "environment": {
        "cpu": "AMD EPYC",
        "cores": 2,
        "threads": 2,
        "ram_bytes": 8_000_000_000,
        "os": "Linux",
        "python": "3.11.9",
        "packages": {"torch": "2.14.1", "torchaudio": "2.11.0", "numpy": "2.4.6"},
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
    },
}


def make_cell(speed: float = 0.75, **changes: Any) -> dict:
    """A valid cell, ``speed`` times as slow as the baseline. Changes: ``cell__seed=1`` sets cell["cell"]["seed"]."""
    cell = copy.deepcopy(BASE)
    drift = np.linspace(1.0, 1.4, 5)  # the machine slows down: a ratio of medians is fine, of unpaired samples is not
    for name, audio_s, base_s in (
        ("features", 10.0, 0.02),
        ("inference_2s", 2.0, 0.02),
        ("inference_10s", 10.0, 0.1),
        ("inference_15s", 15.0, 0.2),
        ("train_step", None, 0.5),
    ):
        own = base_s * drift * (1.0 if name == "features" else speed)
        cell["time"]["phases"][name] = {
            "audio_s": audio_s,
            "samples_s": own.tolist(),
            "baseline_samples_s": [] if name == "features" else (base_s * drift).tolist(),
            "disturbed": [False] * 5,
        }
    for key, value in changes.items():
        *parents, last = key.split("__")
        target = cell
        for parent in parents:
            target = target[parent]
        target[last] = value
    for key in ("upstream", "task"):
        if cell[key] is not None:
            cell[key]["name"] = cell["cell"]["upstream" if key == "upstream" else "downstream"]
    return cell


def outcomes(score: float, num_speakers: int = 40, per_speaker: int = 5, seed: int = 0) -> list[dict]:
    """One outcome for each utterance, ``round(score * number)`` of them right, in random places."""
    total = num_speakers * per_speaker
    right = np.random.default_rng(seed).permutation(total) < round(score * total)
    return [
        {
            "fold": 0,
            "utterance": f"u{i}",
            "speaker": f"s{i % num_speakers}",
            "correct": int(right[i]),
            "total": 1,
            "seconds": float(2 + i % 20),
            "substitutions": 0,
            "insertions": 0,
            "deletions": 0,
        }
        for i in range(total)
    ]


def save(out: Path, cell: Mapping, digest: str = "d1", lines: list[dict] | None = None) -> Path:
    """Write the cell, and its csv when it has scores, where the benchmark would."""
    path = cell_path(out, cell["cell"], digest)
    if cell["scores"]:
        utterances = path.with_suffix(".csv")
        write_utterances(utterances, outcomes(cell["scores"]["test"]) if lines is None else lines)
        cell = {**cell, "scores": {**cell["scores"], "utterances": utterances.name}}
    write_cell(path, cell)
    return path


def failed(reason: str = "RuntimeError: boom", **changes: Any) -> dict:
    """A cell that failed before anything was known."""
    nothing = dict.fromkeys(("upstream", "task", "data", "pretrain", "probe", "scores", "time", "memory"))
    return {**make_cell(**changes), **nothing, "config": {}, "status": "failed", "reason": reason}


def mel(**changes: Any) -> dict:
    """The reference row's cell: no parameters, no pre-training, only features timed."""
    cell = make_cell(**{"cell__upstream": "mel", "scores__test": 0.58, "upstream__parameters": 0, **changes})
    cell["pretrain"] = None
    cell["config"] = {}
    cell["time"]["phases"] = {"features": cell["time"]["phases"]["features"]}
    return cell


def fill(out: Path, **changes: Any) -> None:
    """Three upstreams, the reference and a failed one, on one task."""
    for name, (speed, score) in NAMES.items():
        save(out, make_cell(speed=speed, cell__upstream=name, scores__test=score, **changes))
    save(out, mel(**changes))
    save(out, failed(cell__upstream="xbox", **changes))


def read(out: Path) -> list[Row]:
    """The rows of the cells in ``out``, all of which must be readable."""
    cells, problems = read_cells(out / "cells")
    assert not problems
    return rows(cells)


def by_pair(out: Path) -> dict[tuple[str, str], dict]:
    """The cells in ``out``, all of which must be readable, by upstream and task."""
    cells, problems = read_cells(out / "cells")
    assert not problems
    return {(cell["cell"]["upstream"], cell["cell"]["downstream"]): cell for cell in cells}
