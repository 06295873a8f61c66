"""Checkpoints: a folder with ``model.safetensors``, ``config.yaml`` and their checksums, whole or not there at all."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .plain_yaml import read_yaml
from .printable import printable

WEIGHTS, CONFIG, SUMS = "model.safetensors", "config.yaml", "SHA256SUMS"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unwritable(OSError, ValueError):
    """A checkpoint that could not be written, with the cure."""


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, then rename it to ``folder`` (replaced when it exists).

    Raises:
        ValueError: when the disk is full or may not be written to; what was there stays.
    """
    try:
        _save(folder, tensors, config)
    except (OSError, SafetensorError) as error:  # safetensors tells of the system's errors in words
        number = error.errno if isinstance(error, OSError) else None
        if number in NO_ROOM or any(os.strerror(each) in str(error) for each in NO_ROOM):
            cure = "free some room on its disk and run the same command again"
        else:
            cure = "see to its disk and its rights, and run the same command again"
        raise Unwritable(f"{folder}: the checkpoint cannot be written ({_first_line(error)}): {cure}") from error


def _save(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
        sums = "".join(f"{_sha256(temporary / name)}  {name}\n" for name in (WEIGHTS, CONFIG))
        (temporary / SUMS).write_text(sums, encoding="ascii")  # as sha256sum -c reads it
        for path in temporary.iterdir():
            with path.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
        _readable_as_others(temporary)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / folder.name)
            try:
                temporary.rename(folder)
            except BaseException:
                (old / folder.name).rename(folder)
                old.rmdir()
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _readable_as_others(temporary: Path) -> None:
    """Give the folder and its weights, which are made for their owner alone, the rights that the process's umask gave
    to the configuration."""
    mode = (temporary / CONFIG).stat().st_mode & 0o777
    (temporary / WEIGHTS).chmod(mode)
    temporary.chmod(mode | (mode & 0o444) >> 2)  # who may read may enter


def load_checkpoint(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read (config, tensors on the CPU).

    Raises:
        ValueError: when the folder or a file is missing, cannot be read, is not as it was written, or holds numbers
            that are not finite. Checkpoints of older versions have no checksums.
    """
    folder = Path(folder)
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} is no checkpoint: {' and '.join(missing)} missing; name a folder that has both, or remove this "
            f"one and pre-train again"
        )
    _check_sums(folder)
    config = read_yaml(folder / CONFIG, "restore it or pre-train again")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} must hold a mapping: restore it or pre-train again")
    tensors = read_tensors(folder / WEIGHTS, "pre-train again")
    check_finite(tensors, folder / WEIGHTS)
    return config, tensors


def _check_sums(folder: Path) -> None:
    """Raises ``ValueError`` naming a file that is not as it was written."""
    if not (folder / SUMS).is_file():
        return
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").removesuffix("\n").split("\n")
        sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    except ValueError:  # bad ASCII, or other lines
        sums = {}
    for name in (WEIGHTS, CONFIG):
        if name not in sums:
            raise ValueError(f"{folder / SUMS} is damaged, or has no line of {name}: restore it, or pre-train again")
        if _sha256(folder / name) != sums[name]:
            raise ValueError(
                f"{folder / name} does not match its checksum: it changed after it was written; restore it, or remove "
                f"{folder} and pre-train again"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_tensors(path: str | Path, cure: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; raises ``ValueError`` naming the file when it is none."""
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, and whatever the bytes of a header make of the reader
        raise ValueError(f"{path} cannot be read as safetensors ({_first_line(error)}): {cure}") from None


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Raises ``ValueError`` naming tensors of the file ``where`` that hold NaN or infinity."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor.to(_comparable(tensor))).all()]
    if bad:
        raise ValueError(f"{where} holds NaN or infinity in {', '.join(map(_told, bad[:3]))}: pre-train again")


def _comparable(tensor: Tensor) -> torch.dtype:
    """A dtype in which numbers can be looked at; of those with eight bits PyTorch only knows the storage."""
    return torch.float32 if tensor.is_floating_point() and tensor.element_size() == 1 else tensor.dtype


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def restore(module: torch.nn.Module, tensors: dict[str, Tensor], where: str | Path) -> None:
    """Load tensors into a module; raises what ``check_fit`` raises."""
    check_fit(module, tensors, where)
    module.load_state_dict(tensors)


def check_fit(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Raises ``ValueError`` naming each tensor that is missing, unexpected, or of another shape or dtype than the
    module's: PyTorch would turn whole numbers into weights."""
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{_told(name)} is unexpected" for name in tensors if name not in own]
    both = [(name, tensors[name], own[name]) for name in own if name in tensors]
    wrong += [
        f"{name} is {tuple(given.shape)}, not {tuple(kept.shape)}"
        for name, given, kept in both
        if given.shape != kept.shape
    ]
    wrong += [
        f"{name} is {str(given.dtype)[6:]}, not {str(kept.dtype)[6:]}"
        for name, given, kept in both
        if given.dtype != kept.dtype
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(f"{where} does not fit the model: {'; '.join(wrong[:4])}{more}")


def check_shape(tensors: Mapping[str, Tensor], name: str, shape: tuple[object, ...], where: str | Path) -> None:
    """The same for one tensor, before a module of that size is made."""
    given = f"is {tuple(tensors[name].shape)}" if name in tensors else "is missing"
    if name not in tensors or tuple(tensors[name].shape) != shape:
        raise ValueError(f"{where} does not fit the model: {name} {given}, not {str(shape)[:60]}")


def _told(name: str) -> str:
    """A name from a file, which may be long and hold anything."""
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    return shown if shown.isprintable() else repr(shown)


def _first_line(error: Exception) -> str:
    lines = printable(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
