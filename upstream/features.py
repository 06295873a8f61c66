"""Waveforms to stacked log-Mel frames: the input that every upstream shares.

Legend: B batch, S samples, T 10 ms frames, n stacked frames, F Mel bands.
"""

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160  # 10 ms
WINDOW_SAMPLES = 400  # 25 ms
FFT_SAMPLES = 512
LEVEL_DBFS = -25.0
FLOOR = 1e-8  # about -80 dB below the level that every utterance is scaled to


def num_frames(num_samples: int) -> int:
    """10 ms frames of a 16 kHz waveform: frame i is centred on (i + 0.5) * 10 ms and the last one may be partial."""
    return math.ceil(num_samples / HOP_SAMPLES)


class LogMel(nn.Module):
    """Log-Mel energies of one utterance, scaled to -25 dBFS and normalised by corpus statistics.

    ``mean`` and ``std`` (num_mels,) are buffers: zeros and ones until ``fit`` or a checkpoint fills them. They belong
    to the corpus, never to the utterance, because normalising each utterance erases the speaker.
    """

    mean: Tensor
    std: Tensor
    window: Tensor
    banks: Tensor

    def __init__(self, *, num_mels: int = 80) -> None:
        super().__init__()
        self.num_mels = num_mels
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("std", torch.ones(num_mels))
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES, periodic=True), persistent=False)
        banks = melscale_fbanks(
            n_freqs=FFT_SAMPLES // 2 + 1,
            f_min=20.0,
            f_max=SAMPLE_RATE_HZ / 2,
            n_mels=num_mels,
            sample_rate=SAMPLE_RATE_HZ,
            mel_scale="slaney",
        )
        self.register_buffer("banks", banks, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Map a waveform (S,), float or signed integers of any scale, 16 kHz, to normalised log-Mel frames (T, F).

        Frames see nothing but this utterance, so they cannot depend on a batch.

        Raises:
            ValueError: for what is no tensor of such numbers, is empty, not 1-D, or holds NaN or infinity.
        """
        return (self.raw(wave) - self.mean) / self.std

    def raw(self, wave: Tensor) -> Tensor:
        """The log-Mel frames (T, F) before the corpus statistics are applied."""
        if not isinstance(wave, Tensor) or not wave.dtype.is_signed or wave.is_complex():  # uint8 has its zero at 128
            kind = wave.dtype if isinstance(wave, Tensor) else type(wave).__name__
            raise ValueError(f"a waveform must be a tensor of float or signed integers, got {kind}: make one of it")
        if wave.dim() != 1 or wave.numel() == 0:
            raise ValueError(f"a waveform must be 1-D and not empty, got shape {tuple(wave.shape)}: mix it to mono")
        precise = torch.promote_types(self.window.dtype, torch.float32)  # half precision would lose quiet speech
        wave = wave.to(precise)
        power = wave.square().mean()
        if not torch.isfinite(power):
            raise ValueError("a waveform holds NaN or infinity, or numbers above 1e18: repair or remove the recording")
        level = 10 ** (LEVEL_DBFS / 20)
        wave = wave * torch.where(power > 0, level / power.sqrt().clamp_min(1e-12), 1.0)

        left = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
        frames = num_frames(wave.numel())
        right = (frames - 1) * HOP_SAMPLES + WINDOW_SAMPLES - left - wave.numel()
        padded = nn.functional.pad(wave, (left, right))
        windows = padded.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES) * self.window.to(precise)  # (T, 400)
        spectrum = torch.fft.rfft(windows, n=FFT_SAMPLES)  # (T, 257)
        with torch.autocast(wave.device.type, enabled=False):  # half precision holds neither FLOOR nor loud bands
            energies = (spectrum.real.square() + spectrum.imag.square()) @ self.banks.to(precise)  # (T, F)
        return energies.clamp_min(FLOOR).log()

    @torch.no_grad()
    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Set the corpus statistics, each (num_mels,)."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))


def stack_frames(frames: Tensor, stack: int) -> Tensor:
    """Join ``stack`` consecutive frames: (T, F) -> (ceil(T / stack), stack * F); the last is filled with zeros."""
    missing = -len(frames) % stack
    return nn.functional.pad(frames, (0, 0, 0, missing)).reshape(-1, stack * frames.shape[-1])


def check_batch(name: str, wavs: object) -> None:
    """Raises ``ValueError`` for what is no list of waveforms; each of them is looked at by ``LogMel``."""
    if not isinstance(wavs, (list, tuple)):
        raise ValueError(f"upstream {name!r} takes a list of waveforms, got {type(wavs).__name__}: put it in a list")
    if not wavs:
        raise ValueError(f"upstream {name!r} needs at least one waveform, got an empty list")


def pad_frames(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad utterances (n_i, D) to a batch (B, n, D) with its mask ``keep`` (B, n) bool, True = valid."""
    lengths = torch.tensor([len(frames) for frames in utterances], device=utterances[0].device)
    batch = nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    keep = torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]
    return batch, keep
