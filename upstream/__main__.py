"""Commands on upstreams: ``list`` them, or ``check`` one against the conformance suite."""

import argparse
import sys
from collections.abc import Sequence

from . import names
from .checks import run_checks
from .contract import entry


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m s3prl_attention.upstream list`` or ``... check NAME [NAME ...]``."""
    parser = argparse.ArgumentParser(prog="python -m s3prl_attention.upstream", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every upstream with its title and order")
    check = commands.add_parser("check", help="run the conformance suite; exits 1 when a rule is broken")
    check.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            for name in names():
                print(f"{name:22} {_facts(name)}")
            return
        num_broken = num_run = 0
        for name in options.names:
            print(name)
            for rule, message in run_checks(name).items():
                num_run += 1
                num_broken += bool(message)
                print(f"  {'FAIL' if message else 'ok  '} {rule}{': ' + message if message else ''}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    if num_broken:
        sys.exit(f"{num_broken} of {num_run} checks failed")


def _facts(name: str) -> str:
    try:
        info = entry(name).info
    except ValueError as error:
        return f"broken: {error}"
    return f"{info.order:8} {info.title} ({info.paper})"


if __name__ == "__main__":
    main()
