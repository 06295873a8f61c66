"""s3prl's own upstreams by name, ``s3prl:fbank`` or ``s3prl:mockingjay_local:CKPT``, frozen, as ``s3prl.hub`` has them.

A checkpoint of s3prl is a pickle, which s3prl opens and which may run code: name only files that you trust.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .registry import did_you_mean

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase

PREFIX = "s3prl:"
ADDRESSES = ("_url", "_gdriveid", "_custom")  # how names end that take what need not be a file; s3prl's convention
TAKES_CKPT = ("_local", *ADDRESSES)


@dataclass(frozen=True)
class Foreign:
    """One of s3prl's upstreams.

    Args:
        name: in ``s3prl.hub``.
        ckpt: what it is built from: an absolute path, or an address; None for one that brings its own, or needs none.
    """

    name: str
    ckpt: str | None = None

    @property
    def text(self) -> str:
        """As it is asked for."""
        return PREFIX + ":".join(filter(None, (self.name, self.ckpt)))

    @property
    def label(self) -> str:
        """The same without the folders of its checkpoint, for tables and names of files."""
        return PREFIX + ":".join(filter(None, (self.name, self.ckpt and self.ckpt.rstrip("/").rpartition("/")[2])))

    @property
    def checkpoint(self) -> str | None:
        """What tells its checkpoint from others: 12 digits of the content of a file or folder, or an address.

        Raises:
            ValueError: when the file is missing.
        """
        path = self.path()
        if path is None:
            return self.ckpt
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        return _content(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))

    def path(self) -> Path | None:
        """Where its checkpoint lies; None for one that has none, or an address.

        Raises:
            ValueError: when the file is missing.
        """
        if self.ckpt is None or (self.name.endswith(ADDRESSES) and not Path(self.ckpt).exists()):
            return None
        if not Path(self.ckpt).exists():
            raise ValueError(f"there is no checkpoint {self.ckpt}: name a file that exists, {PREFIX}{self.name}:CKPT")
        return Path(self.ckpt)


@cache  # a checkpoint may have gigabytes, and every cell of a run asks
def _content(root: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.relative_to(root)} {size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def parse(text: str) -> Foreign:
    """``s3prl:NAME`` or ``s3prl:NAME:CKPT``; a path may have colons itself, and is made absolute."""
    name, colon, ckpt = text.removeprefix(PREFIX).partition(":")
    if colon and not ckpt:
        raise ValueError(f"{text!r} ends where its checkpoint should be: write {PREFIX}{name}:CKPT, or {PREFIX}{name}")
    path = Path(ckpt).expanduser()
    if ckpt and (path.exists() or not name.endswith(ADDRESSES)):
        ckpt = str(path.absolute())
    return Foreign(name, ckpt or None)


def check(wanted: Sequence[Foreign]) -> None:
    """Refuse what can be seen to fail before it is built; imports ``s3prl.hub``.

    Raises:
        ValueError: for an unknown name, with the nearest ones, and for a checkpoint that is missing, is not there or
            would not be looked at.
    """
    for one in wanted:
        one.path()  # a missing file is told before s3prl is imported, which takes a while
    found = hub()
    listed = {name: getattr(found, name) for name in found.options()}  # with Path, which is no upstream
    known = sorted(name for name, build in listed.items() if not inspect.isclass(build) and not is_ours(build))
    for one in wanted:
        if not one.name:
            raise ValueError(f"{PREFIX} needs a name: {', '.join(known)}")
        if one.name not in known:
            near = " ".join(
                filter(None, [did_you_mean(one.name, known), f"--upstream {PREFIX} lists all {len(known)}"])
            )
            raise ValueError(f"s3prl has no upstream {one.name!r}: {near}")
        if one.ckpt is None and one.name.endswith(TAKES_CKPT):
            raise ValueError(f"{one.text} needs a checkpoint: name it, {one.text}:CKPT")
        if one.ckpt is not None and not _takes_ckpt(one.name, getattr(found, one.name)):
            hint = _local_name(one.name, known)
            cure = f", or ask for {PREFIX}{hint}:CKPT" if hint else ""
            raise ValueError(f"{PREFIX}{one.name} would not look at {one.ckpt}: leave the checkpoint out{cure}")


def is_ours(build: Any) -> bool:
    """Whether what the hub lists is an upstream that ``s3prl_hub.register`` has put there."""
    return hasattr(type(build), "of_s3prl_attention")


def load_foreign(wanted: Foreign) -> UpstreamBase:
    """The upstream, frozen, in evaluation, on the CPU; checked on a second of noise, as s3prl's ``Featurizer`` does it.

    The global random state is left as it was: what starts at random starts from seed 0, since s3prl keeps noise among
    the weights of its preprocessors, and every load would make another upstream of them.

    Raises:
        ValueError: in one line, for what ``check`` refuses, what cannot be built or downloaded, and what does not keep
            s3prl's contract.
    """
    import torch

    check([wanted])
    found = hub()
    given = {} if wanted.ckpt is None else {"ckpt": wanted.ckpt}
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            expert = getattr(found, wanted.name)(**given)
    except Exception as error:  # whatever s3prl and what it is built on raise
        raise ValueError(f"{wanted.text} {_why(wanted, error, found)}") from error
    if not isinstance(expert, torch.nn.Module):
        raise ValueError(f"{wanted.text} is no upstream but {type(expert).__name__}: choose one of {PREFIX}")
    expert.eval().requires_grad_(False)
    _check_states(wanted, expert)
    return expert


def hub() -> ModuleType:
    """``s3prl.hub``.

    Raises:
        ValueError: when it cannot be imported.
    """
    from . import s3prl_compat

    try:
        with _quiet():
            return s3prl_compat.import_hub()
    except Exception as error:  # importing runs all of s3prl's upstreams
        raise ValueError(f"s3prl.hub cannot be imported ({_told(error)}): install what it asks for") from error


def s3prl_version() -> str:
    """Of the package."""
    return version("s3prl")


def _takes_ckpt(name: str, build: Any) -> bool:
    """Whether an entry of the hub looks at ``ckpt``: by s3prl's convention the name tells, as most take anything."""
    if name.endswith(TAKES_CKPT) or name == "customized_upstream":
        return True
    with suppress(ValueError, TypeError):  # what has no signature
        return "ckpt" in inspect.signature(build).parameters
    return False


def _local_name(name: str, known: Sequence[str]) -> str:
    """The entry that builds the same kind from a file: ``hubert_local`` for ``hubert_base``; empty without one."""
    words = name.split("_")
    local = ("_".join([*words[:count], "local"]) for count in range(len(words), 0, -1))
    return next((one for one in local if one in known), "")


def _why(wanted: Foreign, error: Exception, found: ModuleType) -> str:
    """Why an upstream was not built, and the cure."""
    causes = list(_causes(error))
    lacking = next((cause for cause in causes if isinstance(cause, ImportError)), None)
    if lacking is not None:
        return f"needs what is not installed ({_told(lacking)}): install it"
    is_elsewhere = wanted.path() is None
    offline = [cause for cause in causes if isinstance(cause, OSError)]
    if is_elsewhere and offline:
        hint = _local_name(wanted.name, found.options())
        cure = f", or fetch the checkpoint elsewhere and name it, {PREFIX}{hint}:CKPT" if hint else ""
        return f"could not be downloaded ({_told(offline[-1])}): connect to the network{cure}"
    if is_elsewhere:
        return f"cannot be built ({_told(error)}): if it was downloaded, remove it from ~/.cache/s3prl and try again"
    return f"cannot be built ({_told(error)}): see that the file is whole and a checkpoint for {wanted.name}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_states(wanted: Foreign, expert: Any) -> None:
    import torch

    from .features import SAMPLE_RATE_HZ

    noise = 0.1 * torch.randn(SAMPLE_RATE_HZ, generator=torch.Generator().manual_seed(0))
    try:
        with _quiet(), torch.inference_mode():
            states = expert([noise]).get("hidden_states")
            rate = expert.get_downsample_rates("hidden_states")
    except Exception as error:  # whatever an upstream raises
        raise ValueError(f"{wanted.text} does not encode a second of noise ({_told(error)}): choose another") from error
    if not isinstance(states, (list, tuple)) or not states:
        raise ValueError(f"{wanted.text} gives no list of hidden_states: choose another upstream")
    shapes = {tuple(state.shape) for state in states}
    if len(shapes) > 1 or len(states[0].shape) != 3:
        told = ", ".join(map(str, sorted(shapes)))
        raise ValueError(f"{wanted.text} gives hidden_states of shape {told}, not all (1, frames, dim): choose another")
    if not isinstance(rate, int) or rate < 1:
        raise ValueError(f"{wanted.text} has a downsample rate of {rate}, not of 1 or more samples: choose another")


@contextmanager
def _quiet() -> Iterator[None]:
    """What s3prl prints goes to stderr, what it and today's packages are warned of nowhere: nobody here can mend it."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
