"""Peak memory of one upstream, each measured in a process of its own.

python -m s3prl_attention.benchmark.memory '{"upstream": "fixed_init", "preset": "demo", "overrides": []}'
"""

import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .names import is_foreign

if TYPE_CHECKING:
    import torch

TIMEOUT_S = 600
FAILED = 1  # Python's exit code after an exception


Memory = dict[str, int | None]


class ProcessDied(RuntimeError):
    """The process that weighs an upstream ended without an exception, as when the system kills it."""


def peak_memory(upstream: str, preset: str, overrides: Sequence[str], threads: int, device: str) -> Memory:
    """Peak bytes beyond what Python and PyTorch take: ``inference_bytes`` (longest timed utterance), ``train_bytes``.
    An upstream of s3prl is not trained, and its bytes are those beyond what all of s3prl takes.

    Raises:
        ProcessDied: when the process dies, of lack of memory above all.
        RuntimeError: when it fails in another way, with its last line.
    """
    spec = {"upstream": upstream, "preset": preset, "overrides": list(overrides), "threads": threads, "device": device}
    command = [sys.executable, "-m", "s3prl_attention.benchmark.memory", json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode not in (0, FAILED):
        killed = done.returncode == -signal.SIGKILL
        why = "it was killed, as the system does when memory runs out" if killed else f"exit code {done.returncode}"
        raise ProcessDied(f"the process that weighs its memory died ({why})")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"measuring the memory of {upstream} failed: {lines[-1] if lines else done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(spec: dict) -> Memory:
    import torch

    from ..upstream import s3prl_upstreams
    from .settings import load_study
    from .workloads import encoder_for, inference, stacked_frames, train_step, whole

    torch.set_num_threads(spec["threads"])
    device = torch.device(spec["device"])
    study = load_study(spec["upstream"], spec["preset"], spec["overrides"])
    _load_libraries(device)
    if is_foreign(study.upstream):
        s3prl_upstreams.hub()
        start = start_count(device)
        expert = s3prl_upstreams.load_foreign(s3prl_upstreams.parse(study.upstream))
        whole(expert.to(device), max(study.timing.lengths_s), device)()
        return {"inference_bytes": max(0, peak_bytes(device) - start), "train_bytes": None}
    start = start_count(device)
    longest = stacked_frames(max(study.timing.lengths_s), study.recipe.model.stack)
    inference(encoder_for(study.recipe, longest, device), longest, study.recipe.model.input_dim, device)()
    inferred = peak_bytes(device) - start
    train = train_step(study.recipe, study.timing, device)
    for _ in range(2):  # the optimiser's state comes with the first step
        train()
    return {"inference_bytes": max(0, inferred), "train_bytes": max(0, peak_bytes(device) - start)}


def _load_libraries(device: "torch.device") -> None:
    """Let PyTorch load all that a first step loads, before the count starts."""
    import torch

    layer = torch.nn.Linear(64, 64).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.randn(64, 64, device=device)).sum().backward()
    optimizer.step()


def start_count(device: "torch.device") -> int:
    """Bytes in use now; on Linux the peak so far (imports, above all) is forgotten."""
    if device.type != "cuda" and Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes(device)


def peak_bytes(device: "torch.device") -> int:
    """The most bytes that were in use at once."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # Windows
        raise SystemExit("peak memory is not measured on this system") from None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
