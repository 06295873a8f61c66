"""s3prl's own ``run_downstream``, unmodified, with our upstreams and tasks known to it.

    python -m s3prl_attention.downstream.run_downstream -m train -u fixed_init -d phone_linear -p result/downstream/try

Takes s3prl's flags. What it adds: ``-d`` of a task of ours means ours (``-d s3prl:phone_linear`` means s3prl's), and
its ``config.yaml`` is found without ``-c``; without a GPU, ``--device`` is ``cpu``; wrong names end in one line.
"""

import argparse
import importlib
import logging
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from ..upstream.printable import printable
from ..upstream.registry import nearest
from ..upstream.s3prl_hub import Registered, register, upstream_in_s3prl
from ..upstream.s3prl_upstreams import PREFIX
from . import config_path, load

log = logging.getLogger(__name__)

# of s3prl's flags, those that are looked at here
FLAGS = (
    ("-u", "--upstream"),
    ("-d", "--downstream"),
    ("-c", "--config"),
    ("-e", "--past_exp"),
    ("-m", "--mode"),
    ("-n", "--expname"),
    ("-p", "--expdir"),
    ("--hub",),
    ("--device",),
)


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
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(2)


def completed(given: Sequence[str], registered: Registered) -> list[str]:
    """The arguments for s3prl: names as s3prl knows them, and what it would miss.

    Raises:
        ValueError: for an upstream or a task that neither side has, with the nearest names; for a task of ours that
            cannot be imported; for a file that is not there.
    """
    flags = argparse.ArgumentParser(add_help=False)
    for names in FLAGS:
        flags.add_argument(*names)
    flags.add_argument("-a", "--auto_resume", action="store_true")
    known, others = flags.parse_known_args(list(given))
    for flag, path in (("-c", known.config), ("-e", known.past_exp)):
        if path is not None and not Path(path).exists():
            raise ValueError(f"{flag} {path}: there is no such file or folder")
    if known.upstream is not None and known.hub != "huggingface":
        known.upstream = upstream_in_s3prl(known.upstream, registered)
    if known.downstream is not None:
        name, known.downstream = _task(known.downstream, registered)
        if known.config is None and known.past_exp is None:
            if name is not None:
                known.config = str(config_path(name))
            elif not known.auto_resume:
                _find_yaml(known.downstream)
    _check_experiment(known)
    if known.device is None and not torch.cuda.is_available():
        log.info("no GPU: --device cpu")
        known.device = "cpu"
    values = [(names[0], getattr(known, names[-1].lstrip("-"))) for names in FLAGS]
    resume = ["-a"] if known.auto_resume else []
    return [*others, *resume, *(word for flag, value in values if value is not None for word in (flag, value))]


def _check_experiment(known: argparse.Namespace) -> None:
    """Refuse an experiment that has no name, and a folder that holds nothing to go on from."""
    if known.mode == "train" and not (known.expname or known.expdir or known.past_exp):
        raise ValueError("the experiment has no name: give one below result/downstream with -n, or a folder with -p")
    folder = None if known.past_exp is None else Path(known.past_exp)
    if folder is not None and folder.is_dir() and not any(folder.glob("states-*.ckpt")):
        best = [str(path) for path in sorted(folder.glob("best-states-*.ckpt"))]
        cure = f"name a file, {' or '.join(best)}" if best else "train for longer, or lower it"
        raise ValueError(f"-e {folder} holds no states-*.ckpt, saved every config.runner.save_step steps: {cure}")


def _task(asked: str, registered: Registered) -> tuple[str | None, str]:
    """Our name of a task, None for one of s3prl's, and s3prl's name of it; one of ours can be imported."""
    by_theirs = {called: name for name, called in registered.tasks.items()}
    if asked in registered.tasks or asked in by_theirs:
        name = asked if asked in registered.tasks else by_theirs[asked]
        load(name)
        return name, registered.tasks[name]
    name = asked.removeprefix(PREFIX)
    folders = importlib.import_module("s3prl.downstream").__path__
    theirs = sorted(path.parent.name for folder in folders for path in Path(folder).glob("*/expert.py"))
    if name not in theirs:
        known = theirs if asked.startswith(PREFIX) else list({*registered.tasks, *theirs})
        raise ValueError(f"unknown downstream {asked!r}: {nearest(name, known)}")
    return None, name


def _find_yaml(task: str) -> None:
    """Refuse a task of s3prl's whose yaml is not where s3prl looks for it."""
    path = Path("downstream", task, "config.yaml")
    if not path.is_file():
        raise ValueError(f"-d {task} needs -c: s3prl's wheel holds no yaml; its repository does, s3prl/{path}")


def _ours(error: Exception) -> bool:
    """Whether our own code raised it, for users to read, rather than s3prl's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    name = str(frames[-1][0].f_globals.get("__package__", ""))
    return name.partition(".")[0] == __package__.partition(".")[0]


if __name__ == "__main__":
    main()
