"""The benchmark's configuration: a recipe for each upstream, and how to probe and time them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from ..downstream.probe import ProbeSettings
from ..recipes.config import Recipe, load_recipe, parse_overrides, sections
from ..upstream.options import typed
from .names import BASELINE, MEL
from .plain import flat


@dataclass(frozen=True)
class TimingSettings:
    """How upstreams are timed.

    Args:
        lengths_s: utterance lengths at which inference is timed, in seconds.
        rounds: interleaved rounds.
        train_utterances: utterances of max_frames stacked frames in a timed training step.
        min_sample_s: a sample shorter than this is made of several calls.
        max_retries: rounds taken again when others used the machine meanwhile.
    """

    lengths_s: list[float] = field(default_factory=lambda: [2.0, 5.0, 10.0, 15.0, 30.0])
    rounds: int = 7
    train_utterances: int = 8
    min_sample_s: float = 0.05
    max_retries: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be timed."""
        if self.rounds < 1 or self.train_utterances < 1:
            raise ValueError(f"timing needs rounds and train_utterances of at least 1, got {self}")
        if not self.lengths_s or min(self.lengths_s) <= 0:
            raise ValueError(f"timing.lengths_s needs lengths above 0, got {self.lengths_s}")


@dataclass(frozen=True)
class Study:
    """One upstream's share of a benchmark run; ``recipe`` of ``mel`` is that of the baseline, for its data."""

    upstream: str
    recipe: Recipe
    probe: ProbeSettings
    timing: TimingSettings

    def resolved(self) -> dict[str, Any]:
        """As plain values, section by section."""
        own = {"upstream": self.upstream, "attention": {} if self.upstream == MEL else self.recipe.attention}
        return {**self.recipe.resolved(), **own, "probe": asdict(self.probe), "timing": asdict(self.timing)}


def load_study(upstream: str, preset: str, overrides: Sequence[str] = ()) -> Study:
    """The checked configuration of one upstream; every mistake of a section is told at once."""
    encoder = BASELINE if upstream == MEL else upstream
    if upstream in (MEL, BASELINE):  # they have no attention options, and come along whether asked for or not
        own = parse_overrides(overrides).get("attention", {})
        overrides = [text for text in overrides if text.partition("=")[0].removeprefix("attention.") not in own]
    recipe = load_recipe(encoder, preset, overrides)
    merged = sections(preset, encoder, overrides)
    return Study(
        upstream=upstream,
        recipe=recipe,
        probe=typed(ProbeSettings, merged.get("probe", {}), "probe"),
        timing=typed(TimingSettings, merged.get("timing", {}), "timing"),
    )


def difference(upstream: str, preset: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What ``overrides`` changed against the preset and the recipe, as dotted keys."""
    return dict(_difference(upstream, preset, tuple(overrides)))


@cache  # every cell of a run asks, and omegaconf takes its time
def _difference(upstream: str, preset: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    before, after = (flat(load_study(upstream, preset, given).resolved()) for given in ((), overrides))
    return {key: value for key, value in after.items() if before.get(key) != value}


def check_overrides(upstreams: Sequence[str], overrides: Sequence[str]) -> None:
    """Refuse an ``attention.`` option that only upstreams without options could have taken."""
    wanted = parse_overrides(overrides).get("attention", {})
    takers = [name for name in upstreams if name not in (MEL, BASELINE)]
    if wanted and not takers:
        raise ValueError(f"{', '.join(upstreams)} has no attention options: leave out attention.{next(iter(wanted))}")
