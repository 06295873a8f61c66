"""Which hidden states the probes of a result folder read: the weights of their weighted sums, per task, as a picture.

python -m s3prl_attention.benchmark layers --out result
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..command_line import mistakes_told
from ..facts import sections
from ..names import BASELINE, attention_of
from ..result_files import read_cells, safe_name
from ..rows import Row, by_table, rows, task_names
from ..seeds import sort_seeds


@dataclass(frozen=True)
class Weights:
    """One upstream on one task: the weight of each state, input first, mean and standard deviation (S,) over
    ``num_probes`` probes: the folds of the seeds that the leaderboard's score is the mean of. The deviation is 0 for a
    single probe."""

    label: str
    mean: np.ndarray
    spread: np.ndarray
    num_probes: int

    @property
    def centre(self) -> float:
        """The state that is read on average, 0 for the input."""
        return float(self.mean @ np.arange(len(self.mean)))


@dataclass(frozen=True)
class Panel:
    """One table of the leaderboard: its task, and the weights of those of its upstreams that have several states."""

    task: str
    title: str
    rows: tuple[Weights, ...]
    single: tuple[str, ...]  # the upstreams with one state, which have nothing to weigh


def panels(found: Sequence[Row]) -> list[Panel]:
    """The tables of a corpus and preset that hold a score, in the order of the leaderboard."""
    tables = [table for table in by_table(found) if any(row.score is not None for row in table)]
    names, panels = task_names(found), []
    for table in tables:
        title = names[table[0].downstream, table[0].table]
        weights = [_weights(row) for row in table if row.score is not None]
        weights.sort(key=lambda row: (attention_of(row.label.partition(" ")[0]) != BASELINE, row.label))
        shown = tuple(row for row in weights if len(row.mean) > 1)
        panels.append(
            Panel(table[0].downstream, title, shown, tuple(row.label for row in weights if len(row.mean) == 1))
        )
    return panels


def _weights(row: Row) -> Weights:
    cells = sort_seeds(row.cells, pretrained=row.cells[0]["pretrain"] is not None).averaged
    probes = np.array([weights for cell in cells for weights in cell["probe"]["layer_weights"]])  # (probes, S)
    return Weights(row.label, probes.mean(0), probes.std(0, ddof=1 if len(probes) > 1 else 0), len(probes))


def by_corpus(found: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by corpus and preset."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.corpus, row.preset), []).append(row)
    return groups


def run(out: Path, command: str) -> tuple[list[Path], list[str]]:
    """Write a page for each corpus and preset that ``out`` has; the files, and a line for each cell that could not be
    read.

    Raises:
        ValueError: when there is no finished cell with weights.
    """
    from .layers_page import write

    cells, problems = read_cells(out / "cells")
    written = []
    for (corpus, preset), found in by_corpus(rows(cells)).items():
        shown = panels(found)
        if any(panel.rows for panel in shown):
            folder = out / "layers" / safe_name(corpus) / safe_name(preset)
            machines = sections([cell for row in found if row.score is not None for cell in row.cells], "environment")
            written += write(folder, shown, corpus, preset, command, machines)
    if not written:
        raise ValueError(
            f"{out} has no finished cell of an upstream with layers: give --out the folder of a run that has made some"
        )
    return written, problems


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark layers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("result"), help="the result folder (default: result)")
    out = parser.parse_args(given).out
    with mistakes_told():
        written, problems = run(out, shlex.join(["python", "-m", "s3prl_attention.benchmark", "layers", *given]))
    for problem in problems:
        print(problem, file=sys.stderr)
    print("written: " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
