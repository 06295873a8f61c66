"""s3prl's own tasks on today's packages, and the files that they want, made of any corpus in LibriSpeech layout."""

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from s3prl_attention import downstream
from s3prl_attention.recipes.corpora import Corpus
from torch import Tensor

THEIRS = {  # the task of s3prl that each of ours is made after
    "phone_linear": "phone_linear",
    "phone_concat": "phone_linear_concat",
    "phone_1hidden": "phone_1hidden",
    "speaker": "speaker_linear_utter_libri",
    "speaker_frame": "speaker_linear_frame_libri",
}
MODELRC: dict[str, dict[str, Any]] = {
    "phone_concat": {"concat_n_frames": 9},
    "phone_1hidden": {"hidden_size": 768, "dropout": 0.0},
}
DIM = 5


def load_audio(path: str) -> tuple[Tensor, int]:
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(wave.T.copy()), rate_hz


@pytest.fixture
def runnable(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torchaudio.load`` without torchcodec; skips the test without pandas, which s3prl imports undeclared."""
    pytest.importorskip("pandas", reason="s3prl's datasets need pandas: install the extra 'test'")
    monkeypatch.setattr(torchaudio, "load", load_audio)


def lay_out(folder: Path, corpus: Corpus, seed: int = 0) -> dict[str, Any]:
    """Write the lists, labels and the table of the aligned utterances of a corpus; returns s3prl's ``datarc``.

    Of each speaker, every third utterance is for testing. The table has the utterances in any order.
    """
    spoken = [u for u in corpus.utterances if u.phones is not None]
    rng = np.random.default_rng(seed)
    for split, chosen in (("train", lambda n: n % 3), ("test", lambda n: n % 3 == 0)):
        ids = [u.id for number, u in enumerate(spoken) if chosen(number)]
        (folder / f"{split}_split.txt").write_text("".join(f"{id}\n" for id in ids))
    lines = [f"{u.id} {' '.join(map(str, u.phones.frame_labels(u.num_frames)))}\n" for u in spoken]
    (folder / "converted_aligned_phones.txt").write_text("".join(lines))
    paths = [str(u.path.relative_to(corpus.root)) for u in spoken]
    with (folder / "train-clean-100.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "file_path", "length", "label"])
        writer.writerows([n, paths[n], spoken[n].num_samples, ""] for n in rng.permutation(len(spoken)).tolist())
    return {
        "num_workers": 0,
        "train_batch_size": 5,
        "eval_batch_size": 4,
        "libri_root": str(corpus.root),
        "phone_path": str(folder),
        "split_file": str(folder),
        "bucket_file": str(folder),
        "sample_rate": 16000,
        "train_dev_seed": 1337,
    }


def their_expert(task: str, datarc: dict[str, Any], folder: Path) -> Any:
    """s3prl's expert of our task's model."""
    module = importlib.import_module(f"s3prl.downstream.{THEIRS[task]}.expert")
    section = {"datarc": datarc, "modelrc": MODELRC.get(task, {})}
    torch.manual_seed(0)
    return module.DownstreamExpert(upstream_dim=DIM, upstream_rate=160, downstream_expert=section, expdir=str(folder))


def our_expert(task: str, datarc: dict[str, Any], **options: Any) -> Any:
    """Our expert, from the same yaml."""
    section = {"datarc": datarc | options, "modelrc": MODELRC.get(task, {"none": None})}
    torch.manual_seed(0)
    return downstream.load(task).DownstreamExpert(DIM, 160, section, None)


def random_features(waves: list[Tensor], rate: int) -> list[Tensor]:
    """Features of 5 dimensions, up to a frame more or less than the wave has; the same for the same lengths."""
    lengths = [max(1, len(wave) // rate + len(wave) % 3 - 1) for wave in waves]
    return [torch.randn(length, DIM, generator=torch.Generator().manual_seed(length)) for length in lengths]
