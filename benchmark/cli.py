"""The command line of the benchmark."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

INTERRUPTED = 130  # what shells expect of a program stopped by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 0 all cells are there, 1 some failed, 2 the request was wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = _parse(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from ..recipes.config import as_overrides  # torch comes with it: after the arguments are known to be well formed
    from ..upstream.allocator import keep_freed_memory
    from .grid import Request, run
    from .leaderboard import terminal

    keep_freed_memory()
    request = Request(
        preset=options.preset,
        out=options.out,
        upstreams=options.upstream,
        downstreams=options.downstream,
        seeds=options.seed,
        overrides=as_overrides("data", {"corpus": options.corpus, "root": options.root}) + overrides,
        device=options.device,
        command=shlex.join(["python", "run_benchmark.py", *given]),
    )
    try:
        outcome = run(request)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, RuntimeError, OSError) as error:  # wrong request, worker that died, disk full or read-only
        print(f"error: {error}", file=sys.stderr)
        return 2
    written = outcome.written
    print(terminal(written.rows))
    for problem in written.problems:
        print(problem, file=sys.stderr)
    files = [path for path in (written.markdown, written.csv, written.png) if path]
    print(f"{outcome.num_cells} cells, {outcome.num_made} made now, {outcome.num_failed} failed")
    print("written: " + ", ".join(map(str, files)))
    return 1 if outcome.num_failed else 0


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options and ``section.option=value`` words, which may stand anywhere."""
    parser = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Pre-train attention upstreams, probe them on downstream tasks, time them, write a leaderboard.",
        epilog="section.option=value words override the preset, for example pretrain.steps=300 attention.init=raw.",
    )
    parser.add_argument("--upstream", nargs="+", default=[], metavar="NAME", help="attentions (default: all)")
    parser.add_argument("--downstream", nargs="+", default=[], metavar="NAME", help="tasks (default: all)")
    parser.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="seeds (default: 0)")
    parser.add_argument("--preset", default="demo", help="smoke, demo, study or paper (default: demo)")
    parser.add_argument("--corpus", help="synthetic or librispeech (default: the preset's)")
    parser.add_argument("--root", help="the folder of the corpus, for librispeech")
    parser.add_argument("--out", type=Path, default=Path("result"), help="where results go (default: result)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
    return parser.parse_args([word for word in arguments if word not in overrides]), overrides


if __name__ == "__main__":
    sys.exit(main())
