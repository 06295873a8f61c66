"""What a result cell is made of, as text: from data and recipe to software, and the command that makes it again.

python -m s3prl_attention.benchmark explain fixed_init--speaker--seed0.0 --out result
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..upstream.printable import printable
from .command_line import mistakes_told
from .durations import told
from .find_cell import find_cell, folder_of
from .names import is_foreign
from .plain import texts
from .remake import command, obstacles
from .scored import read_scored
from .statistics import clustered_interval

WIDTH = 13


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: prints the text."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark explain", description=__doc__.split("\n")[0]
    )
    parser.add_argument("cell", help="a result file, or a part of its name that no other has")
    parser.add_argument("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    options = parser.parse_args(arguments)
    with mistakes_told():
        print(printable(explain(*find_cell(options.cell, options.out))))


def explain(cell: Mapping[str, Any], path: Path) -> str:
    """The lineage of a cell that was read from ``path``, in lines ``subject  facts``."""
    out = folder_of(path)
    lines = [str(path), *_line("status", [cell["status"], cell["reason"]])]
    lines += [*_upstream(cell), *_task(cell), *_data(cell), *_recipe(cell), *_probe(cell), *_scores(cell, path)]
    return "\n".join([*lines, *_times(cell), *_machine(cell), *_files(cell, path, out), *_again(cell, out)])


def _line(subject: str, parts: Sequence[object]) -> list[str]:
    """One line, of the parts that are known; none without any."""
    text = "; ".join(str(part) for part in parts if part not in (None, ""))
    return [f"{subject:{WIDTH}}{text}"] if text else []


def _upstream(cell: Mapping[str, Any]) -> list[str]:
    key, own = cell["cell"], cell["upstream"]
    if own is None:
        return _line("upstream", [key["upstream"]])
    sizes = [f"{own['parameters']:,} parameters"]
    sizes += [] if own["macs_10s"] is None else [f"{own['macs_10s']:,} multiply-accumulates for 10 s"]
    sizes += [] if own["order"] is None else [f"time {own['order']}"]
    name = f"{own['name']} ({own['title']})"
    return _line("upstream", [name, ", ".join(sizes), own.get("note"), f"code {own['source_hash']}"])


def _task(cell: Mapping[str, Any]) -> list[str]:
    key, own = cell["cell"], cell["task"]
    if own is None:
        return _line("task", [key["downstream"]])
    better = "higher" if own["higher_is_better"] else "lower"
    metric = f"{own['metric']} over {own['unit']}, {better} is better"
    code = own.get("source_hash")
    return _line("task", [own["name"], f"head: {own['head']}", metric, code and f"code {code}"])


def _data(cell: Mapping[str, Any]) -> list[str]:
    key, own = cell["cell"], cell["data"]
    if own is None:
        return _line("data", [key["corpus"]])
    synthetic = "synthetic" if own["synthetic"] else None
    lines = _line("data", [key["corpus"], synthetic, own["note"], f"fingerprint {own['fingerprint']}"])
    sizes = ", ".join(f"{number} {name}" for name, number in own["splits"].items())
    split = (cell["task"] or {}).get("split")
    lines += _line("split", [split, f"utterances {sizes}", f"{own['num_speakers_test']} test speakers",
                             f"{own['num_folds']} folds"])  # fmt: skip
    before = own.get("pretraining")
    if before and cell["pretrain"]:
        lines += _line("pre-trained on", [f" {told(before['seconds'])} of audio, fingerprint {before['fingerprint']}"])
    return lines


def _recipe(cell: Mapping[str, Any]) -> list[str]:
    key, config = cell["cell"], cell["config"] or {}
    lines = _line("seeds", [f"pre-training {key['seed']}, probe {key['probe_seed']}"])
    lines += _line("preset", [key["preset"]])
    changed = ", ".join(f"{name}={value}" for name, value in texts(cell["difference"]).items())
    lines += _line("changed", [changed or "nothing against preset and recipe"])
    if config.get("checkpoint"):
        lines += _line("loaded from", [config["upstream"], f"content {config['checkpoint']}"])
    for section in ("model", "attention", "pretrain", "probe") if not is_foreign(key["upstream"]) else ("probe",):
        if config.get(section):
            lines += _line(section, [", ".join(f"{name} {value}" for name, value in texts(config[section]).items())])
    done = cell["pretrain"]
    if done:
        losses = f"masked L1 {done['valid_loss']:.4f} held out, {done['train_loss']:.4f} in training"
        lines += _line("pre-training", [f"{done['steps']} steps in {told(done['seconds'])}", losses])
    return lines


def _probe(cell: Mapping[str, Any]) -> list[str]:
    own = cell["probe"]
    if own is None:
        return []
    tried = [f"{one['learning_rate']:g} (dev {_scores_of(one['dev'])})" for one in own["tried"] or []]
    chosen = ", ".join(f"{one['learning_rate']:g} in epoch {epoch}" for one, epoch in _chosen(own))
    layers = [statistics.mean(weights) for weights in zip(*own["layer_weights"], strict=True)]
    return [
        *_line("tried", [", ".join(tried) and f"learning rates {', '.join(tried)}", f"{own['epochs']} epochs"]),
        *_line("chosen", [chosen and f"{chosen}, on {own['chosen_on']}, fold by fold"]),
        *_line("states", [f"weights {', '.join(f'{weight:.2f}' for weight in layers)}, input first"]),
    ]


def _chosen(probe: Mapping[str, Any]) -> list[tuple[dict[str, float], int]]:
    return list(zip(probe["chosen"] or [], probe["chosen_epoch"], strict=False))


def _scores_of(dev: Sequence[float | None]) -> str:
    """The best of each fold on average."""
    known = [score for score in dev if score is not None]
    return f"{100 * statistics.mean(known):.1f} %" if known else "not finite"


def _scores(cell: Mapping[str, Any], path: Path) -> list[str]:
    own = cell["scores"]
    if own is None:
        return []
    try:
        scored = read_scored([{**cell, "_path": path}], cell["task"]["higher_is_better"])
        interval = clustered_interval(scored.points, scored.totals, scored.speakers)
        spread = f" (95 %: {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ", no interval"
    except ValueError as error:
        spread = f", no interval: {error}"
    found = [f"test {100 * own['test']:.2f} %{spread}", f"dev {100 * own['dev']:.2f} %"]
    return _line("scores", [*found, f"chance {100 * own['chance']:.2f} %", f"{own['items']} items"])


def _times(cell: Mapping[str, Any]) -> list[str]:
    own, lines = cell["probe"] or {}, []
    parts = [f"{name} {told(own[key])}" for key, name in (("extraction_s", "extraction"), ("seconds", "probe"))
             if own.get(key) is not None]  # fmt: skip
    lines += _line("seconds", [", ".join(parts)])
    time = cell["time"]
    for name, phase in (time["phases"] if time else {}).items():
        base = phase["baseline_samples_s"]
        against = statistics.median(s / b for s, b in zip(phase["samples_s"], base, strict=True)) if base else None
        ratio = None if against is None else f"{against:.3f} x {time['baseline']}"
        took = f"{name} {1000 * statistics.median(phase['samples_s']):.2f} ms"
        disturbed = f"{sum(phase['disturbed'])} of {len(phase['disturbed'])} samples disturbed"
        lines += _line("timing", [took, ratio, disturbed])
    memory = cell["memory"]
    if memory:
        told_bytes = {"training": memory["train_bytes"], "inference": memory["inference_bytes"]}
        known = (f"{name} {size / 1e6:.0f} MB" for name, size in told_bytes.items() if size is not None)
        lines += _line("memory", [", ".join(known)])
    return lines


def _machine(cell: Mapping[str, Any]) -> list[str]:
    own = cell["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in own["packages"].items() if version)
    dirty = {True: " with local changes", False: " without local changes", None: ""}[own["git_dirty"]]
    ram = f"{own['ram_bytes'] / 1e9:.1f} GB" if own["ram_bytes"] else None
    device = own.get("device") and f"device {own['device']}"
    processors = [own["cpu"], f"{own['cores']} cores", own.get("gpu")]
    return [
        *_line("software", [f"Python {own['python']}", packages]),
        *_line("commit", [f"{own['git_commit'] or 'not known'}{dirty}"]),
        *_line("machine", [*processors, ram, own["os"], f"{own['threads']} threads", device]),
    ]


def _files(cell: Mapping[str, Any], path: Path, out: Path) -> list[str]:
    done, scores = cell["pretrain"] or {}, cell["scores"]
    places = {"checkpoint": done.get("checkpoint"), "log": done.get("log")}
    found = {name: out / place for name, place in places.items() if place}
    if scores:
        found["utterances"] = path.parent / scores["utterances"]
    return [
        line for name, file in found.items() for line in _line(name, [file, None if file.exists() else "is not there"])
    ]


def _again(cell: Mapping[str, Any], out: Path) -> list[str]:
    """The command, and what this version would do differently."""
    reasons = obstacles(cell)
    note = f"this version would not make the same: {'; '.join(reasons)}" if reasons else None
    return [*_line("again", [command(cell, out)]), *_line("", [note])]


if __name__ == "__main__":
    main()
