"""The page about hidden states: pictures, tables of all numbers, how to read them, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...recipes.corpora import Corpus
from ..columns import percent
from ..environment import describe
from ..pages import data_note, escape, grid, where_made
from ..projection import default_perplexity
from ..result_files import write_atomically
from .measures import Share
from .phone_classes import MEMBERS, without_class
from .picture import draw, two_digits
from .sample import FRAMES_PER_PHONE, PER_SPEAKER, Sample
from .view import Numbers, View, state_name

SCHEMA = 1
ALT = {"phones": "frames by broad class of phones", "speakers": "utterances by speaker"}


def write(
    folder: Path,
    views: Sequence[View],
    samples: Mapping[str, Sample],
    corpus: Corpus,
    preset: str,
    seed: int,
    command: str,
) -> list[Path]:
    """Write ``states.md``, ``states.json`` and the pictures; the paths, the page first."""
    pictures = draw(views, samples)
    kinds = " and ".join(name.removesuffix("s") for name in samples)
    title = f"Hidden states by {kinds}: {corpus.name}, preset {preset}, seed {seed}"
    notes = _notes(samples, corpus)
    pngs = [name for name in pictures if name.endswith(".png")]
    page = [
        "# " + escape(title),
        "",
        "Made by",
        "",
        f"    {command}",
        "",
        *data_note(corpus.name, corpus.synthetic, corpus.note),
    ]
    alt = "; ".join(ALT[name] for name in samples)
    page += [f"[![PCA and t-SNE of hidden states: {alt}]({png})]({Path(png).with_suffix('.svg')})\n" for png in pngs]
    for name, sample in samples.items():
        page += [f"## {name.capitalize()}", "", *_table(name, views), f"- {_about(name, sample)}", ""]
    page += ["## State by state", "", *_by_state(samples, views)]
    page += ["## How to read this", "", *(f"- {escape(note)}" for note in notes), ""]
    machine = describe(torch.get_num_threads())
    page += where_made([machine])
    drawn = [{"file": png, "title": "Hidden states", "alt": alt} for png in pngs]
    told = _as_json(views, samples, corpus, preset, seed, command, notes, drawn, machine)
    content = {"states.md": "\n".join(page).encode(), "states.json": told, **pictures}
    for file, written in content.items():
        write_atomically(folder / file, written)
    return [folder / file for file in content]


def _table(name: str, views: Sequence[View]) -> list[str]:
    """The numbers of the state that is drawn, a row for each upstream, chance last."""
    classes = views[0].seen[name].by_state[0].broad is not None
    shares = [*(["same class % (95 %)"] if classes else []), f"same {name.removesuffix('s')} % (95 %)"]
    lines = [["upstream", "state", *shares, f"silhouette of {'classes' if classes else name}"]]
    for view in views:
        numbers = view.seen[name].by_state[view.state]
        lines.append([view.label, view.state_name, *map(_share, _shares(numbers)), two_digits(numbers.silhouette)])
    last = views[-1].seen[name].by_state[views[-1].state]
    lines.append(["by chance", "", *(percent(s.chance) for s in _shares(last)), two_digits(last.silhouette_chance)])
    return grid(lines)


def _by_state(samples: Mapping[str, Sample], views: Sequence[View]) -> list[str]:
    """The share of nearest neighbours with the same name at each state, upstreams as rows."""
    most = max(view.num_states for view in views)
    page = []
    for name in samples:
        lines = [[f"same {name.removesuffix('s')} %", *(state_name(state, max(most, 2)) for state in range(most))]]
        for view in views:
            found = [percent(numbers.name.value) for numbers in view.seen[name].by_state]
            lines.append([view.label, *found, *[""] * (most - len(found))])
        page += grid(lines)
    return page


def _shares(numbers: Numbers) -> list[Share]:
    return [*([numbers.broad] if numbers.broad else []), numbers.name]


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({'-'.join(map(percent, share.interval)) if share.interval else '-'})"


def _about(name: str, sample: Sample) -> str:
    """How many points of what."""
    counts = Counter(sample.names)
    few = {name: count for name, count in counts.items() if count < max(counts.values())}
    speakers = len(set(sample.speakers))
    utterances = len({u.id for u in sample.utterances})
    if name == "phones":
        fewer = ", ".join(f"{phone} {count}" for phone, count in sorted(few.items()))
        return (
            f"{len(sample.names)} frames: the middle ones of up to {FRAMES_PER_PHONE} segments of each of "
            f"{len(counts)} phones{f' (fewer of {fewer})' if fewer else ''}, from {utterances} utterances of "
            f"{speakers} speakers."
        )
    each = f"{min(counts.values())} to {max(counts.values())}" if few else f"{max(counts.values())}"
    return f"{utterances} utterances: {each} of each of {speakers} speakers (at most {PER_SPEAKER})."


def _notes(samples: Mapping[str, Sample], corpus: Corpus) -> list[str]:
    """What the numbers mean, and what is missing."""
    sizes = sorted({len(sample.names) for sample in samples.values()})
    perplexities = ", ".join(f"{default_perplexity(size):g} of {size} points" for size in sizes)
    notes = [
        "Points are the same for every upstream. Each dimension is brought to mean 0 and variance 1, as probes do it; "
        "numbers are of all dimensions, not of the picture.",
        f"PCA: the two directions of most variance, with their shares. t-SNE: near points stay near; distances between "
        f"groups and their sizes mean nothing (perplexity {perplexities}; started from PCA).",
        "Neighbours tell what decides distances. What does not may still be there for a trained probe to read: scores "
        "are on the leaderboard.",
    ]
    if "phones" in samples:
        sample = samples["phones"]
        classes = "; ".join(f"{name} {phones}" for name, phones in MEMBERS.items())
        notes.append(
            "same phone, same class: how often the nearest frame of another speaker is of that phone or broad class. "
            f"Classes: {classes}."
        )
        if unknown := without_class(sample.names):
            notes.append(f"Phones that are none of these, together a class of their own: {', '.join(unknown)}.")
    else:
        notes.append(f"Phones are not shown: {corpus.name} has no phone alignments of two speakers.")
    if "speakers" in samples:
        sample = samples["speakers"]
        alone = len(set(sample.groups)) == len(sample.groups)
        where = "utterance" if alone else "utterance from another session (chapter, or other speaker)"
        rooms = " Not every speaker has two sessions, so that rooms and microphones may tell speakers apart."
        notes.append(
            f"same speaker: how often the nearest {where} is the same speaker's; states are means over time."
            f"{rooms if alone else ''}"
        )
    else:
        notes.append(f"Speakers are not shown: {corpus.name} has no two speakers with three utterances.")
    notes.append(
        "By chance: for shares, that of the class among the points that could be nearest; for silhouettes, that of "
        "classes dealt out at random. Intervals resample speakers, and are too narrow where these are fewer than five."
    )
    return notes


def _as_json(
    views: Sequence[View],
    samples: Mapping[str, Sample],
    corpus: Corpus,
    preset: str,
    seed: int,
    command: str,
    notes: Sequence[str],
    pictures: Sequence[Mapping[str, str]],
    machine: Mapping[str, Any],
) -> bytes:
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "corpus": corpus.name,
        "preset": preset,
        "seed": seed,
        "command": command,
        "environment": machine,
        "data": corpus.fingerprint,
        "points": {name: len(sample.names) for name, sample in samples.items()},
        "table": [
            {"upstream": view.label, "state": state, "drawn": state == view.state, "sample": name, **_plain(numbers)}
            for view in views
            for name, seen in view.seen.items()
            for state, numbers in enumerate(seen.by_state)
        ],
        "notes": list(notes),
        "pictures": pictures,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _plain(numbers: Numbers) -> dict[str, Any]:
    shares = {"same_name": numbers.name, "same_class": numbers.broad}
    told: dict[str, Any] = {
        key: {"share": share.value, "chance": share.chance, "interval": share.interval}
        for key, share in shares.items()
        if share
    }
    return {**told, "silhouette": numbers.silhouette, "silhouette_by_chance": numbers.silhouette_chance}
