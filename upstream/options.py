"""Typed options: a dataclass filled from plain values, with every mistake told at once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .registry import nearest

T = TypeVar("T")


def fields(kind: Any) -> list[str]:
    """The names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(kind)]


def typed(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``kind`` from ``values``; keys left out keep their defaults.

    Raises:
        ValueError: one message that lists every unknown key and every value of the wrong type in ``where``.
    """
    wrong = [f"no option {key!r} ({nearest(key, fields(kind))})" for key in values if key not in fields(kind)]
    known = {key: value for key, value in values.items() if key in fields(kind)}
    for key, value in known.items():
        if isinstance(value, str) and ("${" in value or value == "???"):
            wrong.append(f"{key} may not hold '${{' or be '???', which mean something else to OmegaConf, got {value!r}")
            continue
        try:
            OmegaConf.merge(OmegaConf.structured(kind), {key: value})
        except (OmegaConfBaseException, TypeError):
            hint = get_type_hints(kind)[key]
            wrong.append(f"{key} must be {getattr(hint, '__name__', hint)}, got {value!r}")
    if wrong:
        raise ValueError(f"{where}: {'; '.join(wrong)}")
    merged = OmegaConf.merge(OmegaConf.structured(kind), known)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]  # omegaconf does not know the dataclass's type
