"""A fingerprint of the code behind a number, so that no result outlives a change of what made it."""

import hashlib
from functools import cache
from pathlib import Path

from .. import downstream, recipes, upstream
from ..downstream import TASKS
from ..upstream.contract import UPSTREAMS

PRETRAINING = ("batches.py", "objective.py", "pretrain.py")


@cache
def source_hash(upstream_name: str) -> str:
    """12 digits that change with the upstream's own code, the shared encoder, or the pre-training."""
    shared = _folder(upstream)
    files = [*shared.glob("*.py"), *shared.glob("kernels/*.py"), *(_folder(recipes) / name for name in PRETRAINING)]
    if upstream_name in UPSTREAMS.names():
        files += UPSTREAMS.folder(upstream_name).rglob("*.py")
    return _digest(files)


@cache
def task_hash(task: str) -> str:
    """12 digits that change with the task's own code or that of the probe."""
    shared = _folder(downstream)
    return _digest([*shared.glob("*.py"), *TASKS.folder(task).glob("*.py"), *TASKS.folder(task).glob("*.yaml")])


def _folder(package: object) -> Path:
    return Path(next(iter(package.__path__)))  # type: ignore[attr-defined]  # packages have a path


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
