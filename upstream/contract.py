"""What an attention folder must offer, as types: the module itself and the facts beside it."""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from .plugins import UPSTREAMS

__all__ = ["UPSTREAMS", "Attention", "AttentionInfo", "Entry", "entry"]


@dataclass(frozen=True)
class AttentionInfo:
    """Facts about an attention that the planner, the audit and the leaderboard read.

    Args:
        title: as a table should print it.
        paper: where the definition comes from.
        family: ``baseline``, ``sparse``, ``lsh``, ``synthesizer``, ``proposal`` or ``control``.
        input_dependent: whether the attention weights depend on the input.
        order: time in the number of frames n: ``n``, ``n log n``, ``n^1.5`` or ``n^2``.
        macs: closed form of the multiply-accumulates of one utterance, projections included:
            ``macs(num_frames, hidden_dim, num_heads, **own options) -> int``.
        min_heads: the fewest heads with which it is defined.
        length_bound: whether it has parameters for ``max_frames`` positions and none beyond.
    """

    title: str
    paper: str
    family: str
    input_dependent: bool
    order: str
    macs: Callable[..., int]
    min_heads: int = 1
    length_bound: bool = False


class Attention(Protocol):
    """The module of an attention folder: B batch, n frames, D model dim, H heads.

    Built with keyword arguments ``hidden_dim, num_heads, max_frames, dropout`` and then its own. ``keep`` (B, n) bool
    is True where a frame is valid; None says that every frame is.
    """

    def __call__(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D), value and output projection included; padding comes out as zero."""
        ...

    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n); rows of valid queries sum to 1, the others are zero."""
        ...


@dataclass(frozen=True)
class Entry:
    """One attention folder, imported."""

    name: str
    attention: Callable[..., nn.Module]
    options: type
    info: AttentionInfo
    attend: Callable[[Any, Tensor, Tensor | None], Tensor]


def entry(name: str) -> Entry:
    """Import the folder ``name``; raises ``ValueError`` naming what it lacks."""
    module = UPSTREAMS.load(name, "attention")
    reference = UPSTREAMS.load(name, "reference")
    missing = [part for part in ("Attention", "Options", "INFO") if not hasattr(module, part)]
    missing += [] if hasattr(reference, "attend") else ["reference.attend"]
    if missing:
        raise ValueError(f"the upstream {name!r} lacks {', '.join(missing)}: see CONTRIBUTING.md, 'Add an upstream'")
    if not (isinstance(module.Options, type) and is_dataclass(module.Options)):
        raise ValueError(f"the upstream {name!r}: Options must be a frozen dataclass of its own options")
    return Entry(name, module.Attention, module.Options, module.INFO, reference.attend)
