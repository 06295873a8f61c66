"""Commands on upstreams: ``list`` them, ``check`` one against the conformance suite, or as s3prl would use it."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from . import names
from .checks import run_checks
from .contract import entry
from .printable import printable

CHECK_S3PRL = "check-s3prl"


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m s3prl_attention.upstream list``, ``... check NAME [NAME ...]`` or ``... check-s3prl NAME``."""
    parser = argparse.ArgumentParser(prog="python -m s3prl_attention.upstream", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every upstream with its title and order")
    help_theirs = "run what s3prl's own tests ask, through S3PRLUpstream; also takes names of s3prl's hub"
    for command, told in (
        ("check", "run the conformance suite; exits 1 when a rule is broken"),
        (CHECK_S3PRL, help_theirs),
    ):
        commands.add_parser(command, help=told).add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            for name in names():
                print(f"{name:22} {_facts(name)}")
            return
        num_broken = num_run = 0
        run = _suite(options.command)
        for name in options.names:
            found = run(name)
            print(name)
            for rule, message in found.items():
                num_run += 1
                num_broken += bool(message)
                print(f"  {'FAIL' if message else 'ok  '} {rule}{': ' + message if message else ''}")
    except ValueError as error:
        sys.exit(f"error: {printable(error)}")
    if num_broken:
        sys.exit(f"{num_broken} of {num_run} checks failed")


def _suite(command: str) -> Callable[[str], Mapping[str, str]]:
    if command != CHECK_S3PRL:
        return run_checks
    from .s3prl_checks import run_s3prl_checks  # imports what of s3prl the other commands do without

    return run_s3prl_checks


def _facts(name: str) -> str:
    try:
        info = entry(name).info
    except ValueError as error:
        return f"broken: {error}"
    return f"{info.order:8} {info.title} ({info.paper})"


if __name__ == "__main__":
    main()
