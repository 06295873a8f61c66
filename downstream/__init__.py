"""Downstream tasks that probe frozen upstreams: ``names()``, ``expand(words)``, ``load(name)``, ``config(name)``."""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

from ..upstream.plugins import TASKS
from ..upstream.registry import nearest

__all__ = ["GROUPS", "TASKS", "config", "config_path", "expand", "load", "names"]

log = logging.getLogger(__name__)

PARTS = ("INFO", "DownstreamExpert", "folds")
GROUPS = {"phone": "phone", "speakers": "speaker", "labels": "label"}  # word -> the kind of its tasks


def names() -> list[str]:
    """The names of all tasks, sorted: folders here and those other packages offer. Imports none of them."""
    return TASKS.names()


def expand(words: Sequence[str]) -> list[str]:
    """Task names from words: names, groups (``GROUPS``: all tasks of a kind), and shell patterns such as ``*_1hidden``.

    In the order of the words, each task once; what a word stands for is sorted. A name goes before a group. Only groups
    import tasks; one that cannot be imported is in no group, which a warning tells.

    Raises:
        ValueError: for a word that is none of these, with the nearest tasks and groups, and for a pattern or group
            without a task.
    """
    return list(dict.fromkeys(name for word in words for name in _expanded(word)))


def _expanded(word: str) -> list[str]:
    known = names()
    if word in known:
        return [word]
    if word in GROUPS:
        found = [name for name in known if _kind(name) == GROUPS[word]]
    elif "*" in word:
        found = [name for name in known if fnmatchcase(name, word)]
    else:
        raise ValueError(f"unknown downstream {word!r}: {nearest(word, [*known, *GROUPS])}")
    if not found:
        raise ValueError(f"no downstream is meant by {word!r}: {nearest(word, [*known, *GROUPS])}")
    return found


def _kind(name: str) -> str | None:
    """The kind of a task; None for one that cannot be imported."""
    try:
        return load(name).INFO.kind
    except ValueError as error:
        log.warning("%s; it is in no group", error)
        return None


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
    from ..upstream.plain_yaml import read_yaml

    return read_yaml(config_path(name))
