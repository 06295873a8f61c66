"""An analysis as text: the page ``attention.md`` and a summary for the terminal."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from ..columns import no_minus_zero
from ..pages import escape, grid, where_made

MEASURES = (  # key of the table, heading, digits, factor
    ("near", "near", 2, 1),
    ("sided", "sided", 2, 1),
    ("vertical", "vertical", 2, 1),
    ("explained", "explained by the mean map, %", 0, 100),
    ("explained_by_offset", "by the offset alone, %", 0, 100),
    ("distance_frames", "distance, frames", 1, 1),
    ("globalness", "globalness, nats", 2, 1),
    ("verticality", "verticality, nats", 2, 1),
    ("diagonality", "diagonality", 3, 1),
    ("same_segment", "same segment, %", 0, 100),
    ("same_phone", "same phone, %", 0, 100),
    ("same_turn", "same turn, %", 0, 100),
)
READING = (
    "A head is described by its mean map over all crops.",
    "**Explained by the mean map**: the share of what sets its maps apart from even attention that is the same in "
    "every crop (100 % for weights that do not depend on the input); **by the offset alone**: the part of it that "
    "hangs on key - query only.",
    "**Distance**: mean of |query - key|. **Globalness**: mean entropy of the rows. **Verticality**: minus the entropy "
    "of the mean row. **Diagonality**: minus the mean distance over the length of a crop.",
    "**Same segment, phone, turn**: the share of attention within the query's own phone from its start to its end, on "
    "frames with the same phone anywhere in the crop (silence counts as one), and with the same speaker in crops "
    "spliced of two. What even attention would have is the line chance.",
    "The cases follow written rules (benchmark/attention/cases.py): a map is compared with one whose every row is its "
    "mean row. *Near-diagonal* (measure near): mass within a thirty-second of the crop around the diagonal. *One-sided "
    "context* (sided, negative for the past): beyond that band the past outweighs the future, or the other way round. "
    "*Vertical*: the mean row is uneven, that is, there are columns. The largest measure names the case; *flat*: none "
    "is 0.15 or more. "
    "They are ours: the study names none in the text we have.",
)


def markdown(found: Mapping[str, Any]) -> str:
    """The page of one analysis."""
    table = found["table"]
    of = f", of the subsets {escape(', '.join(found['subsets']))}" if found["subsets"] else ""
    kind = "synthetic speech" if found["synthetic"] else "real speech"
    lines = [
        f"# Attention of {escape(found['upstream'])}",
        "",
        f"{escape(found['title'])}, preset {found['preset']} ({found['steps']} steps), seed {found['seed']}, "
        f"pre-trained on {escape(found['corpus'])} ({kind}) to a masked L1 of {found['pretraining']['valid_loss']:.3f} "
        f"on held-out utterances, in {found['pretraining']['precision']}. Means over {found['utterances']} crops of "
        f"{found['frames']} frames ({found['frames'] * found['frame_s']:.2f} s), one an utterance{of}.",
        "",
        "    " + found["command"],
        "",
        "## Cases",
        "",
        *grid(_counts(found)),
        *[f"- {escape(note)}" for note in found["notes"]],
        "",
    ]
    for picture in found["pictures"]:
        lines += [f"## {picture['title']}", "", f"![{picture['alt']}]({picture['file']})", ""]
    lines += ["## Layer by layer", "", *grid(_layers(found)), "## Head by head", "", *grid(_heads(table))]
    lines += ["## How to read it", "", *[f"- {line}" for line in READING], ""]
    return "\n".join([*lines, *where_made([found["environment"]])]).rstrip()


def terminal(found: Mapping[str, Any]) -> str:
    """What the command prints of one analysis."""
    counts = []
    for layer, numbers in zip(found["layers"], found["cases"]["by_layer"], strict=True):
        named = [f"{n} {name}" for n, name in zip(numbers, found["cases"]["names"], strict=True) if n]
        counts.append(f"layer {layer}: {', '.join(named)}")
    explained = [row["explained"] for row in found["table"] if row["explained"] is not None]
    share = (
        [f"explained by the mean maps: {100 * mean(explained):.0f} % on average over the heads"] if explained else []
    )
    return "\n".join([f"{found['upstream']}: {found['utterances']} crops of {found['frames']} frames", *counts, *share])


def _counts(found: Mapping[str, Any]) -> list[list[str]]:
    rows = found["cases"]["by_layer"]
    total = [sum(column) for column in zip(*rows, strict=True)]
    names = [str(layer) for layer in found["layers"]]
    lines = [["layer", *found["cases"]["names"]]]
    lines += [[name, *map(str, row)] for name, row in zip(names, rows, strict=True)]
    return lines if len(rows) == 1 else [*lines, ["all", *map(str, total)]]


def _measured(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int, int]]:
    return [measure for measure in MEASURES if any(row.get(measure[0]) is not None for row in table)]


def _layers(found: Mapping[str, Any]) -> list[list[str]]:
    """Means over the heads of each layer, and what even attention has."""
    table, measures = found["table"], _measured(found["table"])
    lines = [["layer", *(title for _, title, _, _ in measures)]]
    for layer in found["layers"]:
        rows = [row for row in table if row["layer"] == layer]
        lines.append([str(layer), *(_text([row[key] for row in rows], *how) for key, _, *how in measures)])
    if found["chance"]:
        chances = {f"same_{mark}": share for mark, share in found["chance"].items()}
        lines.append(["chance", *(_text([chances.get(key)], *how) for key, _, *how in measures)])
    return lines


def _heads(table: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    measures = _measured(table)
    lines = [
        [
            f"{row['layer']}.{row['head']}", row["case"], row["detail"],
            *(_text([row[key]], *how) for key, _, *how in measures),
        ]
        for row in table
    ]  # fmt: skip
    return [["head", "case", "detail", *(title for _, title, _, _ in measures)], *lines]


def _text(values: Sequence[float | None], digits: int, factor: int) -> str:
    known = [value for value in values if value is not None]
    return no_minus_zero(f"{factor * mean(known):.{digits}f}") if known else "-"
