"""Plain values, as JSON has them: nested ones by dotted keys, and texts that are equal for equal values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def flat(tree: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """What is in nested mappings, by dotted keys; an empty mapping, like None, has nothing in it."""
    found: dict[str, Any] = {}
    for key, value in (tree or {}).items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def texts(tree: Mapping[str, Any] | None) -> dict[str, str]:
    """The same with values as JSON."""
    return {key: text(value) for key, value in flat(tree).items()}


def no_formula(value: object) -> object:
    """A text as a cell of a table that spreadsheets open: those that they would take for a formula get a quote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def text(value: object) -> str:
    """Equal for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, default=str)
