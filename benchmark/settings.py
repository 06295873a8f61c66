"""The benchmark's configuration: a recipe for each upstream, and how to probe and time them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from ..downstream.probe import ProbeSettings
from ..recipes.config import Recipe, as_overrides, load_recipe, parse_overrides, sections
from ..upstream.options import typed
from ..upstream.plugins import UPSTREAMS
from ..upstream.s3prl_upstreams import parse
from .names import BASELINE, attention_of, is_foreign, is_pretrained
from .plain import flat
from .variants import options_of, row_label, row_name


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
    """One row's share of a benchmark run. ``upstream`` tells it from all other rows of the run: a name, or
    ``NAME[option=value]``, of which ``recipe.upstream`` is the name alone. ``recipe`` of what is not pre-trained is
    that of the baseline, for its data, and for the baseline that it is timed against."""

    upstream: str
    recipe: Recipe
    probe: ProbeSettings
    timing: TimingSettings
    checkpoint: str | None = None  # of an upstream of s3prl's: what told it from others when the study was loaded

    @property
    def label(self) -> str:
        """What tables and result files call the row: ``upstream``, with checkpoints and maps without their folders."""
        return parse(self.upstream).label if is_foreign(self.upstream) else row_label(self.upstream)

    def resolved(self) -> dict[str, Any]:
        """As plain values, section by section."""
        own: dict[str, Any] = {"upstream": self.upstream}
        own["attention"] = self.recipe.attention if is_pretrained(self.upstream) else {}
        if self.checkpoint is not None:
            own["checkpoint"] = self.checkpoint
        return {**self.recipe.resolved(), **own, "probe": asdict(self.probe), "timing": asdict(self.timing)}


def load_study(upstream: str, preset: str, overrides: Sequence[str] = ()) -> Study:
    """The checked configuration of one row; every mistake of a section is told at once. Rows that are equal have one
    name, however they were written."""
    upstream = parse(upstream).text if is_foreign(upstream) else upstream
    encoder = UPSTREAMS.check(attention_of(upstream)) if is_pretrained(attention_of(upstream)) else BASELINE
    general = parse_overrides(overrides).get("attention", {})
    if encoder == BASELINE:  # these have no attention options, and some come along whether asked for or not
        overrides = [text for text in overrides if text.partition("=")[0].removeprefix("attention.") not in general]
    own, recipe = options_of(upstream), load_recipe(encoder, preset, overrides)
    if own:
        twice = [key for key in own if key in general]
        if twice:
            raise ValueError(f"{upstream} and attention.{twice[0]} both set {twice[0]}: leave out one of them")
        usual = recipe.attention
        try:
            recipe = load_recipe(encoder, preset, [*overrides, *as_overrides("attention", own)])
            upstream = row_name(encoder, recipe.attention, usual)
        except ValueError as error:
            raise ValueError(f"{upstream}: {error}") from None
    merged = sections(preset, encoder, overrides)
    return Study(
        upstream=upstream,
        recipe=recipe,
        probe=typed(ProbeSettings, merged.get("probe", {}), "probe"),
        timing=typed(TimingSettings, merged.get("timing", {}), "timing"),
        checkpoint=parse(upstream).checkpoint if is_foreign(upstream) else None,
    )


def difference(upstream: str, preset: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a row and ``overrides`` changed against the preset and the recipe, as dotted keys."""
    return dict(_difference(upstream, preset, tuple(overrides)))


@cache  # every cell of a run asks, and omegaconf takes its time
def _difference(upstream: str, preset: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    rows = ((attention_of(upstream), ()), (upstream, overrides))
    before, after = (flat(load_study(row, preset, given).resolved()) for row, given in rows)
    return {key: value for key, value in after.items() if before.get(key) != value and key != "upstream"}


def telling(upstreams: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Those of ``overrides`` by which pages of the same rows, made with several settings, are told apart. Where the
    data are does not count: the corpus has a name. Nor do options that none of these rows takes."""
    idle = ("data.root=", "data.corpus=", *(() if _takers(upstreams) else ("attention.",)))
    return sorted(text for text in overrides if not text.startswith(idle))


def check_overrides(upstreams: Sequence[str], overrides: Sequence[str]) -> None:
    """Refuse an ``attention.`` option that only upstreams without options could have taken."""
    wanted = parse_overrides(overrides).get("attention", {})
    if wanted and not _takers(upstreams):
        raise ValueError(f"{', '.join(upstreams)} has no attention options: leave out attention.{next(iter(wanted))}")


def _takers(upstreams: Sequence[str]) -> list[str]:
    """Those that may have attention options."""
    return [name for name in upstreams if is_pretrained(name) and name != BASELINE]
