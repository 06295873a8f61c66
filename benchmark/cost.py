"""The complexity audit: time and memory of every attention against length, beside what it declares.

    python -m s3prl_attention.benchmark.cost --lengths 128 256 512 1024 2048 4096 8192 --out result/cost

Each length is written to cost.json when it is finished; the same command goes on where it stopped. ``--weigh-only``
looks at the memory alone, which a busy machine does not disturb; without it the same command then adds the times.
``--report DIR`` makes the pages again from the cost.json in DIR.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from ..upstream import names
from ..upstream.encoder import EncoderOptions
from .claims import claims_of
from .command_line import check_counts, mistakes_told
from .cost_case import rows_of
from .cost_file import Audit, facts, missing_rows, open_audit, past_cells, read_audit, save_audit, with_cells
from .cost_measure import measure_length
from .cost_report import write_report
from .cost_time import CostSettings
from .lane import exclusive_lane
from .names import BASELINE

logger = logging.getLogger(__name__)

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: measures what is missing and writes cost.json, cost.md, cost.csv, cost.png and cost.svg."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parse(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with mistakes_told("interrupted: the same command goes on with what is missing"):
        if options.report:
            written = write_report(options.report, read_audit(options.report))
        else:
            command = shlex.join(["python", "-m", "s3prl_attention.benchmark.cost", *given])
            written = write_report(options.out, _measure(options, command))
    print("written: " + ", ".join(map(str, written)))


def _measure(options: argparse.Namespace, command: str) -> Audit:
    settings = _settings(options)
    lengths = sorted(set(options.lengths))
    wanted = [BASELINE, *(options.upstream or names())]
    rows = list(dict.fromkeys(row for name in wanted for row in rows_of(name)))
    with claims_of(options.out).hold("cost.json") as ours:
        if not ours:
            raise ValueError(f"another audit is measuring into {options.out}: wait for its end, or give another --out")
        return _with_missing(options, command, settings, lengths, rows)


def _with_missing(
    options: argparse.Namespace, command: str, settings: CostSettings, lengths: Sequence[int], rows: list[str]
) -> Audit:
    """The audit with what it lacked. Nobody else may write it meanwhile: each save writes all of it."""
    audit = open_audit(options.out, settings, options.fit_from, command)
    known = sorted({*lengths, *(cell["num_frames"] for cell in audit["cells"])})
    audit["rows"] = {**audit["rows"], **{row: facts(row, settings, known) for row in rows}}
    for row in rows:
        if audit["rows"][row]["problem"]:
            logger.warning("%s is left out: %s", row, audit["rows"][row]["problem"])
    orders = {row: found["order"] for row, found in audit["rows"].items()}
    measured = False
    for num_frames in lengths:
        missing, past = missing_rows(audit, rows, num_frames), past_cells(audit, num_frames)
        if options.weigh_only:
            weighed = {cell["row"] for cell in past if cell["num_frames"] == num_frames}
            missing = [row for row in missing if row not in weighed]
        if not missing:
            continue
        logger.info("n=%d: %d rows to measure", num_frames, len(missing))
        with nullcontext() if options.weigh_only else exclusive_lane():
            cells = measure_length(missing, num_frames, settings, orders, past, options.weigh_only)
        audit = with_cells(audit, cells)
        save_audit(options.out, audit)
        measured = True
        for cell in cells:
            for problem in dict.fromkeys(cell["problems"].values()):
                logger.warning("n=%d %s: %s", num_frames, cell["row"], problem)
    if not measured:
        audit["runs"].pop()  # it added nothing
        if not audit["runs"]:
            raise ValueError("nothing could be measured: " + "; ".join(audit["rows"][row]["problem"] for row in rows))
    save_audit(options.out, audit)
    return audit


def _settings(options: argparse.Namespace) -> CostSettings:
    EncoderOptions(hidden_dim=options.hidden_dim, num_heads=options.num_heads)  # refuses sizes that cannot be
    check_counts(options, "rounds", "threads", "fit_from")
    for name in ("phase_s", "min_sample_s", "max_case_s"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must not be negative, got {getattr(options, name)}")
    if min(options.lengths) < 1:
        raise ValueError(f"--lengths must be at least 1, got {min(options.lengths)}")
    keys = ("hidden_dim", "num_heads", "threads", "rounds", "phase_s", "min_sample_s", "max_case_s")
    return CostSettings(**{key: getattr(options, key) for key in keys})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.cost", description=__doc__.split("\n")[0]
    )
    help_rows = "attentions with all their variants, or one as NAME[VARIANT] (default: all)"
    parser.add_argument("--upstream", nargs="+", default=[], metavar="NAME", help=help_rows)
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS), metavar="N", help="stacked frames")
    parser.add_argument("--hidden-dim", type=int, default=768)
    parser.add_argument("--num-heads", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    help_phase = "fewer rounds, but 2, where a phase at one length would take longer (default: 30)"
    parser.add_argument("--phase-s", type=float, default=30.0, help=help_phase)
    parser.add_argument("--min-sample-s", type=float, default=0.02, help="shorter calls are repeated (default: 0.02)")
    help_case = "no timing of a row of which one call takes longer (default: 60)"
    parser.add_argument("--max-case-s", type=float, default=60.0, help=help_case)
    help_fit = "the exponent is fitted over lengths from here on (default: 1024)"
    parser.add_argument("--fit-from", type=int, default=1024, metavar="N", help=help_fit)
    parser.add_argument("--weigh-only", action="store_true", help="memory only, times by a later run")
    parser.add_argument("--out", type=Path, default=Path("result/cost"), help="where to write (default: result/cost)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="measure nothing, make the pages of DIR again")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
