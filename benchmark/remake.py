"""The command that makes a result cell again, from the cell alone; and whether this version would make the same one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .names import is_foreign, words_of
from .plain import texts
from .settings import load_study
from .sources import source_hash, task_hash
from .variants import options_of

OPTIONS = {"data.corpus": "--corpus", "data.root": "--root"}  # shorter than as overrides


def command(cell: Mapping[str, Any], out: Path) -> str:
    """The shell command. With two seeds it makes the other cells of these seeds as well."""
    key, changed = cell["cell"], _beside_row(cell)
    words = ["--preset", key["preset"], "--upstream", _upstream(cell), "--downstream", key["downstream"]]
    words += ["--seed", *map(str, dict.fromkeys([key["seed"], key["probe_seed"]]))]
    for name, option in OPTIONS.items():
        if changed.get(name) is not None:
            words += [option, str(changed.pop(name))]
    device = cell["environment"].get("device") or ((cell["time"] or {}).get("setting") or {}).get("device")
    words += ["--device", device] if device not in (None, "cpu") else []
    words += ["--out", str(out), *overrides(changed)]
    return shlex.join(["python", "run_benchmark.py", *words])


def _upstream(cell: Mapping[str, Any]) -> str:
    """As it is asked for: with the path of a checkpoint of s3prl's, or of a file of maps."""
    name = cell["cell"]["upstream"]
    return (cell["config"] or {}).get("upstream", name) if is_foreign(name) or words_of(name) else name


def _beside_row(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's difference from its preset, without what the name of its row says."""
    changed = cell["difference"] or {}
    try:
        said = options_of(_upstream(cell))
    except ValueError:  # an upstream or an option that this version does not know, which `obstacles` tells
        return dict(changed)
    return {name: value for name, value in changed.items() if name.removeprefix("attention.") not in said}


def overrides(changed: Mapping[str, Any]) -> list[str]:
    """A cell's difference from its preset as words of the command line."""
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in changed.items()]


def obstacles(cell: Mapping[str, Any]) -> list[str]:
    """Why this version would make another cell, or none; empty when it makes this very one from the same data."""
    key, upstream, task = cell["cell"], cell["upstream"] or {}, cell["task"] or {}
    found = []
    try:
        study = load_study(_upstream(cell), key["preset"], overrides(_beside_row(cell)))
        now = json.loads(json.dumps(study.resolved()))
        keys = sorted(texts(now).items() ^ texts(cell["config"]).items())
        if keys:
            found.append(f"its configuration differs in {', '.join(dict.fromkeys(key for key, _ in keys))}")
    except ValueError as error:
        found.append(f"it refuses the configuration ({error})")
    for what, before, hashed, name in (
        ("upstream", upstream.get("source_hash"), source_hash, key["upstream"]),
        ("task", task.get("source_hash"), task_hash, key["downstream"]),
    ):
        try:
            if before is not None and hashed(name) != before:
                found.append(f"the code of the {what} has changed")
        except ValueError as error:
            found.append(str(error))
    return found
