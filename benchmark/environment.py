"""The machine and the software of a run, for the result file."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "s3prl", "numpy", "s3prl-attention")
CODE = ("upstream", "downstream", "benchmark", "recipes", "run_benchmark.py", "setup.py")  # what results hang on


def describe(threads: int, device: str = "cpu") -> dict:
    """The ``environment`` section of a cell that ran with ``threads`` threads. What cannot be found out is None; only
    what ran on a GPU has ``gpu``, its model."""
    commit, dirty = _own_git_state()
    gpu = _gpu_model(device)
    return {
        "cpu": _cpu_model(),
        "cores": _num_cores(),
        "threads": threads,
        "ram_bytes": _ram_bytes(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": commit,
        "git_dirty": dirty,
        **({"gpu": gpu} if gpu else {}),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine() or "unknown"


def _gpu_model(device: str) -> str | None:
    """None for the CPU, and on a machine without GPUs, as one that only submits jobs may be."""
    if not device.startswith("cuda"):
        return None
    import torch  # not needed elsewhere here

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else None


def _num_cores() -> int | None:
    """Logical cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache  # the code that runs is the one that was there first, and a run writes many cells
def _own_git_state() -> tuple[str | None, bool | None]:
    return _git_state(Path(__file__).resolve().parents[1])


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag when ``root`` itself is a git checkout. A package installed inside somebody else's checkout
    (a virtual environment in a project) must not take that project's commit for its own. Only the code makes it dirty,
    not results, notes or data beside it."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root.resolve():
        return None, None
    status = _git(root, "status", "--porcelain", "--", *CODE)
    return _git(root, "rev-parse", "--verify", "--quiet", "HEAD") or None, None if status is None else bool(status)


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command in ``root``, None when it fails or git is missing."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}  # as set inside a git hook
    clean["GIT_OPTIONAL_LOCKS"] = "0"  # reading the status must not write to the checkout
    try:
        done = subprocess.run(["git", *arguments], cwd=root, env=clean, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
