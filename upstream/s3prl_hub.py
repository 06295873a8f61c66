"""Makes our upstreams and tasks known to an unmodified s3prl.

    from s3prl_attention.upstream.s3prl_hub import register
    register()
    S3PRLUpstream("fixed_init", path_or_url="result/pretrain/.../checkpoint")

``s3prl.hub`` gets ``fixed_init(ckpt=None, ...)`` and ``fixed_init_local(ckpt, ...)`` for every upstream, by s3prl's
convention; ``s3prl.downstream`` gets the tasks. Nothing of s3prl is written to or replaced: a task whose name s3prl has
already (its ``phone_linear``) is called ``attention_phone_linear``, an upstream likewise.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from s3prl.upstream.interfaces import UpstreamBase

from . import load
from .plugins import TASKS, UPSTREAMS
from .registry import did_you_mean
from .s3prl_compat import import_hub
from .s3prl_upstreams import PREFIX, is_ours

OWN = "attention_"  # before a name of ours that s3prl has, in s3prl
LOCAL = "_local"  # s3prl's ending of the functions that need a checkpoint
Build = Callable[..., UpstreamBase]


@dataclass(frozen=True)
class Registered:
    """By our name, the name under which s3prl knows an upstream or a task."""

    upstreams: dict[str, str]
    tasks: dict[str, str]


def register(tasks: bool = True) -> Registered:
    """Add all upstreams to ``s3prl.hub``, and with ``tasks`` those to ``s3prl.downstream``; once more changes nothing.

    None of them is imported before it is used.

    Raises:
        ValueError: when s3prl has both a name and its form with ``attention_``.
    """
    hub = import_hub()
    theirs = {name for name, value in vars(hub).items() if not is_ours(value)}
    known = {name: _free(name, theirs, ("", LOCAL)) for name in UPSTREAMS.names()}
    for name, called in known.items():
        for attribute, build in entries(name, called).items():
            if attribute not in vars(hub):
                setattr(hub, attribute, build)
    return Registered(known, _register_tasks() if tasks else {})


def upstream_in_s3prl(name: str, registered: Registered) -> str:
    """The function of ``s3prl.hub`` that ``name`` means: ours, else s3prl's; ``s3prl:NAME`` is s3prl's in any case.

    Raises:
        ValueError: where there is none, with the nearest names.
    """
    hub, asked = import_hub(), name.removeprefix(PREFIX)
    called = registered.upstreams.get(name, asked)
    options = [option for option in hub.options() if asked == name or not is_ours(vars(hub)[option])]
    if called not in options:
        near = " ".join([did_you_mean(asked, options), f"known: {', '.join(registered.upstreams)}"]).lstrip()
        raise ValueError(f"unknown upstream {name!r}: {near}, and all of s3prl's hub")
    return called


def entries(name: str, called: str | None = None) -> dict[str, Build]:
    """The two functions of an upstream in a hubconf: ``called`` (its name by default) and ``called`` + ``_local``."""
    called = called or name
    local = called + LOCAL
    return {called: _Entry(name, called), local: _Entry(name, local, needs_ckpt=True)}


class _Entry:
    """Builds an upstream as s3prl calls for it: ``entry(ckpt=..., model_config=..., refresh=...)``.

    Utterances longer than ``max_frames`` are encoded in windows, as in our benchmark, unless ``long_input`` says else.
    """

    of_s3prl_attention = True  # by which ``is_ours`` knows it

    def __init__(self, name: str, called: str, needs_ckpt: bool = False) -> None:
        self.name, self.needs_ckpt = name, needs_ckpt
        self.__name__ = called
        weights = "the weights of a checkpoint folder" if needs_ckpt else "random weights, or those of ckpt"
        self.__doc__ = f"The upstream {name} of s3prl-attention, with {weights}."

    def __call__(
        self, ckpt: str | Path | None = None, model_config: str | Path | None = None, **options: Any
    ) -> UpstreamBase:
        """The expert; ``ValueError`` for a missing or unusable checkpoint and for unknown options."""
        if self.needs_ckpt and ckpt is None:
            short = self.__name__.removesuffix(LOCAL)
            raise ValueError(f"{self.__name__} needs ckpt (-k): name a checkpoint folder, or use {short}")
        return load(self.name, ckpt, **{"long_input": "windows", "model_config": model_config, **options})


def _free(name: str, theirs: set[str], endings: Sequence[str] = ("",)) -> str:
    """``name``, or with a prefix where s3prl has it (with one of the ``endings``)."""
    for called in (name, OWN + name):
        if theirs.isdisjoint(called + ending for ending in endings):
            return called
    raise ValueError(f"s3prl has both {name!r} and {OWN + name!r}: give ours another name to register it")


def _register_tasks() -> dict[str, str]:
    """Let ``import s3prl.downstream.<task>.expert`` find our tasks; s3prl's own come first."""
    package = importlib.import_module("s3prl.downstream")
    theirs = {path.stem for folder in package.__path__ for path in Path(folder).iterdir()}  # modules among them
    known = {name: _free(name, theirs) for name in TASKS.names()}
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _TaskFinder)), _TaskFinder())
    finder.packages = {f"{package.__name__}.{called}": TASKS.packages[name] for name, called in known.items()}
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)  # before the path finder, which would load the files a second time
    return known


class _TaskFinder(importlib.abc.MetaPathFinder):
    """Finds the tasks' modules under s3prl's names: the same modules, so that their relative imports hold."""

    packages: dict[str, str]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for ``s3prl.downstream.<task>`` and what is below; None for all else."""
        del path, target
        task = ".".join(fullname.split(".")[:3])
        if task not in self.packages:
            return None
        real = importlib.import_module(self.packages[task] + fullname.removeprefix(task))
        return importlib.machinery.ModuleSpec(fullname, _Same(real), is_package=hasattr(real, "__path__"))


class _Same(importlib.abc.Loader):
    """Loads a module that is there already, and leaves it as it was."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module that is there."""
        del spec
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run; what the import system wrote into it is taken back."""
        module.__spec__ = self.spec
