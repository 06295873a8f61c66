"""The embedded corpus: spoken by eSpeak NG on first use, then kept in the cache."""

import dataclasses
import errno
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..cache import cache_dir, ensure_folder
from ..corpus import PHONE_SET, SAMPLE_RATE_HZ, Corpus, PhoneAlignment, near_names
from ..librispeech import load_librispeech
from ..speakers_table import NAME as SPEAKERS
from ..speakers_table import read_speakers
from .plan import GENERATOR_VERSION, SIZES, speaker_plans

logger = logging.getLogger(__name__)

POLL_S = 0.05
CHECKSUMS = "checksums.txt"
SUMS = "SHA256SUMS"  # of all but the audio, which has checksums of its own; corpora of older versions lack it
SPARE_BYTES = 1_000_000  # less than this is a full disk
LABEL = "label"


def load_synthetic(*, size: str = "small", seed: int = 0) -> Corpus:
    """The synthetic corpus of this size and seed, made on first use (``small``: about 20 s on two cores).

    The label of an utterance is the sex of its voice, ``F`` or ``M``: half of the speakers of every subset each, whose
    pitch, formants and thereby spectra differ.

    Raises:
        ValueError: for an unknown size, a negative seed, files that are damaged or missing, or when the optional
            packages that speak are not installed.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r} of the synthetic corpus: {near_names(size, SIZES)}")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(
            f"the seed of the synthetic corpus must be a whole number from 0, got {seed!r}: choose another"
        )
    name = f"synthetic-v{GENERATOR_VERSION}-{size}-seed{seed}"
    folder = ensure_folder(cache_dir() / "corpora" / name, lambda staging: generate(staging, size=size, seed=seed))
    _check_sums(folder)
    try:
        corpus = load_librispeech(folder)
    except ValueError as error:  # its own cure, such as to fetch the file again, is none here
        damaged = str(error).partition(": ")[0]
        raise ValueError(f"{damaged}: the made corpus is damaged: remove {folder}, it will be made again") from error
    checksums = dict(line.split() for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines())
    speakers = read_speakers(folder)
    if set(checksums) != {item.id for item in corpus.utterances} or not speakers.keys() >= {
        item.speaker for item in corpus.utterances
    }:
        raise ValueError(f"{folder}: files of the made corpus are missing: remove the folder, it will be made again")
    utterances = [
        dataclasses.replace(item, content=int(checksums[item.id], 16), labels={LABEL: speakers[item.speaker].sex})
        for item in corpus.utterances
    ]
    note = (
        f"synthetic speech by eSpeak NG (generator {GENERATOR_VERSION}, {size}, seed {seed}): sampled voices, made-up "
        f"sentences, exact phone labels; rankings on it need not hold on recorded speech"
    )
    return dataclasses.replace(
        corpus,
        name=f"synthetic-{size}",
        utterances=tuple(utterances),
        synthetic=True,
        note=note,
        implied_labels=(LABEL,),
    )


def generate(folder: Path, *, size: str, seed: int, num_workers: int | None = None) -> None:
    """Make the corpus in an empty folder with several processes; how many makes no difference to the result."""
    missing = [package for package in ("espeakng_loader", "scipy") if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(
            f'the synthetic corpus needs {" and ".join(missing)}: pip install "s3prl-attention[synth]", or name '
            f"another corpus (--corpus librispeech --root FOLDER)"
        )
    plans = speaker_plans(size)
    num_workers = min(num_workers or _num_cores(), len(plans))
    logger.info("making the synthetic corpus %r (seed %d) with %d processes", size, seed, num_workers)
    workers: list[subprocess.Popen[bytes]] = []
    parts = folder / "parts"
    try:
        for share in range(num_workers):
            workers.append(_start_worker(folder, size=size, seed=seed, share=share, of=num_workers))
        with tqdm(total=len(plans), desc=f"synthetic {size}", unit="speaker", disable=None) as bar:
            while any(worker.poll() is None for worker in workers):
                _check_workers(workers, folder)
                bar.update(len(list(parts.glob("*.json"))) - bar.n)
                time.sleep(POLL_S)
            _check_workers(workers, folder)
            bar.update(len(plans) - bar.n)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()
    _join_parts(folder, [json.loads((parts / f"{plan.id}.json").read_text(encoding="utf-8")) for plan in plans])
    shutil.rmtree(parts)
    for share in range(num_workers):
        shutil.rmtree(folder / f"espeak-{share}")
        _error_log(folder, share).unlink()
    texts = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".flac"]
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in texts]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")  # as sha256sum -c reads it


def _check_sums(folder: Path) -> None:
    """Raises ``ValueError`` naming a text file of the made corpus that is not as it was written."""
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n"):
        digest, _, name = line.partition("  ")
        path = folder / name if name.isprintable() else folder / SUMS
        if not path.is_file() or _sha256(path) != digest:
            raise ValueError(
                f"{path}: it does not match its checksum in {SUMS}: remove {folder}, it will be made again"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _start_worker(folder: Path, *, size: str, seed: int, share: int, of: int) -> "subprocess.Popen[bytes]":
    """A process whose standard input stays open as long as this one lives."""
    options = ["--size", size, "--seed", str(seed), "--share", str(share), "--of", str(of)]
    with _error_log(folder, share).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"{__name__}.worker", *options],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def _check_workers(workers: "list[subprocess.Popen[bytes]]", folder: Path) -> None:
    for share, worker in enumerate(workers):
        if worker.poll() not in (None, 0):
            if shutil.disk_usage(folder).free < SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            lines = _error_log(folder, share).read_text(errors="replace").strip().splitlines() or ["no message"]
            raise RuntimeError(
                f"the process that makes the synthetic corpus ended with code {worker.returncode} ({lines[-1]}): "
                f"nothing is left behind, run again"
            )


def _error_log(folder: Path, share: int) -> Path:
    return folder / f"worker-{share}.log"


def _join_parts(folder: Path, parts: list[dict[str, Any]]) -> None:
    """Write the files that are not one speaker's: alignments, SPEAKERS.TXT and checksums."""
    phone_id = {phone: id for id, phone in enumerate(PHONE_SET)}
    alignments = folder / "alignments"
    alignments.mkdir()
    ctm: dict[str, list[str]] = {}
    frames: dict[str, list[str]] = {}
    speakers = [";ID | SEX | SUBSET | MINUTES | NAME\n"]
    checksums = []
    for part in parts:
        for item in part["utterances"]:
            id, num_samples = item["id"], item["num_samples"]
            edges_s = np.array([start for start, _, _ in item["phones"]] + [num_samples]) / SAMPLE_RATE_HZ
            names = [phone for _, _, phone in item["phones"]]
            classes = np.array([phone_id[name] for name in names], dtype=np.int16)
            labels = PhoneAlignment(edges_s[:-1], edges_s[1:], classes).frame_labels(-(-num_samples // 160))
            frames.setdefault(part["subset"], []).append(f"{id} {' '.join(map(str, labels))}\n")
            ctm.setdefault(part["subset"], []).extend(
                f"{id} 1 {start_s:.7f} {end_s - start_s:.7f} {name}\n"  # 7 decimals hold a 16 kHz sample exactly
                for start_s, end_s, name in zip(edges_s, edges_s[1:], names, strict=False)
            )
            checksums.append(f"{id} {item['crc']:08x}\n")
        minutes = sum(item["num_samples"] for item in part["utterances"]) / SAMPLE_RATE_HZ / 60
        speakers.append(f"{part['id']} | {part['sex']} | {part['subset']} | {minutes:.2f} | eSpeak NG {part['id']}\n")
    for subset, lines in ctm.items():
        (alignments / f"{subset}.ctm").write_text("".join(lines), encoding="utf-8")
        (alignments / f"{subset}.frames.txt").write_text("".join(frames[subset]), encoding="utf-8")
    phones = "".join(f"{phone} {id}\n" for phone, id in phone_id.items())
    (alignments / "phones.txt").write_text(phones, encoding="utf-8")
    (folder / SPEAKERS).write_text("".join(speakers), encoding="utf-8")
    (folder / CHECKSUMS).write_text("".join(checksums), encoding="utf-8")


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
