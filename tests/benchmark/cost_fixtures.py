"""For the tests of the cost audit: an invented audit, and an upstream of another package that misbehaves on request."""

import dataclasses
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3prl_attention.benchmark.cost_case import ATTENTION, LAYER, PHASES, TRAIN
from s3prl_attention.upstream.contract import UPSTREAMS

LENGTHS = (512, 1024, 2048, 4096)
TWIN = """
    import os
    from dataclasses import dataclass, replace
    import torch
    from s3prl_attention.upstream.contract import Variant
    from s3prl_attention.upstream.self_attention import attention as sound

    @dataclass(frozen=True)
    class Options:
        manner: str = "sound"

    class Attention(sound.Attention):
        def __init__(self, *, manner="sound", **sizes):
            super().__init__(**sizes)
            self.manner, self.max_frames = manner, sizes["max_frames"]

        def forward(self, x, keep):
            if self.manner == "greedy" and x.shape[1] == self.max_frames:
                torch.ones(1 << 24)
            if self.manner == "broken":
                raise RuntimeError("broken on\\npurpose")
            if self.manner == "deadly" and self.training:
                os._exit(9)
            return super().forward(x, keep)

    INFO = replace(
        sound.INFO,
        title="Twin",
        family="control",
        macs=lambda num_frames, hidden_dim, num_heads, manner: 7 * num_frames,
        variants={manner: Variant({"manner": manner}, "n") for manner in ("broken", "deadly", "greedy")},
    )
"""
GREEDY_BYTES = 4 << 24


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An upstream ``twin`` with variants that raise, die in training, or take 64 MiB."""
    home = tmp_path / "site" / "cost_twin"
    home.mkdir(parents=True)
    files = {"__init__.py": "", "attention.py": textwrap.dedent(TWIN), "expert.py": ""}
    files["reference.py"] = "from s3prl_attention.upstream.self_attention.reference import attend"
    for name, text in files.items():
        (home / name).write_text(text)
    facts = home.parent / "cost_twin-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: cost-twin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[s3prl_attention.upstreams]\ntwin = cost_twin\n")
    monkeypatch.syspath_prepend(str(home.parent))
    monkeypatch.setitem(vars(UPSTREAMS), "packages", dataclasses.replace(UPSTREAMS).packages)
    yield
    for module in [name for name in sys.modules if name.split(".")[0] == "cost_twin"]:
        del sys.modules[module]


def invented_audit(powers: dict[str, float], lengths: tuple[int, ...] = LENGTHS) -> dict:
    """An audit in which each row takes n^power, as long as the baseline (power 2) at n=1024, in rounds that drift."""
    drift = (1.0, 1.3, 1.6)
    cells = []
    for row, power in powers.items():
        for n in lengths:
            times = {}
            for phase, factor in zip(PHASES, (1, 2, 6), strict=True):
                own, base = (factor * 1e-2 * (n / 1024) ** p for p in (power, 2.0))
                times[phase] = {
                    "samples_s": [own * d for d in drift],
                    "baseline_samples_s": [base * d for d in drift],
                    "disturbed": [False, False, n == lengths[0]],
                    "repeats": 1,
                    "interleaved_with": list(powers),
                }
            sizes = {ATTENTION: 1e6, LAYER: 2e6, TRAIN: 5e6}
            memory = {
                phase: {"peak_bytes": int(size * n / 512), "first_call_s": 1.0, "module_bytes": 9_000_000}
                for phase, size in sizes.items()
            }
            cell = {"row": row, "num_frames": n, "memory": memory, "time": times, "problems": {}}
            cells.append({**cell, "source_hash": "f00d", "run": 0})
    machine = {
        "cpu": "A CPU", "cores": 2, "threads": 2, "ram_bytes": 24 << 30, "packages": {"torch": "2.14.1"},
        "git_commit": "0123456789abcdef", "git_dirty": False,
    }  # fmt: skip
    families = {"self_attention": "baseline"}
    facts = {
        row: {
            "title": row.title(),
            "family": families.get(row, "control"),
            "order": f"n^{power:g}",
            "macs": {str(n): 10**6 * n for n in sorted({*lengths, 1024, 4096})},
            "source_hash": "f00d",
            "problem": None,
        }
        for row, power in powers.items()
    }
    sizes = {"hidden_dim": 768, "num_heads": 12, "threads": 2, "rounds": 3}
    return {
        "schema": 1,
        "baseline": "self_attention",
        "fit_from": 1024,
        "settings": {**sizes, "phase_s": 30.0, "min_sample_s": 0.0, "max_case_s": 60.0},
        "runs": [{"command": "python -m s3prl_attention.benchmark.cost", "environment": machine}],
        "rows": facts,
        "cells": cells,
    }
