"""Resampling to 16 kHz at any rate, also at those for which torchaudio's table of filters would fill the memory.

torchaudio makes one filter for each phase between the two rates: 160 of them for 44.1 kHz, but 16,000 of 16,015 taps
each (5 GB and half a minute) for 16,001 Hz. There the same filter is evaluated where it is needed instead.
"""

import math

import torch

from .corpus import SAMPLE_RATE_HZ, num_samples_at_16k

ZERO_CROSSINGS, ROLL_OFF = 6, 0.99  # torchaudio's defaults: half the filter's length, and its edge
MAX_TABLE = 2**24  # numbers in torchaudio's table of filters
CHUNK_SAMPLES = 2**16


def resample_to_16k(wave: torch.Tensor, rate_hz: int) -> torch.Tensor:
    """Resample (S,) float32 to exactly ``ceil(S * 16000 / rate_hz)`` samples."""
    shared = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    if (rate_hz // shared) * (SAMPLE_RATE_HZ // shared) > MAX_TABLE:
        return _resample_pointwise(wave, rate_hz)
    from torchaudio.functional import resample

    # torchaudio computes the length in float32, which is off for long recordings: append spare zeros, then cut
    spare = math.ceil(0.01 * rate_hz)
    padded = torch.nn.functional.pad(wave, (0, spare))
    return resample(padded, rate_hz, SAMPLE_RATE_HZ)[: num_samples_at_16k(len(wave), rate_hz)].contiguous()


def _resample_pointwise(wave: torch.Tensor, rate_hz: int) -> torch.Tensor:
    """The Hann-windowed sinc of torchaudio, computed for each output sample."""
    edge = ROLL_OFF * min(rate_hz, SAMPLE_RATE_HZ) / rate_hz  # of the filter, relative to the input's Nyquist rate
    width = math.ceil(ZERO_CROSSINGS / edge)
    padded = torch.nn.functional.pad(wave, (width, width + 1))
    taps = torch.arange(-width, width + 1)
    chunks = []
    for outputs in torch.arange(num_samples_at_16k(len(wave), rate_hz)).split(CHUNK_SAMPLES):
        nearest = outputs * rate_hz // SAMPLE_RATE_HZ  # the input sample at or before each output sample
        fraction = (outputs * rate_hz % SAMPLE_RATE_HZ).double() / SAMPLE_RATE_HZ
        crossings = ((taps - fraction[:, None]) * edge).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)  # (chunk, taps)
        window = torch.cos(crossings * math.pi / (2 * ZERO_CROSSINGS)).square()
        weights = (torch.sinc(crossings) * window * edge).float()
        inputs = padded[nearest[:, None] + taps + width]
        chunks.append((weights * inputs).sum(dim=1))
    return torch.cat(chunks)
