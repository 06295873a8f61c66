"""What an attention folder must offer, as types: the module itself and the facts beside it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn

from .plugins import UPSTREAMS

__all__ = ["UPSTREAMS", "Attention", "AttentionInfo", "Entry", "Variant", "entry"]


@dataclass(frozen=True)
class Variant:
    """Another way in which an attention can be computed: own options, and the order that comes with them."""

    options: Mapping[str, Any]
    order: str


@dataclass(frozen=True)
class AttentionInfo:
    """Facts about an attention that the planner, the audit and the leaderboard read.

    Args:
        title: as a table should print it.
        paper: where the definition comes from.
        family: ``baseline``, ``sparse``, ``lsh``, ``routing``, ``synthesizer``, ``fixed``, ``proposal`` or ``control``.
        input_dependent: whether the attention weights depend on the input.
        order: time in the number of frames n: ``n``, ``n log n``, ``n^1.5`` or ``n^2``, with the default options.
        macs: closed form of the multiply-accumulates of one utterance, projections included:
            ``macs(num_frames, hidden_dim, num_heads, **own options) -> int``.
        min_heads: the fewest heads with which it is defined.
        length_bound: whether it has parameters for ``max_frames`` positions and none beyond.
        selects_keys: whether each query attends to keys picked by rank, so that a rounded input may pick others.
        variants: options that change how it is computed, by name; checks and audit go through each.
        starts_from: the upstream whose trained maps an option ``maps`` takes; empty where there is no such option.
        starts_when: the own options under which it takes them; empty when it always does.
        note: what a reader of the leaderboard must know about its row.
    """

    title: str
    paper: str
    family: str
    input_dependent: bool
    order: str
    macs: Callable[..., int]
    min_heads: int = 1
    length_bound: bool = False
    selects_keys: bool = False
    variants: Mapping[str, Variant] = field(default_factory=dict)
    starts_from: str = ""
    starts_when: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def order_with(self, options: Mapping[str, Any]) -> str:
        """The order under these own options, as plain values."""
        for variant in self.variants.values():
            if all(options.get(key) == value for key, value in variant.options.items()):
                return variant.order
        return self.order

    def needs_maps_of(self, options: Mapping[str, Any]) -> str:
        """The upstream whose trained maps these own options ask for without naming a file; empty when there is none."""
        asked = self.starts_from and all(options.get(key) == value for key, value in self.starts_when.items())
        return self.starts_from if asked and not options.get("maps") else ""


class Attention(Protocol):
    """The module of an attention folder: B batch, n frames, D model dim, H heads.

    Built with keyword arguments ``hidden_dim, num_heads, max_frames, dropout`` and then its own. ``keep`` (B, n) bool
    is True where a frame is valid; None says that every frame is.

    One with an option ``maps`` (a file, see ``maps_file.py``; empty by default) also has ``start_from(maps)``, which is
    called once, after all weights have started and never with a checkpoint: maps (H, N, N) float32, N = max_frames,
    rows sum to 1. Its constructor leaves the file alone, so that it can be built, timed and restored without one.
    """

    def __call__(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """(B, n, D) -> (B, n, D), value and output projection included; padding comes out as zero."""
        ...

    def weights(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The attention maps (B, H, n, n); rows of valid queries sum to 1, the others are zero."""
        ...


@dataclass(frozen=True)
class Entry:
    """One attention folder, imported; ``variant`` names one of ``info.variants``, or is empty for the defaults."""

    name: str
    attention: Callable[..., nn.Module]
    options: type
    info: AttentionInfo
    attend: Callable[[Any, Tensor, Tensor | None], Tensor]
    variant: str = ""

    @property
    def own(self) -> dict[str, Any]:
        """All own options as plain values."""
        return {**asdict(self.options()), **(self.info.variants[self.variant].options if self.variant else {})}

    def variants(self) -> list["Entry"]:
        """The entry itself, then one for each variant."""
        return [self, *(replace(self, variant=name) for name in self.info.variants)]


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
