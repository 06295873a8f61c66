"""Which of code, data, configuration, seed, software and machine differ between two result cells, and what moved.

python -m s3prl_attention.benchmark diff A B --out result
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..upstream.printable import printable
from .command_line import mistakes_told
from .find_cell import find_cell
from .names import DATA_PLACES, attention_of
from .plain import texts

Pairs = dict[str, tuple[Any, Any]]  # by name, the values of A and of B

LEFT_OUT = (*DATA_PLACES, "upstream")  # of the configuration: where data lie, and what the cell says
TIMING = "timing."  # options that decide how times are taken, and nothing else
LISTED = 8  # of what cannot be compared
EXACT = ("code", "data", "configuration", "seed")  # what decides a score; the others may move it by rounding


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: prints the groups that differ, the numbers that moved, and a conclusion."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark diff", description=__doc__.split("\n")[0]
    )
    parser.add_argument("a", metavar="A", help="a result file, or a part of its name that no other has")
    parser.add_argument("b", metavar="B", help="likewise")
    parser.add_argument("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    options = parser.parse_args(arguments)
    with mistakes_told():
        (a, path_a), (b, path_b) = (find_cell(name, options.out) for name in (options.a, options.b))
        print(printable(f"A {path_a}\nB {path_b}\n{difference(a, b)}"))


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """What differs, group by group, and what follows from it."""
    groups = causes(a, b)
    lines = [f"{name:15}{_told(pairs)}" for name, pairs in groups.items() if pairs]
    lines += [f"{name:15}the same" for name, pairs in groups.items() if not pairs]
    unknown = one_sided(a, b)
    if unknown:
        more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
        lines.append(f"{'not compared':15}{', '.join(unknown[:LISTED])}{more}: only one of the cells tells")
    moved = numbers(a, b)
    lines += [
        "",
        *(f"  {name:24}{_number(x):>12} -> {_number(y):<12}{_change(x, y)}" for name, (x, y) in moved.items()),
    ]
    rest = " What is not compared may differ as well." if unknown else ""
    return "\n".join([*lines, "", verdict(groups, moved) + rest])


def causes(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pairs]:
    """Per group what differs, of what both cells know."""
    ours, theirs = _known(a, b), _known(b, a)
    return {name: _differing(ours[name], theirs[name]) for name in ours}


def one_sided(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What only one of the cells knows: what another version records, and what a failed cell lacks."""
    ours, theirs = (
        {f"{name}: {key}" for name, known in cell.items() for key in known} for cell in (_known(a, b), _known(b, a))
    )
    return sorted(ours ^ theirs)


def numbers(a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
    """The numbers that both cells have and that differ."""
    return _differing(*map(_numbers, (a, b)))


def _known(cell: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Per group what a cell knows about its making, by name."""
    hashed = [part for part in ("upstream", "task") if _code(cell, part) == _code(other, part)]  # else it says nothing
    config = {key: value for key, value in texts(cell["config"]).items() if key not in LEFT_OUT}
    groups: dict[str, dict[str, Any]] = {
        "code": {f"{part} source": (cell[part] or {}).get("source_hash") for part in hashed},
        "data": _data(cell),
        "configuration": _names(cell) | {key: value for key, value in config.items() if not key.startswith(TIMING)},
        "seed": {key: cell["cell"][key] for key in ("seed", "probe_seed")},
        "software": _software(cell),
        "machine": _environment(cell, ("cpu", "cores", "gpu", "ram_bytes", "os")),
        "threads": _environment(cell, ("threads", "device")),
        "timing": {key: value for key, value in config.items() if key.startswith(TIMING)},
        "commit": _environment(cell, ("git_commit", "git_dirty")),
    }
    return {name: {key: value for key, value in known.items() if value is not None} for name, known in groups.items()}


def verdict(groups: Mapping[str, Pairs], moved: Mapping[str, tuple[Any, Any]]) -> str:
    """One sentence: what may have moved the scores."""
    deciding = [name for name in EXACT if groups[name]]
    rounding = [name for name in ("software", "machine", "threads") if groups[name]]
    scores = [name for name in moved if not name.endswith("_s")]
    if deciding == ["seed"]:
        besides = f", besides {', '.join(rounding)}, which may move it by rounding" if rounding else ""
        return f"Only the seeds differ{besides}: what moved is the spread between seeds."
    if deciding:
        return f"What decides a score differs: {', '.join(deciding)}{_besides(rounding)}."
    if rounding:
        which = f"{', '.join(rounding)} only"
        return (
            f"Code, data, configuration and seed are the same; {which} may move scores by rounding, and times freely."
        )
    if scores:
        return (
            f"Nothing differs that is known to decide a score, and yet {', '.join(scores)} moved: something that "
            f"one of the cells, or both, do not record, as code outside the hashed files (see the commits)."
        )
    if groups["timing"]:
        return "Only the options of timing differ: scores are the same, and times were not taken in the same way."
    note = "" if not groups["commit"] else " The commits differ, but not in the code that is hashed for these cells."
    return f"Nothing but noise differs: the scores are the same, times vary as measurements do.{note}"


def _besides(groups: Sequence[str]) -> str:
    return f"; besides, {', '.join(groups)}" if groups else ""


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Pairs:
    return {key: (a[key], b[key]) for key in a if key in b and None not in (a[key], b[key]) and a[key] != b[key]}


def _code(cell: Mapping[str, Any], part: str) -> str:
    """What has code of its own: a task, or the upstream of a row."""
    return cell["cell"]["downstream"] if part == "task" else attention_of(cell["cell"]["upstream"])


def _names(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(cell["cell"][key]) for key in ("upstream", "downstream", "preset")}


def _data(cell: Mapping[str, Any]) -> dict[str, Any]:
    own = cell["data"] or {}
    before = own.get("pretraining") or {}
    split = (cell["task"] or {}).get("split")
    known = {"fingerprint": own.get("fingerprint"), "pre-training fingerprint": before.get("fingerprint")}
    return {"corpus": cell["cell"]["corpus"], **known, "split": split, "utterances": own.get("splits")}


def _software(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {"python": cell["environment"]["python"], **cell["environment"]["packages"]}


def _environment(cell: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: cell["environment"].get(key) for key in keys}


def _numbers(cell: Mapping[str, Any]) -> dict[str, float | None]:
    scores, done, probe = cell["scores"] or {}, cell["pretrain"] or {}, cell["probe"] or {}
    phases = (cell["time"] or {}).get("phases") or {}
    return {
        **{key: scores.get(key) for key in ("test", "dev", "chance", "items")},
        **{key: done.get(key) for key in ("valid_loss", "train_loss")},
        "pretrain_s": done.get("seconds"),
        "extraction_s": probe.get("extraction_s"),
        "probe_s": probe.get("seconds"),
        **{f"{name}_s": statistics.median(p["samples_s"]) for name, p in phases.items() if p["samples_s"]},
    }


def _told(pairs: Pairs) -> str:
    return "; ".join(f"{name}: {_value(x)} -> {_value(y)}" for name, (x, y) in pairs.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _change(x: float, y: float) -> str:
    return f"({y - x:+.4g}, x {y / x:.3f})" if x else f"({y - x:+.4g})"


if __name__ == "__main__":
    main()
