"""Attention upstreams: ``names()``, ``load(name)``, ``load_encoder(ckpt)``, ``check_upstream(name)``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_upstream", "load", "load_encoder", "names"]


def names() -> list[str]:
    """The names of all upstreams, sorted: folders here and those other packages offer. Imports none of them."""
    from .plugins import UPSTREAMS

    return UPSTREAMS.names()


def load(name: str, ckpt: str | Path | None = None, **options: Any) -> "nn.Module":
    """Build an upstream: ``load("fixed_init", hidden_dim=768, num_heads=12)`` or ``load("fixed_init", ckpt=folder)``.

    The expert maps a list of 16 kHz waveforms to ``{"hidden_states": [(B, T, D), ...]}`` at 10 ms, and its
    ``encoder(frames, keep)`` maps stacked frames (B, n, input_dim) to L + 1 states (B, n, D). ``mel`` is the log-Mel
    row without an encoder.

    Raises:
        ValueError: for an unknown name or option, or a checkpoint that cannot be used.
    """
    if name == "mel":
        from .mel import MelExpert

        try:
            return MelExpert(ckpt, **options)
        except TypeError as error:
            raise ValueError(f"upstream 'mel': {error}; its one option is num_mels") from None
    from .plugins import UPSTREAMS

    return UPSTREAMS.load(name, "expert").UpstreamExpert(ckpt=ckpt, **options)


def load_encoder(ckpt: str | Path) -> "nn.Module":
    """The encoder of a checkpoint without its features: frames (B, n, input_dim) and keep (B, n) to L + 1 (B, n, D).

    Checkpoints that hold an encoder alone, as ``s3prl_checkpoint from --encoder-only`` makes them, have no other use.

    Raises:
        ValueError: when the checkpoint cannot be used.
    """
    from .checkpoint import load_checkpoint
    from .expert import restored_encoder

    return restored_encoder(*load_checkpoint(ckpt), ckpt)


def check_upstream(name: str) -> None:
    """Run the conformance suite on an upstream; raises ``AssertionError`` that lists every rule it breaks."""
    from .checks import check_upstream as check

    check(name)
