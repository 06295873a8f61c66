"""The command line of the benchmark."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..upstream.printable import printable
from ..upstream.registry import nearest
from .command_line import INTERRUPTED, terminated_like_interrupted
from .names import EXECUTORS, is_override

if TYPE_CHECKING:
    from .plan import Request

SLURM = "slurm."  # begins overrides that are about jobs and change no result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 0 nothing failed, 1 some cells did, 2 the request was wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = _parse(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if options.status:
            from .status import status

            print(printable(status(options.out)))
            return 0
        request = request_of(options, overrides, shlex.join(["python", "run_benchmark.py", *given]))
        with terminated_like_interrupted():
            return _plan_only(request) if options.dry_run else _run(request)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, RuntimeError, OSError) as error:  # wrong request, worker that died, disk full or read-only
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2


def request_of(options: argparse.Namespace, overrides: Sequence[str], command: str | None = None) -> "Request":
    """The request that a parsed command line makes; ``ValueError`` for a budget that is none."""
    from ..recipes.config import as_overrides  # torch comes with it: after the arguments are known to be well formed
    from .durations import parse
    from .plan import Request

    data = {"corpus": options.corpus, "root": options.root, "skip_broken": options.skip_broken or None}
    return Request(
        preset=options.preset,
        out=options.out,
        upstreams=options.upstream,
        downstreams=options.downstream,
        seeds=options.seed,
        overrides=as_overrides("data", data) + [word for word in overrides if not word.startswith(SLURM)],
        device=options.device,
        command=command,
        budget_s=None if options.budget is None else parse(options.budget),
        executor=options.executor,
        jobs=_jobs(options, overrides),
        timeout_s=None if options.timeout is None else parse(options.timeout),
        slurm=[word for word in overrides if word.startswith(SLURM)],
    )


def _jobs(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """How many jobs at a time; ``ValueError`` where an option does not go with the executor."""
    words = [word for word in overrides if word.startswith(SLURM)]
    if options.executor == "slurm":
        from .slurm import import_submitit, load_settings

        if options.budget is not None:
            raise ValueError("--budget goes with --executor local: a queue takes its own time")
        if options.jobs != 1:
            raise ValueError(f"--jobs {options.jobs} is for --executor local: give slurm.array_parallelism=N instead")
        load_settings(options.preset, options.device, words)
        import_submitit()
    elif words:
        raise ValueError(f"{words[0]} is for --executor slurm: leave it out")
    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs}: give a number from 1")
    if options.executor == "inline" and (options.jobs > 1 or options.timeout):
        raise ValueError("--executor inline does one cell after the other, to its end: leave out --jobs and --timeout")
    return options.jobs


def _plan_only(request: "Request") -> int:
    from ..upstream.allocator import keep_freed_memory
    from .dry_run import dry_run

    keep_freed_memory()
    print(dry_run(request))
    return 0


def _run(request: "Request") -> int:
    from ..upstream.allocator import keep_freed_memory
    from .grid import run
    from .leaderboard import terminal

    keep_freed_memory()
    outcome = run(request)
    written = outcome.written
    print(terminal(written.rows))
    for problem in written.problems:
        print(problem, file=sys.stderr)
    skipped = f", {outcome.num_skipped} skipped (each cell says why)" if outcome.num_skipped else ""
    print(f"{outcome.num_cells} cells, {outcome.num_made} made now, {outcome.num_failed} failed{skipped}")
    print("written: " + ", ".join(map(str, written.files)))
    return 1 if outcome.num_failed else 0


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options and ``section.option=value`` words, which may stand anywhere."""
    parser = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Pre-train attention upstreams, probe them on downstream tasks, time them, write a leaderboard.",
        epilog="section.option=value words override the preset, for example pretrain.steps=300 attention.init=raw. "
        "What a finished cell is made of, and how two differ: python -m s3prl_attention.benchmark explain, diff.",
    )
    add = parser.add_argument
    help_upstream = (
        "attentions; 'NAME[option=value,...]' is one with other options, a row of its own; mel alone runs the row "
        "without an encoder; s3prl:NAME and s3prl:NAME:CKPT are s3prl's own, whose checkpoints are pickles: name only "
        "files that you trust (default: all attentions)"
    )
    add("--upstream", nargs="+", default=[], metavar="NAME", help=help_upstream)
    help_downstream = "tasks; phone, speakers or labels for all of a kind; a pattern such as '*_1hidden' (default: all)"
    add("--downstream", nargs="+", default=[], metavar="NAME", help=help_downstream)
    help_seed = "each pre-trains once and is probed with the first; the first is probed with each (default: 0)"
    add("--seed", nargs="+", type=int, default=[0], metavar="N", help=help_seed)
    add("--preset", default="demo", help="smoke, demo, study or paper (default: demo)")
    add("--corpus", help="synthetic, librispeech or manifest (default: the preset's)")
    add("--root", help="the folder of the corpus, or the csv of a manifest")
    add("--skip-broken", action="store_true", help="leave out recordings that cannot be decoded; results say which")
    add("--out", type=Path, default=Path("result"), help="where results go (default: result)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    help_budget = "measure first, make what fits into this time (2h, 90m, 45s, 1h30m), record the rest as skipped"
    add("--budget", metavar="TIME", help=help_budget)
    help_executor = "where cells are made: each in a fresh process here (local), by Slurm, with slurm.option=value "
    help_executor += "words and the extra 'slurm' (slurm), or in this process, to debug (inline)"
    add("--executor", choices=EXECUTORS, default="local", help=f"{help_executor} (default: local)")
    help_jobs = "cells at a time on this machine, which share its cores; timing is always alone (default: 1)"
    add("--jobs", type=int, default=1, metavar="N", help=help_jobs)
    add("--timeout", metavar="TIME", help="end a pre-training or a cell that takes longer, and go on (default: none)")
    only = parser.add_mutually_exclusive_group()
    help_dry = "print plan and estimate of time, disk and memory; make and write no result"
    only.add_argument("--dry-run", action="store_true", help=help_dry)
    help_status = "print what is finished, running and missing of the last request in --out; may run beside it"
    only.add_argument("--status", action="store_true", help=help_status)
    overrides = [word for word in arguments if is_override(word)]
    options, unknown = parser.parse_known_args([word for word in arguments if word not in overrides])
    if unknown:
        parser.error("; ".join(_unknown(word, sorted(parser._option_string_actions)) for word in unknown))
    return options, overrides


def _unknown(word: str, flags: list[str]) -> str:
    """What a word of the command line that nobody takes may have been meant to be."""
    if word.startswith("-"):
        return f"unknown option {word}: {nearest(word, flags)}"
    return f"{word!r} belongs to no option: options of the configuration are written section.option=value"


if __name__ == "__main__":
    sys.exit(main())
