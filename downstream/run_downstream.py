"""s3prl's own ``run_downstream``, unmodified, with our upstreams and tasks known to it.

    python -m s3prl_attention.downstream.run_downstream -m train -u fixed_init -d phone_linear -p result/downstream/try

Takes s3prl's flags. What it adds: ``-d`` of a task of ours means ours (``-d s3prl:phone_linear`` means s3prl's), and
its ``config.yaml`` is found without ``-c``; without a GPU, ``--device`` is ``cpu``; wrong names end in one line.
"""

import argparse
import importlib.util
import logging
import runpy
import sys
import traceback
from collections.abc import Sequence

import torch

from ..upstream.registry import nearest
from ..upstream.s3prl_hub import Registered, register
from . import config_path

log = logging.getLogger(__name__)

THEIRS = "s3prl:"  # before the name of a task that both have


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``s3prl.run_downstream`` as a program; exits with 2 for a wrong request."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.argv = [sys.argv[0], *completed(given, register())]
        runpy.run_module("s3prl.run_downstream", run_name="__main__", alter_sys=True)
    except ValueError as error:
        if not _ours(error):
            raise
        sys.exit(f"error: {error}")


def completed(given: Sequence[str], registered: Registered) -> list[str]:
    """The arguments for s3prl: names as s3prl knows them, and what it would miss.

    Raises:
        ValueError: for an upstream or a task that neither side has, with the nearest names.
    """
    hub = importlib.import_module("s3prl.hub")
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names in (
        ("-u", "--upstream"),
        ("-d", "--downstream"),
        ("-c", "--config"),
        ("-e", "--past_exp"),
        ("--device",),
    ):
        flags.add_argument(*names)
    known, others = flags.parse_known_args(list(given))
    arguments = list(others)
    if known.upstream is not None:
        name = registered.upstreams.get(known.upstream, known.upstream)
        if name not in hub.options():
            raise ValueError(f"unknown upstream {name!r}: {nearest(name, hub.options())}")
        arguments += ["-u", name]
    if known.downstream is not None:
        theirs, name = known.downstream.startswith(THEIRS), known.downstream.removeprefix(THEIRS)
        if name in registered.tasks and not theirs:
            if known.config is None and known.past_exp is None:
                known.config = str(config_path(name))
            name = registered.tasks[name]
        elif not _has_expert(name):
            raise ValueError(f"unknown downstream {name!r}: {nearest(name, list(registered.tasks))} (and s3prl's own)")
        arguments += ["-d", name]
    if known.device is None and not torch.cuda.is_available():
        log.info("no GPU: --device cpu")
        known.device = "cpu"
    for flag, value in (("-c", known.config), ("-e", known.past_exp), ("--device", known.device)):
        arguments += [] if value is None else [flag, value]
    return arguments


def _has_expert(task: str) -> bool:
    """Whether s3prl has a task of this name; it is not imported."""
    try:
        return importlib.util.find_spec(f"s3prl.downstream.{task}.expert") is not None
    except ModuleNotFoundError:
        return False


def _ours(error: Exception) -> bool:
    """Whether our own code raised it, for users to read, rather than s3prl's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).startswith(f"{__package__.partition('.')[0]}.")


if __name__ == "__main__":
    main()
