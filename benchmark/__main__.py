"""The commands of the benchmark besides running it: ``python -m s3prl_attention.benchmark NAME``."""

import importlib
import sys
from collections.abc import Sequence

from ..upstream.registry import nearest

COMMANDS = {
    "run": ("cli", "pre-train, probe, time, and write a leaderboard (what run_benchmark.py does)"),
    "explain": ("explain", "what a result cell is made of, and the command that makes it again"),
    "diff": ("difference", "what differs between two result cells, and which numbers moved"),
    "leaderboard": ("leaderboard", "the pages of a result folder once more, with audit and analyses made since"),
    "ablation": ("ablation", "losses of rows against steps and seconds, and their scores, from a result folder"),
    "cost": ("cost", "time and memory of every attention against length"),
    "speed": ("speed", "encoders side by side, inference and training"),
    "data_speed": ("data_speed", "what reading a large corpus costs: start-up, padding, memory, features, waiting"),
    "recall": ("recall", "how many of the best keys the hashes of the LSH family pick"),
    "feature_cache": ("feature_cache", "the stored hidden states: list, verify, clear, compare"),
    "attention": ("attention.command", "what trained attention does: maps, measures, cases, pictures"),
    "transplant": ("attention.transplant", "what is lost when heads use their mean maps"),
    "derive": ("attention.derive", "an initial set of maps from a trained upstream, by case"),
    "states": ("states.command", "hidden states by phone and speaker, as pictures with numbers"),
    "layers": ("states.layers", "which hidden states the probes of a result folder read"),
    "maps": ("attention.mean_maps", "the mean attention maps of a trained upstream, as a file"),
}  # name -> (module below this package with a ``main``, what it is for)


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Hand the other arguments to a command; without any, list the commands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print("python -m s3prl_attention.benchmark COMMAND ... (COMMAND --help tells more)")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:14} {what}")
        return 0
    name, *rest = given
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}: {nearest(name, list(COMMANDS))}", file=sys.stderr)
        return 2
    return importlib.import_module(f".{COMMANDS[name][0]}", __package__).main(rest)


if __name__ == "__main__":
    sys.exit(main())
