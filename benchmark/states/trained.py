"""The frozen upstreams of a finished run, found and loaded; nothing is trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...upstream import load
from ..names import is_pretrained
from ..prepare import Speech, frozen_upstream, lineage
from ..result_files import safe_name
from ..settings import Study

if TYPE_CHECKING:
    from s3prl.upstream.interfaces import UpstreamBase


def checkpoint(study: Study, speech: Speech, seed: int, out: Path) -> Path | None:
    """The checkpoint that a run of the same settings and code left in ``out``; None where there is none."""
    made = sorted((out / "pretrain" / speech.pretraining.name).glob(f"*--{lineage(study, speech, seed)}/checkpoint"))
    return made[0] if made else None


def frozen(study: Study, speech: Speech, seed: int, out: Path, device: str) -> UpstreamBase:
    """The upstream of a study; one that is pre-trained must have its checkpoint in ``out``."""
    if not is_pretrained(study.upstream):
        return frozen_upstream(study, speech, seed, out, device)[0]
    found = checkpoint(study, speech, seed, out)
    assert found is not None, "checkpoints are asked for before"
    return load(study.recipe.upstream, found, long_input="windows")


def how_to_train(
    missing: Sequence[Study], speech: Speech, seed: int, out: Path, overrides: Sequence[str], device: str
) -> str:
    """In one line: what ``out`` lacks, what it has instead, and the command that makes it."""
    names, preset = [study.upstream for study in missing], missing[0].recipe.preset
    task = "phone_linear" if any(u.phones is not None for u in speech.probing.utterances) else "speaker"
    words = ["python", "run_benchmark.py", "--preset", preset, "--upstream", *names, "--downstream", task]
    words += ["--seed", str(seed), "--out", str(out), *(["--device", device] if device != "cpu" else []), *overrides]
    runs = sorted(
        folder.parent.name
        for study in missing
        for folder in (out / "pretrain" / speech.pretraining.name).glob(f"{safe_name(study.label)}--*/checkpoint")
    )
    others = f" (what it has, {', '.join(runs)}, was made with other settings or code)" if runs else ""
    wanted = f"{' and '.join(names)} pre-trained on {speech.pretraining.name} with preset {preset} and seed {seed}"
    return f"{out} has no {wanted}{others}: make it with {shlex.join(words)}"
