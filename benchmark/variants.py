"""Rows ``NAME[...]``: an upstream with other options of its attention than its recipe's, in the grid and in the audit.

In the brackets, divided by commas, stand ``option=value`` words and names of declared variants (``INFO.variants``),
which stand for their options: ``xbox[mode=bucketed]`` and ``xbox[bucketed]`` are one row, and the shorter is its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..recipes.config import parse_overrides
from ..upstream.contract import Entry, entry
from ..upstream.options import fields
from ..upstream.plain_yaml import parse_yaml
from ..upstream.plugins import UPSTREAMS
from ..upstream.registry import did_you_mean
from .names import MEL, attention_of, is_foreign, words_of

MAPS = "maps"  # the one option that names a file (``upstream/contract.py``)
DIVIDERS = frozenset(",[]")


def options_of(row: str) -> dict[str, Any]:
    """What a row sets, not yet checked for types; a file of maps by its absolute path.

    Raises:
        ValueError: for an unknown upstream, option or variant, with those that exist, and for an option set twice.
    """
    words, name = words_of(row), attention_of(row)
    if name == row:
        return {}
    if name == MEL:
        raise ValueError(f"{row}: {MEL} has no attention, write it without brackets")
    found = entry(UPSTREAMS.check(name))
    options: dict[str, Any] = {}
    for word in words:
        for key, value in _read(row, word, found).items():
            if options.setdefault(key, value) != value:
                raise ValueError(f"{row} sets {key} twice: leave out one of them")
    if not options:
        raise ValueError(f"{row} sets nothing: {_known(found)}")
    return options


def row_name(name: str, own: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The one name of the row of upstream ``name`` with the options ``own``, of which those in ``usual`` go unsaid.

    Args:
        name: of the upstream.
        own: every option of the attention with its value.
        usual: the same for the row that is called like the upstream.

    Raises:
        ValueError: when a value cannot be written in brackets.
    """
    changed = {key: value for key, value in own.items() if value != usual[key]}
    words = []
    for variant, declared in entry(name).info.variants.items():
        if declared.options and all(key in changed and changed[key] == v for key, v in declared.options.items()):
            words.append(variant)
            changed = {key: value for key, value in changed.items() if key not in declared.options}
    words += [f"{key}={_written(name, key, value)}" for key, value in changed.items()]
    return f"{name}[{','.join(words)}]" if words else name


@cache  # every cell of a run asks
def row_label(row: str) -> str:
    """A row's name as tables and files have it: of a file of maps without its folders, which need not be published."""
    if is_foreign(row) or not words_of(row):
        return row
    words = []
    for word in words_of(row):
        key, equals, value = word.partition("=")
        name = Path(str(parse_yaml(value, row))).name if equals and key == MAPS else value
        words.append(f"{key}{equals}{name}")
    return f"{attention_of(row)}[{','.join(words)}]"


def _read(row: str, word: str, found: Entry) -> dict[str, Any]:
    """The options that one word in brackets sets."""
    key, equals, value = (part.strip() for part in word.partition("="))
    variants, options = list(found.info.variants), fields(found.options)
    if not equals:
        if key in variants:
            return dict(found.info.variants[key].options)
        near = f"give the option a value, {key}=VALUE;" if key in options else did_you_mean(key, variants)
        raise _unknown(row, found, f"variant {key!r}", near)
    if key not in options:
        raise _unknown(row, found, f"option {key!r}", did_you_mean(key, options))
    read = parse_overrides([f"attention.{key}={value}"])["attention"][key]
    return {key: str(Path(read).resolve()) if key == MAPS and isinstance(read, str) and read else read}


def _unknown(row: str, found: Entry, what: str, near: str) -> ValueError:
    return ValueError(f"unknown row {row!r}: {found.name} has no {what}: {near + ' ' if near else ''}{_known(found)}")


def _known(found: Entry) -> str:
    """What may stand in the brackets of an upstream."""
    options, variants = fields(found.options), list(found.info.variants)
    if not options:
        return f"{found.name} has no attention options, write it without brackets"
    named = f"; variants: {', '.join(variants)}" if variants else ""
    return f"write {found.name}[option=value,...]; options: {', '.join(options)}{named}"


def _written(name: str, key: str, value: Any) -> str:
    """A value as `parse_overrides` reads it back."""
    text = value if isinstance(value, str) else json.dumps(value)
    if DIVIDERS & set(text):
        raise ValueError(
            f"{name}: {key}={text} cannot stand in brackets, as it has a comma or a bracket itself: rename it"
        )
    plain = not isinstance(value, str) or parse_overrides([f"attention.{key}={text}"])["attention"][key] == value
    return text if plain else json.dumps(value, ensure_ascii=False)
