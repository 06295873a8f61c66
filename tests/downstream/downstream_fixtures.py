"""Small corpora, stores and upstreams made in memory for the downstream tests."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from s3prl_attention.recipes.corpora import Corpus, FrameStore, PhoneAlignment, Utterance
from torch import Tensor, nn

PHONES = ("SIL", "AA", "B", "CH")


def alignment(num_frames: int, rng: np.random.Generator) -> PhoneAlignment:
    """Random phones of 30 ms each."""
    edges_s = np.append(np.arange(0, num_frames, 3), num_frames) * 0.01
    phones = rng.integers(len(PHONES), size=len(edges_s) - 1).astype(np.int16)
    return PhoneAlignment(edges_s[:-1], edges_s[1:], phones)


def utterances(
    subset: str, speakers: list[str], chapters: int = 1, each: int = 5, aligned: bool = True, seed: int = 0
) -> list[Utterance]:
    """``each`` utterances of 0.3 to 0.6 s in each chapter of each speaker; there are no files."""
    rng = np.random.default_rng(seed)
    made = []
    for speaker in speakers:
        for chapter in range(chapters):
            for number in range(each):
                num_frames = int(rng.integers(30, 60))
                id = f"{speaker}-{chapter + 9}-{number:04d}"
                phones = alignment(num_frames, rng) if aligned else None
                made.append(
                    Utterance(
                        id, Path(f"{id}.flac"), 16_000, num_frames * 160, speaker, str(chapter + 9), subset, "", phones
                    )
                )
    return made


def corpus(*parts: list[Utterance]) -> Corpus:
    everything = tuple(u for part in parts for u in part)
    phone_set = PHONES if any(u.phones is not None for u in everything) else ()
    return Corpus("toy", Path("/nowhere"), everything, phone_set, synthetic=True, note="made for a test")


def store(
    folder: Path,
    made: Corpus,
    seed: int = 0,
    label_dims: bool = False,
    num_states: int = 2,
    frame_repeat: int = 3,
    noise: dict[str, int] | None = None,
) -> FrameStore:
    """Random states of 6 dimensions; ``label_dims`` writes the frame's phone into the last state, ``noise`` maps
    utterance ids to another seed."""
    noise = noise or {}

    def items() -> Any:
        for number, u in enumerate(made.utterances):
            rng = np.random.default_rng([seed, number, noise.get(u.id, 0)])
            frames = rng.normal(size=(-(-u.num_frames // frame_repeat), num_states, 6)).astype(np.float32)
            if label_dims and u.phones is not None:
                middle = np.minimum(np.arange(len(frames)) * frame_repeat + frame_repeat // 2, u.num_frames - 1)
                frames[:, -1, : len(PHONES)] = np.eye(len(PHONES))[u.phones.frame_labels(u.num_frames)[middle]] * 3
            yield u.id, frames

    meta = {
        "frame_repeat": frame_repeat,
        "num_layers": num_states - 1,
        "dim": 6,
        "upstream_rate": 160 * frame_repeat,
    }
    return FrameStore.create(folder, items(), "float32", meta)


def tones(folder: Path, hertz: dict[str, float], each: int = 4) -> Corpus:
    """WAV files: each speaker hums one tone; lengths are no multiples of 10 ms."""
    made = []
    for speaker, pitch_hz in hertz.items():
        for number in range(each):
            num_samples = 3000 + 517 * number
            path = folder / f"{speaker}-0-{number:04d}.wav"
            wave = 0.1 * np.sin(2 * np.pi * pitch_hz * np.arange(num_samples) / 16_000)
            soundfile.write(path, wave, 16_000)
            num_frames = -(-num_samples // 160)
            phones = alignment(num_frames, np.random.default_rng([number, len(made)]))
            made.append(Utterance(path.stem, path, 16_000, num_samples, speaker, "0", "all", "", phones))
    return corpus(made)


class FakeUpstream(nn.Module):
    """Two states at 10 ms: the amplitude in 8 bands of each stretch of ``repeat`` frames, and twice that."""

    def __init__(self, repeat: int = 3) -> None:
        super().__init__()
        self.frame_repeat = repeat
        self.calls: list[list[int]] = []

    def get_downsample_rates(self, key: str) -> int:
        del key
        return 160

    def encode(self, wave: Tensor) -> Tensor:
        """(S,) -> (T, 8)."""
        span, num_frames = 160 * self.frame_repeat, -(-len(wave) // 160)
        pieces = nn.functional.pad(wave, (0, -len(wave) % span)).view(-1, span)
        bands = torch.fft.rfft(pieces)[:, 1:].abs().unflatten(1, (8, -1)).mean(2)
        values = bands / 160
        return values.repeat_interleave(self.frame_repeat, dim=0)[:num_frames]

    def forward(self, waves: list[Tensor]) -> dict[str, list[Tensor]]:
        self.calls.append([len(wave) for wave in waves])
        assert not torch.is_grad_enabled() or self.training
        batch = nn.utils.rnn.pad_sequence([self.encode(wave) for wave in waves], batch_first=True)
        return {"hidden_states": [batch, 2 * batch]}
