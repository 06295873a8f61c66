"""Waveforms of every kind through every upstream: hidden states as promised, or a clear error."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz_fixtures import RIGHT, Target, fuzz, refusal
from hypothesis import strategies as st
from s3prl_attention.upstream import load, names

STACK, MAX_FRAMES, NUM_MELS = 3, 16, 20
SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 2, "max_frames": MAX_FRAMES, "num_mels": NUM_MELS}
WINDOW = MAX_FRAMES * STACK * 160  # samples of the longest input that is not cut into windows
BORDERS = (160, 200, 240, 400, 480, 560, WINDOW // 2, WINDOW, 2 * WINDOW, 3 * WINDOW)
LENGTHS = st.one_of(
    st.integers(0, 1700),
    st.builds(lambda border, by: max(0, border + by), st.sampled_from(BORDERS), st.integers(-2, 2)),
    st.integers(0, 30_000),
    st.sampled_from([0, 0, 1, 2]),
)
LONG = st.integers(100_000, 400_000)
KINDS = ("noise", "silence", "constant", "clipped", "impulse", "loud", "faint", "sine", "nan", "inf", "one nan")
DTYPES = (
    "float32",
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
    "complex64",
)
FORMS = (
    "tensor",
    "tensor",
    "tensor",
    "strided",
    "reversed view",
    "expanded",
    "numpy",
    "list",
    "row",
    "channels",
    "scalar",
    "text",
    "none",
)


@st.composite
def waveforms(draw: st.DrawFn, lengths: st.SearchStrategy[int] = LENGTHS) -> tuple[str, str, str, int, int]:
    """How a waveform is made: kind, dtype, form, samples, seed; most are sound."""
    sound = draw(st.integers(0, 3)) > 0
    kind = draw(st.sampled_from(KINDS[:8] if sound else KINDS))
    dtype = draw(st.sampled_from(DTYPES[:4] if sound else DTYPES))
    form = draw(st.sampled_from(FORMS[:6] if sound else FORMS))
    return kind, dtype, form, draw(lengths), draw(st.integers(0, 1 << 16))


def made(kind: str, dtype: str, form: str, length: int, seed: int) -> Any:
    """The waveform."""
    noise = torch.randn(length, generator=torch.Generator().manual_seed(seed))
    times_s = torch.arange(length) / 16_000
    wave = {
        "noise": lambda: 0.1 * noise,
        "silence": lambda: torch.zeros(length),
        "constant": lambda: torch.full((length,), 0.5),
        "clipped": lambda: (20 * noise).clamp(-1, 1),
        "impulse": lambda: torch.zeros(length).index_fill(0, torch.tensor([length // 2])[: min(1, length)], 1.0),
        "loud": lambda: 3e4 * noise,
        "faint": lambda: 1e-6 * noise,
        "sine": lambda: torch.sin(2 * math.pi * 440 * times_s),
        "nan": lambda: torch.full((length,), math.nan),
        "inf": lambda: torch.full((length,), -math.inf),
        "one nan": lambda: noise.index_fill(0, torch.tensor([length - 1])[: min(1, length)], math.nan),
    }[kind]()
    if dtype.startswith(("int", "uint", "bool")):
        wave = (
            (wave.nan_to_num(0, 1, -1) * 100).clamp(-100, 100).abs()
            if dtype == "uint8"
            else wave.nan_to_num(0, 1, -1) * 100
        )
    wave = wave.to(getattr(torch, dtype))
    if form == "strided":
        return wave.repeat_interleave(2)[::2]
    if form == "reversed view":
        return wave.flip(0).as_strided((length,), (1,)) if length else wave
    if form == "expanded":
        return wave[:1].expand(length) if length else wave
    if form == "numpy":
        return wave.float().numpy() if dtype == "bfloat16" else wave.numpy()
    if form == "list":
        return wave.tolist()
    if form in ("row", "channels"):
        return wave[None] if form == "row" else wave.expand(2, -1)
    return {"scalar": torch.tensor(0.5), "text": "wave", "none": None}.get(form, wave)


def good(kind: str, dtype: str, form: str, length: int, seed: int) -> bool:
    """Whether a waveform must be taken."""
    del seed
    left_out = kind == "one nan" and form == "expanded" and length > 1  # the first sample alone is repeated
    sound = kind not in ("nan", "inf", "one nan") or dtype in ("int16", "int32", "int64") or left_out
    overflow = kind == "loud" and dtype == "float16"  # noise may go beyond 65504
    return length > 0 and sound and not overflow and dtype not in ("uint8", "bool", "complex64") and form in FORMS[:6]


@cache
def expert(name: str, long_input: str) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_mels": NUM_MELS} if name == "mel" else {**SIZES, "long_input": long_input}
    return load(name, **options).eval()


def check(example: tuple[str, str, list[tuple[str, str, str, int, int]]], folder: Path) -> str:
    """One batch through one upstream."""
    del folder
    name, long_input, made_of = example
    upstream, waves = expert(name, long_input), [made(*one) for one in made_of]
    try:
        with torch.no_grad():
            states = upstream(waves)["hidden_states"]
    except BaseException as error:
        can_be_long = name == "mel" or long_input == "windows"
        short = all(one[3] <= WINDOW for one in made_of)
        if made_of and all(good(*one) for one in made_of) and (short or can_be_long):
            raise
        return refusal(error)
    assert all(good(*one) or one[1] == "float16" for one in made_of), "taken, though it is no waveform"
    frames = [math.ceil(one[3] / 160) for one in made_of]
    dim = NUM_MELS if name == "mel" else SIZES["hidden_dim"]
    assert len(states) == (1 if name == "mel" else 3)
    for state in states:
        assert state.shape == (len(waves), max(frames), dim)
        assert state.is_floating_point()
        assert torch.isfinite(state).all()
        assert all(not state[row, count:].any() for row, count in enumerate(frames)), "padding is not zero"
    if len(waves) > 1:
        with torch.no_grad():
            alone = upstream([waves[0]])["hidden_states"]
        for state, own in zip(states, alone, strict=True):
            torch.testing.assert_close(state[0, : frames[0]], own[0], atol=2e-4, rtol=1e-3)
    return RIGHT


def batches(name: str) -> st.SearchStrategy[Any]:
    waves = st.lists(waveforms(), min_size=1, max_size=3)
    rare = st.one_of(st.just([]), waveforms(LONG).map(lambda one: [one]))
    few = st.integers(0, 19).flatmap(lambda number: rare if number == 0 else waves)
    return st.tuples(st.just(name), st.sampled_from(["windows", "windows", "error"]), few)


TARGETS = [Target(f"waveforms {name}", batches(name), check, quick=14) for name in [*names(), "mel"]]
IDS = [target.name for target in TARGETS]


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_waveforms(target, tmp_path):
    fuzz(target, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_many_waveforms(target, tmp_path):
    fuzz(target, tmp_path, slow=True)
