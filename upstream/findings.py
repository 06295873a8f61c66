"""What the suites of checks share: each rule becomes a finding in words, and tensors are compared."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def finding(run: Callable[..., None], *subject: Any) -> str:
    """What is wrong with ``subject`` by the rule ``run``; empty where nothing is. The rule starts at seed 0."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed would seed other devices too
    try:
        run(*subject)
    except Exception as error:  # a plug-in may raise anything, and all of it is a finding
        what = str(error).strip() or "no message"
        return what if isinstance(error, AssertionError) else f"{type(error).__name__}: {what}"
    return ""


def refuse_broken(name: str, results: Mapping[str, str]) -> None:
    """Raise ``AssertionError`` with a line for each rule that is broken, if any is."""
    broken = [f"{check}: {message}" for check, message in results.items() if message]
    if broken:
        raise AssertionError(
            f"the upstream {name!r} breaks {len(broken)} of {len(results)} rules\n" + "\n".join(broken)
        )


def close(got: Tensor, want: Tensor, message: str, tolerance: float = 1e-5) -> None:
    """Refuse a difference above ``tolerance``, relative to the largest of ``want`` where that is above 1."""
    got, want = got.detach(), want.detach()
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    worst = float((got - want).abs().max()) / scale if want.numel() else 0.0
    assert worst <= tolerance, f"{message} (largest relative difference {worst:.2g}, allowed {tolerance:g})"
