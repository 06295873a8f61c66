"""The lines below a table of the leaderboard: how to read it, what it was made of, and what is not as it should be."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .columns import percent
from .names import BASELINE, MEL
from .row_times import sample_counts
from .rows import Row
from .statistics import FEWEST_CLUSTERS

SLOWED = 1.6  # undisturbed runs of 1,200 steps took 0.9 to 1.35 times as long as their steps in the timing lane
FEWEST_STEPS = 300  # below which the first steps, which are slow, count too much


def reading(table: Sequence[Row]) -> list[str]:
    """The lines without which the numbers of the table can't be read: chance, reference, ranks, times."""
    scored = [row for row in table if row.score is not None]
    if not scored:
        return []
    chances = join(f"{percent(row.chance)} %" for row in scored)
    reference = join(f"{percent(row.score)} %" for row in scored if row.upstream == MEL)
    missing = "not made yet"
    lines = [f"Chance: {chances}. Log-Mel features without an encoder ({MEL}): {reference or missing}."]
    ranked = [row for row in scored if row.ranks is not None]
    if len(ranked) > 1:
        few = min(row.num_speakers or 0 for row in ranked) < FEWEST_CLUSTERS
        unmatched = f"No differences: neither {BASELINE} nor {MEL} has a score."
        lines += [
            "Ranks of a table hold together at 95 %; = cannot be told from the best. Like intervals and differences "
            "they tell what other speakers could change; what other seeds could is the spread beside the seeds.",
            *([f"With fewer than {FEWEST_CLUSTERS} test speakers no two rows can be told apart."] if few else []),
            *([] if ranked[0].compared_to else [unmatched]),
            *([] if few else _smallest(scored)),
        ]
    baseline = join(row.baseline for row in scored if row.baseline)
    if not baseline:
        return [*lines, "Not timed."]
    return [
        *lines,
        f"Times as a ratio (x) to {baseline}, in rounds interleaved with it: median (quartiles) of the rounds' ratios. "
        f"Inference of utterances of {lengths(scored) or 'no length'}; RTF: computing time over audio time, smaller is "
        f"faster. {_disturbances(scored)}",
        *_slowed(scored),
    ]


def lengths(table: Sequence[Row]) -> str:
    """The lengths of the utterances on which inference was timed; empty when it was not."""
    return join(f"{row.inference_length_s:g} s" for row in table if row.inference_length_s is not None)


def facts(table: Sequence[Row]) -> list[str]:
    """Task, data, probes, machine and software of a table; where cells differ, all values."""
    cells = [cell for row in table for cell in row.cells]
    tasks, data, times, machines = (sections(cells, name) for name in ("task", "data", "time", "environment"))
    lines = []
    if tasks:
        heads = (
            f"{t['metric']} ({direction(t['higher_is_better'])}), {t['head']} head, over {t['unit']}" for t in tasks
        )
        lines += [f"Task: {join(heads)}. Split: {join(t['split'] for t in tasks)}"]
    if data:
        sizes = join(", ".join(f"{num} {name}" for name, num in d["splits"].items()) for d in data)
        speakers, folds = (join(d[key] for d in data) for key in ("num_speakers_test", "num_folds"))
        items = join(row.items for row in table if row.items is not None)
        lines += [f"Data: utterances {sizes}; {speakers} test speakers; folds {folds}; {items} scored items."]
    lines += _probes(table)
    if times:
        settings = join(f"threads: {t['threads']}, {json.dumps(t['setting'], sort_keys=True)}" for t in times)
        lines += [f"Timing: {settings}."]
    return [*lines, *made_on(machines)]


def made_on(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Machine and software of what was made in these environments (`environment.describe`)."""
    where = join(f"{_processors(e)}, {_gigabytes(e['ram_bytes'])} GB, {e['os']}" for e in machines)
    threads, python = (join(e[key] for e in machines) for key in ("threads", "python"))
    packages = join(", ".join(f"{name} {v}" for name, v in e["packages"].items() if v) for e in machines)
    return [
        f"Machine: {where}; threads: {threads}.",
        f"Software: Python {python}; {packages}; commit {join(map(commit, machines))}.",
    ]


def _processors(machine: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, [machine["cpu"], f"{machine['cores']} cores", machine.get("gpu")]))


def commit(machine: Mapping[str, Any]) -> str:
    """The code of an environment."""
    return (machine["git_commit"] or "unknown")[:12] + (" with local changes" if machine["git_dirty"] else "")


def remarks(table: Sequence[Row]) -> list[str]:
    """What is not as it should be: a line for each reason and each note, with the rows that it is told of."""
    found: dict[str, list[str]] = {}
    for row in table:
        if row.reason:
            found.setdefault(f"{row.status} ({_seeds(row)}): {row.reason}", []).append(row.label)
        for note in row.notes:
            found.setdefault(note, []).append(row.label)
    return [f"{', '.join(dict.fromkeys(labels))}: {text}" for text, labels in found.items()]


def direction(higher_is_better: bool) -> str:
    """In words."""
    return "higher is better" if higher_is_better else "lower is better"


def sections(cells: Iterable[dict], name: str) -> list[dict]:
    """A section of all cells that have it."""
    return [cell[name] for cell in cells if cell[name]]


def join(values: Iterable[object]) -> str:
    """Different values once each."""
    return " / ".join(dict.fromkeys(map(str, values)))


def _smallest(scored: Sequence[Row]) -> list[str]:
    """How small a difference this test set could show; nothing where no row differs from the baseline."""
    rows = [row for row in scored if row.detectable and math.isfinite(row.detectable)]
    if not rows:
        return []
    smallest = statistics.median(row.detectable or 0.0 for row in rows)
    speakers, items = join(row.num_speakers for row in rows), join(row.items for row in rows)
    return [
        f"The smallest difference to {rows[0].compared_to} that this test set could show: {percent(smallest)} percent "
        f"points, with {speakers} speakers and {items} items: what this table would tell four times in five, by the "
        f"standard error of the paired difference; median of {len(rows)} rows that differ from it."
    ]


def _disturbances(scored: Sequence[Row]) -> str:
    counts = sample_counts(cell for row in scored for cell in row.cells)
    worst = [row for row in scored if row.num_disturbed > row.num_samples / 2]
    told = "" if len(worst) == len(scored) else ", ".join(row.label for row in worst)
    return (
        f"{counts['num_disturbed']} of {counts['num_samples']} timing samples were taken while other programs used the "
        f"machine{f', among them more than half of those of {told}' if told else ''}."
    )


def _slowed(scored: Sequence[Row]) -> list[str]:
    """The rows whose pre-training took much longer than its steps do in the timing lane."""
    known = [
        (row.label, row.pretrain_s / row.lane_pretrain_s)
        for row in scored
        if row.pretrain_s and row.lane_pretrain_s and min(c["pretrain"]["steps"] for c in row.cells) >= FEWEST_STEPS
    ]
    told = [f"{label} ({ratio:.1f} times)" for label, ratio in known if ratio > SLOWED]
    if not told:
        return []
    return [
        f"Pre-training took longer than its steps do in the timing lane: {', '.join(told)}. Other programs or jobs "
        f"slowed it, and pretrain s says nothing of these rows; the picture has the pace of the lane."
    ]


def _race_ended(cell: Mapping[str, Any]) -> int:
    """0 where no learning rate was dropped early, as in cells made before that was an option."""
    if "race_ended" in (cell["probe"] or {}):
        return int(cell["probe"]["race_ended"])
    probe = (cell["config"] or {}).get("probe") or {}
    epochs, rates = probe.get("race_epochs", 0), probe.get("learning_rates")
    return epochs if isinstance(epochs, int) and isinstance(rates, list) and len(rates) > 1 else 0


def _probes(table: Sequence[Row]) -> list[str]:
    """The learning rates that probes were trained with, and which were chosen."""
    probes = sections((cell for row in table for cell in row.cells), "probe")
    swept = [probe for probe in probes if probe["tried"]]
    if not swept:
        return ["Probes: learning rates were not swept."] if probes else []
    rates = sorted({trial["learning_rate"] for probe in swept for trial in probe["tried"]})
    chosen = Counter(choice["learning_rate"] for probe in swept for choice in probe["chosen"] or ())
    trials = [score for probe in swept for trial in probe["tried"] for score in trial["dev"]]
    lines = [
        f"Probes: learning rates {', '.join(f'{rate:g}' for rate in rates)}, one chosen on "
        f"{join(probe['chosen_on'] for probe in swept)} in each fold of each cell: "
        f"{', '.join(f'{rate:g} in {chosen[rate]}' for rate in rates)} of {sum(chosen.values())}."
    ]
    raced = {epochs for row in table for cell in row.cells if (epochs := _race_ended(cell))}
    if raced:
        lines[0] += f" After {join(map(str, sorted(raced)))} epochs only the one that dev liked best was trained on."
    if None in trials:
        lines[0] += f" The loss of {trials.count(None)} of {len(trials)} heads was not finite."
    scored = [row for row in table if row.score is not None]
    ends = {row.label: end for row in scored if (end := _end_of_grid(row, rates)) is not None}
    if ends:
        named = (
            "all rows" if len(ends) == len(scored) else ", ".join(f"{label} ({end:g})" for label, end in ends.items())
        )
        lines += [
            f"At an end of these learning rates in more than half of the folds, and perhaps better beyond: {named}."
        ]
    return lines


def _end_of_grid(row: Row, rates: Sequence[float]) -> float | None:
    """The end of the grid that was chosen most, when ends were chosen in more than half of the row's folds."""
    chosen = [choice["learning_rate"] for probe in sections(row.cells, "probe") for choice in probe["chosen"] or ()]
    ends = Counter(rate for rate in chosen if rate in (rates[0], rates[-1]))
    return max(ends, key=ends.__getitem__) if len(rates) > 1 and ends.total() > len(chosen) / 2 else None


def _seeds(row: Row) -> str:
    seeds, probes = (" ".join(map(str, numbers)) for numbers in (row.seeds, row.probe_seeds))
    return f"seed {seeds}" if seeds == probes else f"seed {seeds}, probe seed {probes}"


def _gigabytes(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / 1e9:.1f}"
