"""Downstream tasks that probe frozen upstreams: ``names()``, ``load(name)``, ``config(name)``."""

from pathlib import Path
from types import ModuleType
from typing import Any

from ..upstream.registry import Registry

__all__ = ["TASKS", "config", "config_path", "load", "names"]

TASKS = Registry(kind="downstream", package=__name__, marker="expert", group="s3prl_attention.downstreams")
PARTS = ("INFO", "DownstreamExpert", "folds")


def names() -> list[str]:
    """The names of all tasks, sorted: folders here and those other packages offer. Imports none of them."""
    return TASKS.names()


def load(name: str) -> ModuleType:
    """The ``expert`` module of a task.

    It holds ``INFO`` (``TaskInfo``), ``folds(corpus, subsets=()) -> list[Fold]`` and ``DownstreamExpert``.

    Raises:
        ValueError: for an unknown name (with the nearest ones), or for a module that lacks one of the three.
    """
    module = TASKS.load(name, "expert")
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise ValueError(f"the downstream {name!r} lacks {', '.join(missing)}: see CONTRIBUTING.md, 'Add a task'")
    return module


def config_path(name: str) -> Path:
    """The task's ``config.yaml``, with s3prl's sections (``runner``, ``optimizer``, ``downstream_expert``)."""
    return TASKS.folder(name) / "config.yaml"


def config(name: str) -> dict[str, Any]:
    """The content of the task's ``config.yaml``."""
    import yaml

    return yaml.safe_load(config_path(name).read_text(encoding="utf-8"))
