"""The stored hidden states: list, verify and clear them, and measure what storing them gains and costs.

    python -m s3prl_attention.benchmark.feature_cache list
    python -m s3prl_attention.benchmark.feature_cache verify --remove
    python -m s3prl_attention.benchmark.feature_cache clear --older-than 7d
    python -m s3prl_attention.benchmark.feature_cache compare-dtypes --upstream fixed_init --downstream speaker
    python -m s3prl_attention.benchmark.feature_cache speed

``$S3PRL_ATTENTION_CACHE_LIMIT`` (for example 20GB, or none; by default half of what the disk would have free without
them) is what they may take together: for a new entry those that were unused for longest go, but none that a running
process uses.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..downstream.feature_cache import part_folders, read_key, states_folder
from ..recipes.corpora import FrameStore, near_names
from ..recipes.corpora.cache_room import Entry, entries, in_use, limit, remove, told
from ..upstream.printable import printable
from .command_line import INTERRUPTED
from .durations import parse
from .names import is_override


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 all is well, 1 entries are damaged, 2 the request was wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    overrides = [word for word in given if is_override(word)]
    options = _parser().parse_args([word for word in given if word not in overrides])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if overrides and options.command not in ("compare-dtypes", "speed"):
            raise ValueError(f"{options.command} takes no {overrides[0]!r}: leave it out")
        if options.command == "list":
            return _list(states_folder())
        if options.command == "verify":
            return _verify(_chosen(states_folder(), options.names), options.remove)
        if options.command == "clear":
            return _clear(_chosen(states_folder(), options.names), options.older_than)
        from ..upstream.allocator import keep_freed_memory
        from . import cache_dtypes, cache_speed  # torch comes with them

        keep_freed_memory()
        (cache_dtypes if options.command == "compare-dtypes" else cache_speed).run(options, overrides)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:  # wrong request, disk full or read-only
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.benchmark.feature_cache", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every entry with upstream, corpus, dtype, size and last use")
    verify = commands.add_parser("verify", help="read every byte and name what is not as it was written")
    verify.add_argument("--remove", action="store_true", help="remove the damaged, so that the next run makes it anew")
    clear = commands.add_parser("clear", help="remove entries that no running process uses")
    clear.add_argument("--older-than", metavar="AGE", help="since their last use, for example 12h or 7d")
    for command in (verify, clear):
        command.add_argument("names", nargs="*", metavar="NAME", help="entries or upstreams (default: all)")
    compare = commands.add_parser("compare-dtypes", help="probe from float16 and float32: scores, difference, bytes")
    compare.add_argument("--downstream", nargs="+", default=["speaker"], metavar="TASK")
    speed = commands.add_parser("speed", help="probe from stored states and with the upstream run at every step")
    speed.add_argument("--steps", type=int, default=2000, help="of the probe (default: %(default)s)")
    speed.add_argument("--batch", type=int, default=32, help="utterances (default: %(default)s)")
    speed.add_argument("--chunk", type=int, default=50, help="steps before the other side's turn (default: 50)")
    speed.add_argument("--learning-rate", type=float, default=1e-2, help="Adam's (default: %(default)s)")
    speed.add_argument("--save", type=Path, metavar="FILE", help="write raw times and scores as JSON")
    for command in (compare, speed):
        command.add_argument("--upstream", default="fixed_init", metavar="NAME")
        command.add_argument("--preset", default="demo")
        command.add_argument("--corpus", help="synthetic or another (default: the preset's)")
        command.add_argument("--root", help="the folder of the corpus")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", default="cpu")
        command.add_argument("--out", type=Path, default=Path("result"), help="where the pre-trained upstream is put")
    compare.add_argument("--pretrain-steps", type=int, metavar="N", help="(default: the preset's)")
    speed.add_argument("--pretrain-steps", type=int, metavar="N", default=50, help="(default: 50: speed is the same)")
    return parser


def _list(root: Path) -> int:
    found = entries(root)
    print(f"{'upstream':22} {'corpus':22} {'dtype':8} {'utterances':>10} {'size':>8} {'last use':16} entry")
    for entry in found:
        key = read_key(entry.path) or {"upstream": "(of an older version)"}
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
        columns = [f"{key.get(name, ''):{width}}" for name, width in (("upstream", 22), ("corpus", 22), ("dtype", 8))]
        note = " (in use)" if in_use(entry.path) else ""
        print(*columns, f"{_num_utterances(entry):>10} {told(entry.num_bytes):>8} {used}", entry.path.name + note)
    total_bytes = sum(entry.num_bytes for entry in found)
    limit_bytes, source = limit(root, found) if found else (None, "")
    text = f"; the limit is {told(limit_bytes)} ({source})" if limit_bytes is not None else ""
    print(f"{len(found)} entries, {told(total_bytes)} in {root}{text}")
    return 0


def _num_utterances(entry: Entry) -> str:
    try:
        return str(sum(len(FrameStore.open(part)) for part in part_folders(entry.path)))
    except ValueError:
        return "damaged"


def _verify(chosen: Sequence[Entry], removing: bool) -> int:
    """Check every part by its checksum; with ``removing`` the damaged entries go."""
    damaged = []
    for entry in chosen:
        problems = []
        for part in part_folders(entry.path):
            try:
                FrameStore.open(part).verify()
            except ValueError as error:
                problems.append(str(error))
        old = read_key(entry.path) is None
        word = "damaged" if problems else "of an older version: not read any more" if old else "intact"
        print(f"{entry.path.name}: {word}", *problems, sep="\n  ")
        damaged += [entry] if problems else []
    if removing and damaged:
        return 1 if remove(states_folder(), damaged, "because it is damaged")[1] else 0
    if damaged:
        print(f"{len(damaged)} damaged: 'verify --remove' removes them, and the next run makes them anew")
    return 1 if damaged else 0


def _clear(chosen: Sequence[Entry], older_than: str | None) -> int:
    try:
        before = time.time() - (0.0 if older_than is None else parse(older_than))
    except ValueError as error:
        raise ValueError(f"--older-than: {error}; leave it out to remove them all") from None
    old = [entry for entry in chosen if entry.used_at <= before]
    gone, kept = remove(states_folder(), old, "as asked") if old else ([], [])
    print(f"removed {len(gone)} entries, {told(sum(entry.num_bytes for entry in gone))}")
    for entry in kept:
        print(f"{entry.path.name} stays: a running process uses it")
    return 0


def _chosen(root: Path, names: Sequence[str]) -> list[Entry]:
    """The entries of these names or upstreams, or all; ``ValueError`` for a name that fits none."""
    found = entries(root)
    known = {entry: (entry.path.name, (read_key(entry.path) or {}).get("upstream")) for entry in found}
    for name in names:
        if not any(name in words for words in known.values()):
            words = sorted({word for pair in known.values() for word in pair if word})
            raise ValueError(f"no entry or upstream {name!r} in {root}: {near_names(name, words)}")
    return [entry for entry in found if not names or any(name in known[entry] for name in names)]


if __name__ == "__main__":
    sys.exit(main())
