"""Converts ``self_attention`` checkpoints to the layout of s3prl's ``mockingjay`` and ``audio_albert``, and back.

    python -m s3prl_attention.upstream.s3prl_checkpoint to result/pretrain/.../checkpoint OUT.ckpt
    python -m s3prl_attention.upstream.s3prl_checkpoint from IN.ckpt FOLDER

What ``to`` writes is for code that loads s3prl's ``TransformerModel`` or ``PretrainedTransformer`` and gives it frames:
ours, stacked and normalised. s3prl's ``mockingjay_local`` makes other features from waveforms and cannot take it (it
ends in "'list' object has no attribute 'shape'"); inside s3prl, use our upstream through ``s3prl_hub.register()``. Our
options and corpus statistics are kept in ``Upstream_Config``, from which ``from`` restores the folder bit by bit.

Hidden dimensions come in s3prl's order, see ``s3prl_layout.py``. Hidden states agree to 1e-5.

``from`` takes what s3prl trained (TERA's layout is the same) with ``--encoder-only``: the folder then holds an encoder
for frames of the features it was trained on, which ``load_encoder`` gives, and of which no upstream can be made.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import load, load_encoder
from . import s3prl_layout as layout
from .checkpoint import check_finite, load_checkpoint, part, restore, save_checkpoint
from .encoder import EncoderOptions
from .expert import restored_encoder, split_options
from .features import LogMel
from .printable import printable

NAME = "self_attention"
SECTION = "s3prl_attention"  # in Upstream_Config


def to_s3prl(folder: Path, out: Path) -> None:
    """Write the checkpoint ``folder`` as one file of s3prl's layout.

    Raises:
        ValueError: when ``out`` exists, or ``folder`` is no sound checkpoint of self_attention.
    """
    _must_be_free(out)
    config, tensors = load_checkpoint(folder)
    if config.get("upstream") != NAME:
        raise ValueError(
            f"{folder} is a checkpoint of upstream {config.get('upstream')!r}, but s3prl's TransformerModel computes "
            f"{NAME} only: use it inside s3prl with s3prl_attention.upstream.s3prl_hub.register()"
        )
    alone = bool(config.get("encoder_only"))
    (load_encoder if alone else partial(load, NAME))(ckpt=folder)  # refuses what does not fit
    options, _ = split_options(NAME, config["options"])
    try:
        states = layout.to_s3prl(tensors, options)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    ours = {
        "upstream": NAME,
        "options": asdict(options),
        "lineage": config.get("lineage") or {},
        "encoder_only": alone,
        "log_mel": {name: tensor.tolist() for name, tensor in part(tensors, "log_mel.").items()},
    }
    upstream_config = {
        "transformer": layout.transformer_config(options),
        "task": {"sequence_length": options.max_frames},
        SECTION: ours,
    }
    _write(out, {**states, "Upstream_Config": upstream_config, "Config": {}})


def from_s3prl(path: Path, folder: Path, encoder_only: bool = False) -> bool:
    """Write a file of s3prl's layout as a checkpoint folder of ``self_attention``.

    Args:
        path: written by ``to_s3prl``, or by s3prl.
        folder: must not exist.
        encoder_only: take one that s3prl wrote, without its features.

    Returns:
        Whether the folder holds an encoder alone.

    Raises:
        ValueError: when ``folder`` exists, or ``path`` cannot be read, is of another layout or needs ``encoder_only``.
    """
    _must_be_free(folder)
    states, theirs = _sections(read_states(path), path)
    ours = theirs.get(SECTION)
    if ours is None and not encoder_only:
        raise ValueError(
            f"{path} was trained by s3prl on features that are not ours: use it as "
            f"--upstream s3prl:mockingjay_local:{path}, or convert its encoder alone with --encoder-only"
        )
    for name, section in states.items():
        check_finite({f"{name}.{key}": value for key, value in section.items() if torch.is_tensor(value)}, path)
    try:
        config = _config(states, theirs, path.name) if ours is None else _restored_config(ours, theirs)
        options, _ = split_options(NAME, config["options"])
        tensors = layout.from_s3prl(states, options)
        if ours is not None and not config.get("encoder_only"):
            statistics = _statistics(ours["log_mel"])
            restore(LogMel(num_mels=options.num_mels), statistics, "log_mel")
            tensors |= {f"log_mel.{name}": tensor for name, tensor in statistics.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    restored_encoder(config, tensors, path)  # refuses what does not fit
    save_checkpoint(folder, tensors, config)
    return bool(config.get("encoder_only"))


def read_states(path: Path) -> dict[str, Any]:
    """What a file of s3prl's layout holds, read without running anything in it.

    Raises:
        ValueError: when it is missing, damaged, or holds objects of other classes than tensors and plain values.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file: name a checkpoint of s3prl's mockingjay or audio_albert")
    try:
        with _namespace_is_safe():
            states = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes make of the reader
        foreign = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        if foreign:
            raise ValueError(
                f"{path} holds an object of {foreign[1]}, which could run code when it is read: where you trust it, "
                f"load it with s3prl and save its {layout.ENCODER}, {layout.HEAD}, Config and Upstream_Config alone"
            ) from None
        raise ValueError(
            f"{path} cannot be read as a file of torch.save ({type(error).__name__}): restore it"
        ) from None
    if not isinstance(states, dict):
        raise ValueError(f"{path} holds a {type(states).__name__}, not the sections of an s3prl checkpoint")
    return states


@contextmanager
def _namespace_is_safe() -> Iterator[None]:
    """Lets torch.load read the command line that s3prl keeps; what else is safe stays so, unlike after safe_globals."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _sections(states: dict[str, Any], path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The weights, and the configuration, which old files have under another name."""
    configs = [config for name in ("Config", "Upstream_Config") if isinstance(config := states.get(name), dict)]
    theirs = next((config for config in configs if isinstance(config.get("transformer"), dict)), None)
    weights = {name: states[name] for name in (layout.ENCODER, layout.HEAD) if isinstance(states.get(name), dict)}
    if theirs is None or layout.ENCODER not in weights:
        raise ValueError(
            f"{path} is no checkpoint of s3prl's mockingjay or audio_albert: it needs {layout.ENCODER!r} and, in "
            f"'Upstream_Config', 'transformer', and has {', '.join(map(str, states)) or 'nothing'}"
        )
    for name in ("transformer", SECTION):
        _check_plain(theirs.get(name), f"{path}: {name}")
    return weights, theirs


def _check_plain(value: Any, where: str) -> None:
    """Refuse what no yaml holds, wherever it is nested; ``where`` names the value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _check_plain(inner, f"{where}.{key}")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"{where} is a {type(value).__name__}, not a plain value: restore the file")


def _config(states: Mapping[str, Mapping[str, Tensor]], theirs: dict[str, Any], file: str) -> dict[str, Any]:
    """The config.yaml of an encoder that s3prl trained."""
    weight = states[layout.ENCODER].get("input_representations.spec_transform.weight")
    if not torch.is_tensor(weight) or weight.dim() != 2:
        raise ValueError(
            "Transformer.input_representations.spec_transform.weight is missing or no matrix: restore the file"
        )
    task = theirs.get("task")
    longest = task.get("sequence_length") if isinstance(task, dict) else None
    max_frames = longest if isinstance(longest, int) and longest > 0 else EncoderOptions.max_frames
    plain = json.loads(json.dumps(theirs, default=str))  # YAML knows fewer types
    return {
        "upstream": NAME,
        "options": layout.encoder_options(theirs["transformer"], weight.shape[1], max_frames),
        "lineage": {"s3prl": {"file": file, "config": plain}},
        "encoder_only": True,
    }


def _restored_config(ours: Any, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The config.yaml that ``to_s3prl`` kept, provided that s3prl's part still says the same."""
    if not isinstance(ours, dict) or any(not isinstance(ours.get(key), dict) for key in ("options", "log_mel")):
        raise ValueError(f"its section {SECTION!r} is damaged: convert it again")
    options, _ = split_options(NAME, ours["options"])
    now = theirs["transformer"]
    changed = [key for key, value in layout.transformer_config(options).items() if now.get(key) != value]
    if changed:
        raise ValueError(f"its section 'transformer' was changed after it was converted, in {', '.join(changed)}")
    config = {"upstream": NAME, "options": ours["options"], "lineage": ours.get("lineage")}
    return {**config, "encoder_only": True} if ours.get("encoder_only") else config


def _statistics(kept: Mapping[str, Any]) -> dict[str, Tensor]:
    """The corpus statistics that ``to_s3prl`` kept."""
    made = {}
    for name, values in kept.items():
        try:
            made[name] = torch.tensor(values, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"its section {SECTION!r} is damaged, log_mel.{name} is no list of numbers: convert it again"
            ) from None
    check_finite({f"log_mel.{name}": tensor for name, tensor in made.items()}, f"its section {SECTION!r}")
    return made


def _must_be_free(path: Path) -> None:
    if path.exists():
        raise ValueError(f"{path} exists: name another place, or remove it first")


def _write(path: Path, states: dict[str, Any]) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(states, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m s3prl_attention.upstream.s3prl_checkpoint", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    to = commands.add_parser("to", help="write a checkpoint folder as one file of s3prl's layout")
    to.add_argument("folder", type=Path, help="with model.safetensors and config.yaml")
    to.add_argument("out", type=Path, metavar="OUT.ckpt", help="must not exist")
    back = commands.add_parser("from", help="write a file of s3prl's layout as a checkpoint folder")
    back.add_argument("file", type=Path, metavar="IN.ckpt")
    back.add_argument("folder", type=Path, help="must not exist")
    back.add_argument("--encoder-only", action="store_true", help="of a file that s3prl wrote: without its features")
    options = parser.parse_args(arguments)
    try:
        if options.command == "to":
            to_s3prl(options.folder, options.out)
            print(f"{options.out}: for code that gives frames to s3prl's PretrainedTransformer(options, inp_dim=...)")
        else:
            alone = from_s3prl(options.file, options.folder, options.encoder_only)
            use = f"an encoder alone: s3prl_attention.upstream.load_encoder({str(options.folder)!r})"
            print(f"{options.folder}: {use if alone else f'a checkpoint of {NAME}'}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {printable(error)}")


if __name__ == "__main__":
    main()
