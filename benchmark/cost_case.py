"""One attention at one length, as the cost audit runs it: alone, and within a whole layer.

Legend: D model dim, n frames; batch 1.
"""

import ctypes
import gc
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..upstream import names
from ..upstream.allocator import keep_freed_memory
from ..upstream.contract import Entry, Variant, entry
from ..upstream.encoder import Encoder, EncoderLayer, EncoderOptions, initialise
from ..upstream.kernels.onednn import fast_linear
from ..upstream.options import typed
from ..upstream.registry import nearest
from .memory import peak_bytes, start_count
from .names import attention_of, words_of
from .variants import options_of, row_name

ATTENTION, LAYER, TRAIN = "attention forward", "layer forward", "layer forward+backward"
PHASES = (ATTENTION, LAYER, TRAIN)
MALLOC_MMAP_THRESHOLD, MAPPED_FROM_BYTES = -3, 1 << 16  # malloc.h
WARM_UP_FRAMES = 16
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What a process of the audit needs to know; ``max_bytes`` is the most memory that it may take."""

    row: str
    num_frames: int
    hidden_dim: int
    num_heads: int
    threads: int
    max_bytes: int | None = None


def rows_of(wanted: str) -> list[str]:
    """``name`` -> the row of the upstream and one for each variant; ``name[variant]`` or ``name[option=value]`` -> that
    row alone (``variants.py``). ``ValueError`` names the nearest when there is none; an upstream that cannot be
    imported is one row."""
    name, one = attention_of(wanted), words_of(wanted)
    if name not in names():
        raise ValueError(f"unknown upstream {name!r}: {nearest(name, names())}")
    try:
        found = entry(name)
    except ValueError:
        return [wanted]
    if one or name != wanted:
        usual = found.own
        own = asdict(typed(found.options, {**usual, **options_of(wanted)}, wanted))
        return [row_name(name, own, usual)]
    return [f"{name}[{each.variant}]" if each.variant else name for each in found.variants()]


def entry_of(row: str) -> Entry:
    """The imported folder behind a row, with its options as a variant."""
    found, own = entry(attention_of(row)), options_of(row)
    if not own:
        return found
    variant = Variant(own, found.info.order_with({**found.own, **own}))
    return replace(found, info=replace(found.info, variants={row: variant}), variant=row)


def module_bytes(case: Case) -> Callable[[int], int]:
    """In the process: number of frames -> bytes of the attention's parameters and buffers."""
    return lambda num_frames: _bytes(_layer(replace(case, num_frames=num_frames)).attention)


def timed(case: Case) -> Callable[[str], float]:
    """In the process: phase -> seconds of one call."""
    torch.set_num_threads(case.threads)
    _limit(case.max_bytes)
    keep_freed_memory()
    gc.disable()
    run = _runner(case, _layer(case))
    last = ""

    def once(phase: str) -> float:
        nonlocal last
        if phase != last:
            gc.collect()
            last = phase
        start_s = time.perf_counter()
        run(phase)
        return time.perf_counter() - start_s

    return once


def weighed(case: Case) -> Callable[[str], dict[str, float]]:
    """In the process: phase -> ``peak_bytes`` beyond what the built layer and its input take, ``first_call_s`` of the
    call that was weighed, and ``module_bytes`` of the attention's parameters and buffers.

    What evaluation keeps between calls counts; gradients of parameters count in training.
    """
    torch.set_num_threads(case.threads)
    _limit(case.max_bytes)
    glibc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if glibc:
        glibc.mallopt(MALLOC_MMAP_THRESHOLD, MAPPED_FROM_BYTES)  # every tensor goes back to the system when freed
    short = replace(case, num_frames=min(WARM_UP_FRAMES, case.num_frames))
    warm_up = _runner(short, _layer(short))
    layer = _layer(case)
    run = _runner(case, layer)

    def once(phase: str) -> dict[str, float]:
        warm_up(phase)  # loads and starts all that first calls load and start
        layer.train()  # drops what evaluation had kept
        layer.zero_grad(set_to_none=True)
        gc.collect()
        if glibc:
            glibc.malloc_trim(0)
        before = start_count(CPU)
        start_s = time.perf_counter()
        run(phase)
        lasted_s = time.perf_counter() - start_s
        peak = max(0, peak_bytes(CPU) - before)
        return {"peak_bytes": peak, "first_call_s": lasted_s, "module_bytes": _bytes(layer.attention)}

    return once


def _layer(case: Case) -> EncoderLayer:
    """A layer with fresh weights, as in an encoder whose ``max_frames`` is this length."""
    torch.manual_seed(0)
    found = entry_of(case.row)
    if case.num_heads < found.info.min_heads:
        raise ValueError(f"needs at least {found.info.min_heads} heads, got {case.num_heads}")
    sizes = {"hidden_dim": case.hidden_dim, "num_heads": case.num_heads, "max_frames": case.num_frames, "dropout": 0.0}
    options = EncoderOptions(num_layers=1, **sizes)  # type: ignore[arg-type]
    encoder = Encoder(options, lambda: found.attention(**sizes, **found.own))
    initialise(encoder, options.weight_init)
    layer = encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    return layer


def _runner(case: Case, layer: EncoderLayer) -> Callable[[str], None]:
    """Phase -> one call of it, linear layers as in an encoder."""
    x = torch.randn(1, case.num_frames, case.hidden_dim)
    grad = torch.randn_like(x)

    def run(phase: str) -> None:
        training = phase == TRAIN
        if layer.training != training:
            layer.train(training)
            layer.zero_grad(set_to_none=True)
        if training:
            _forward_backward(layer, x, grad)
            return
        with torch.inference_mode(), fast_linear():
            (layer.attention if phase == ATTENTION else layer)(x, None)

    return run


def _forward_backward(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    """Gradients of the parameters and of the input (1, n, D)."""
    layer.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    with fast_linear():
        out = layer(x, None)
    out.backward(grad)


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _limit(max_bytes: int | None) -> None:
    """Let an allocation fail that takes ``max_bytes`` more than now, before the system has to end a process (Linux)."""
    status = Path("/proc/self/status")
    if not max_bytes or not status.exists():
        return
    import resource

    found = re.search(r"VmData:\s+(\d+) kB", status.read_text())
    limit = max_bytes + 1024 * int(found[1] if found else 0)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
