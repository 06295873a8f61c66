"""The configuration of a pre-training: preset, then recipe, then ``key=value``, checked as a whole."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..upstream.encoder import EncoderOptions
from ..upstream.expert import split_options
from ..upstream.options import typed
from ..upstream.plain_yaml import parse_yaml, read_yaml
from ..upstream.registry import nearest

HERE = Path(__file__).parent
PRECISIONS = ["float32", "float64", "bf16", "fp16"]
OWN_SECTIONS = ("data", "model", "attention", "pretrain")
SECTIONS = (*OWN_SECTIONS, "probe", "timing")  # the benchmark reads the last two


@dataclass(frozen=True)
class DataConfig:
    """Which speech.

    Args:
        corpus: ``synthetic``, ``librispeech`` or ``manifest``.
        root: the corpus folder, or the CSV of a manifest.
        size: of the synthetic corpus: tiny, small or base.
        seed: of the synthetic corpus.
        alignments: a file or folder of phone alignments, when they are not beside the corpus.
        pretrain_subsets: subsets to pre-train on; empty for those called train*, or all when there are none.
        probe_subsets: subsets for the tasks; empty leaves the choice to the task.
        label: the column of a manifest that tasks of kind label read.
        split_lists: of librispeech: a folder with train_split.txt and test_split.txt, or such files joined by a comma.
        shared_speakers: whether assigned train, dev and test sets may share speakers, of whom the scores then tell.
        skip_broken: leave out recordings that cannot be decoded to their end; results tell how many and which.
    """

    corpus: str = "synthetic"
    root: str | None = None
    size: str = "small"
    seed: int = 0
    alignments: str | None = None
    pretrain_subsets: list[str] = field(default_factory=list)
    probe_subsets: list[str] = field(default_factory=list)
    label: str = "label"
    split_lists: str | None = None
    shared_speakers: bool = False
    skip_broken: bool = False


@dataclass(frozen=True)
class PretrainConfig:
    """Masked acoustic modelling.

    Args:
        steps: optimiser steps.
        batch_frames: stacked frames in a batch, padding included.
        learning_rate: its peak.
        warmup_share: share of the steps with rising learning rate; then it falls to zero, both linearly.
        clip: the largest gradient norm.
        mask_share: share of the frames to reconstruct.
        span_frames: stacked frames masked in a row.
        valid_share: share of the utterances held out for ``valid_loss``, at most ``valid_utterances`` of them.
        valid_utterances: the most utterances held out.
        valid_every: steps between two validations; each has a log line, whatever ``log_every`` is.
        log_every: steps between two log lines.
        save_every: steps between two checkpoints to resume from.
        accumulate: parts into which every process cuts its share of a batch to save memory; gradients are their sum.
            The centroids of ``routing`` move with each part.
        precision: ``float32``; ``float64``; ``bf16`` or ``fp16``, automatic mixed precision over float32 weights.
        compile: ``torch.compile`` the model; the first steps take longer.
    """

    steps: int = 1000
    batch_frames: int = 3200
    learning_rate: float = 1e-3
    warmup_share: float = 0.07
    clip: float = 5.0
    mask_share: float = 0.15
    span_frames: int = 3
    valid_share: float = 0.05
    valid_utterances: int = 64
    valid_every: int = 100
    log_every: int = 10
    save_every: int = 200
    accumulate: int = 1
    precision: str = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        positive = (
            "steps",
            "batch_frames",
            "span_frames",
            "valid_utterances",
            "valid_every",
            "log_every",
            "save_every",
            "accumulate",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"pretrain.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup_share", "mask_share", "valid_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"pretrain.{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"pretrain.{name} must be above 0, got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"pretrain.precision cannot be {self.precision!r}: {nearest(self.precision, PRECISIONS)}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how one upstream is pre-trained."""

    upstream: str
    preset: str
    data: DataConfig
    model: EncoderOptions
    attention: dict[str, Any]  # resolved: every option of the attention with its value
    pretrain: PretrainConfig

    def resolved(self) -> dict[str, Any]:
        """As plain values, for YAML and JSON."""
        return asdict(self)


def presets() -> list[str]:
    """The names of the presets."""
    return sorted(path.stem for path in (HERE / "presets").glob("*.yaml"))


def recipe_names() -> list[str]:
    """Upstreams that have a recipe file here."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def parse_overrides(overrides: Sequence[str], allowed: Sequence[str] = SECTIONS) -> dict[str, dict[str, Any]]:
    """``["pretrain.steps=50"]`` -> ``{"pretrain": {"steps": 50}}``; raises ``ValueError`` for any other form, or a
    section that is not ``allowed``."""
    parsed: dict[str, dict[str, Any]] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and name) or section not in allowed:
            raise ValueError(f"{text!r} is no override: write section.option=value; sections: {', '.join(allowed)}")
        read = parse_yaml(value, repr(text), "quote the value")
        parsed.setdefault(section, {})[name] = read if value.startswith(("'", '"')) else _scalar(read)
    return parsed


def sections(preset: str, upstream: str | None, overrides: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Preset, recipe and overrides laid over one another, section by section, not yet checked for types."""
    if preset not in presets():
        raise ValueError(f"unknown preset {preset!r}: {nearest(preset, presets())}")
    merged = _read(HERE / "presets" / f"{preset}.yaml", SECTIONS)
    if upstream is not None and (HERE / f"{upstream}.yaml").is_file():
        recipe = _read(HERE / f"{upstream}.yaml", ("attention",))
        merged["attention"] = {**merged.get("attention", {}), **recipe.get("attention", {})}
    for section, values in parse_overrides(overrides).items():
        merged[section] = {**merged.get(section, {}), **values}
    return merged


def load_recipe(upstream: str, preset: str, overrides: Sequence[str] = ()) -> Recipe:
    """The checked configuration; raises ``ValueError`` that lists what is unknown or of the wrong type, by section."""
    merged = sections(preset, upstream, overrides)
    wrong = []
    parts: dict[str, Any] = {}
    for section, kind in (("data", DataConfig), ("model", EncoderOptions), ("pretrain", PretrainConfig)):
        try:
            parts[section] = typed(kind, merged.get(section, {}), section)
        except ValueError as error:
            wrong.append(str(error))
    own = merged.get("attention", {})
    for name in sorted({each.name for each in fields(EncoderOptions)}.intersection(own)):
        wrong.append(f"attention.{name} is an option of the encoder that all upstreams share: write model.{name}")
    try:
        model = merged.get("model", {}) if "model" in parts else {}
        attention = asdict(split_options(upstream, {**model, **own})[1])
    except ValueError as error:
        wrong.append(str(error))
    if not wrong and parts["model"].max_frames > parts["pretrain"].batch_frames:
        wrong.append(
            f"pretrain.batch_frames={parts['pretrain'].batch_frames} must hold at least one crop of "
            f"model.max_frames={parts['model'].max_frames}: raise the one or lower the other"
        )
    if wrong:
        raise ValueError("; ".join(wrong))
    return Recipe(upstream=upstream, preset=preset, attention=attention, **parts)


def _read(path: Path, allowed: Sequence[str]) -> dict[str, dict[str, Any]]:
    content = read_yaml(path) or {}
    if not isinstance(content, dict) or not all(each is None or isinstance(each, dict) for each in content.values()):
        raise ValueError(f"{path}: a recipe or preset holds sections of 'name: value' lines: correct it")
    unknown = [key for key in content if key not in allowed]
    if unknown:
        raise ValueError(f"{path.name}: no section {unknown[0]!r} here ({nearest(unknown[0], list(allowed))})")
    return {section: {key: _scalar(value) for key, value in (content[section] or {}).items()} for section in content}


def _scalar(value: Any) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean the number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        return float(value)
    return value


def as_overrides(section: str, values: Mapping[str, Any]) -> list[str]:
    """``{"root": "/x"}`` -> ``['data.root="/x"']``; None is left out."""
    return [
        f"{section}.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None
    ]
