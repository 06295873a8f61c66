"""Gives s3prl 0.4.18 what it imports and today's packages no longer have: in memory, and only what is missing.

``import s3prl.hub`` wants ``torchaudio.set_audio_backend`` and ``torchaudio.sox_effects`` (gone in torchaudio 2.9) and
``huggingface_hub.HfFolder`` and ``Repository`` (gone in huggingface_hub 1.0); to resume, ``s3prl.run_downstream`` loads
an ``argparse.Namespace``, which torch 2.6 refuses unless it is called safe. From Python 3.12 on ``distutils`` is there
only where setuptools is. When s3prl needs this module no longer, ``supply_missing`` returns an empty list, and it can
go.
"""

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import huggingface_hub
import torch
import torchaudio

SOX = "torchaudio.sox_effects"


def supply_missing() -> list[str]:
    """Supply what is missing; returns what that was, nothing at the second call. Nothing that exists is replaced."""
    supplied = []
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = _choose_no_backend
        supplied.append("torchaudio.set_audio_backend")
    if SOX not in sys.modules and importlib.util.find_spec(SOX) is None:
        sox = ModuleType(SOX, "Effects that raise when they are called.")
        for name in ("apply_effects_tensor", "apply_effects_file"):
            setattr(sox, name, _gone(f"{SOX}.{name}", "torchaudio below 2.9"))
        sys.modules[SOX] = torchaudio.sox_effects = sox
        supplied.append(SOX)
    for name, methods in {"HfFolder": ("get_token", "save_token"), "Repository": ("__init__",)}.items():
        if not hasattr(huggingface_hub, name):
            raising = _gone(f"huggingface_hub.{name}", "huggingface_hub below 1.0")
            body = {method: raising if method == "__init__" else staticmethod(raising) for method in methods}
            setattr(huggingface_hub, name, type(name, (), body))
            supplied.append(f"huggingface_hub.{name}")
    if "distutils" not in sys.modules and importlib.util.find_spec("distutils") is None:
        distutils, util = ModuleType("distutils"), ModuleType("distutils.util")
        distutils.util, util.strtobool = util, _strtobool  # type: ignore[attr-defined]  # a module takes any attribute
        sys.modules |= {"distutils": distutils, "distutils.util": util}
        supplied.append("distutils.util.strtobool")
    if argparse.Namespace not in torch.serialization.get_safe_globals():
        torch.serialization.add_safe_globals([argparse.Namespace])
        supplied.append("argparse.Namespace as safe to unpickle")
    return supplied


def import_hub() -> ModuleType:
    """``s3prl.hub``, whatever today's packages lack; takes about 5 s and 1 GB the first time."""
    supply_missing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # s3prl and today's packages warn of each other, which no user can mend
        return importlib.import_module("s3prl.hub")


def _choose_no_backend(backend: str | None) -> None:
    """What ``set_audio_backend`` did before it went: nothing, since torchaudio chooses by itself."""
    del backend


def _strtobool(value: str) -> int:
    """1 for what says yes, 0 for what says no."""
    known = dict.fromkeys(("y", "yes", "t", "true", "on", "1"), 1) | dict.fromkeys(
        ("n", "no", "f", "false", "off", "0"), 0
    )
    if value.lower() not in known:
        raise ValueError(f"{value!r} is neither yes nor no: write True or False")
    return known[value.lower()]


def _gone(what: str, where: str) -> Callable[..., NoReturn]:
    def raising(*args: Any, **kwargs: Any) -> NoReturn:
        del args, kwargs
        raise RuntimeError(f"s3prl wants {what}, which is no longer there: install {where} for this function of s3prl")

    return raising
