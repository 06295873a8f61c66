"""The cost audit as pages: a table of exponents, ratios and crossovers, a table for each phase, a csv, the pictures."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cost_case import ATTENTION, LAYER, PHASES, TRAIN
from .cost_file import SHOWN_FRAMES, Audit, cells_of, is_timed
from .cost_plot import draw
from .facts import commit
from .pages import escape
from .power_law import crossover, exponent, exponent_with_error
from .result_files import write_atomically
from .statistics import ratio_spread

PREFERRED_FRAMES = 4096  # the length at which layers are compared, if it was measured
NOTHING = "-"
MB = 1e6
SHORT_PROBLEMS = ("out of memory", "not run", "not timed")


def write_report(folder: Path, audit: Audit) -> list[Path]:
    """Write cost.md, cost.csv, cost.png and cost.svg from the audit alone; returns the paths of all files."""
    pictures = draw(audit)
    contents = {"cost.md": markdown(audit).encode(), "cost.csv": csv_text(audit).encode(), **pictures}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in ("cost.json", *contents)]


def markdown(audit: Audit) -> str:
    """The page."""
    lengths, rows = all_lengths(audit), ordered_rows(audit)
    titles, *lines = summary(audit)
    page = ["# Complexity audit", "", "Made by", "", *(f"    {line}" for line in commands(audit)), ""]
    page += [line for told in setting(audit) for line in (told, "")]
    page += ["![Time and ratio against length](cost.png)", "", "## Summary", "", *_table(titles, lines), ""]
    page += [f"- **{title}**: {text}" for title, text in meaning(audit)]
    page += ["", "## Not measured", "", *(f"- {escape(line)}" for line in failures(audit) or ["Everything was."]), ""]
    for phase in PHASES:
        page += [f"## {phase[0].upper()}{phase[1:]}: milliseconds, and ratio to {audit['baseline']}", ""]
        page += [*_table(["upstream", *map(str, lengths)], (_times(audit, row, phase, lengths) for row in rows)), ""]
    page += ["## Peak memory of attention forward, in MB", ""]
    page += [*_table(["upstream", *map(str, lengths)], (_peaks(audit, row, lengths) for row in rows)), ""]
    return "\n".join(page)


def summary(audit: Audit) -> list[list[str]]:
    """The texts of the table that compares all rows, its titles first."""
    at = _compared_at(audit)
    titles = [
        "upstream", "declared order", "fitted exponent", *(f"MACs at {n}" for n in SHOWN_FRAMES),
        f"layer forward at {at}, ratio", f"layer forward+backward at {at}, ratio", "crossover",
        "memory exponent", f"peak MB at {at}, attention", f"peak MB at {at}, layer forward+backward", "parameters MB",
    ]  # fmt: skip
    return [titles, *(_summary(audit, row, at) for row in ordered_rows(audit))]


def _compared_at(audit: Audit) -> int:
    lengths = all_lengths(audit)
    return PREFERRED_FRAMES if PREFERRED_FRAMES in lengths else lengths[-1]


def csv_text(audit: Audit) -> str:
    """A line for each row, length and phase."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["upstream", "order", "num_frames", "phase", "macs", "median_s", "rounds", "disturbed"]
    columns += ["ratio_median", "ratio_low", "ratio_high", "peak_bytes", "module_bytes", "problem"]
    writer.writerow(columns)
    for row in ordered_rows(audit):
        facts = audit["rows"][row]
        if facts["problem"]:
            writer.writerow([row, *[""] * (len(columns) - 2), facts["problem"]])
        for num_frames, cell in cells_of(audit, row).items():
            for phase in PHASES:
                time, memory = cell["time"].get(phase, {}), cell["memory"].get(phase, {})
                samples_s = time.get("samples_s", [])
                ratio = _ratio(time) or ("", "", "")
                line = [row, facts["order"], num_frames, phase, facts["macs"].get(str(num_frames), "")]
                line += [np.median(samples_s) if samples_s else "", len(samples_s), sum(time.get("disturbed", []))]
                line += [*ratio, memory.get("peak_bytes", ""), memory.get("module_bytes", "")]
                writer.writerow([*line, cell["problems"].get(phase, "")])
    return text.getvalue()


def ordered_rows(audit: Audit) -> list[str]:
    """The baseline first, then by family and name."""
    return sorted(audit["rows"], key=lambda row: (row != audit["baseline"], audit["rows"][row]["family"], row))


def all_lengths(audit: Audit) -> list[int]:
    """Every length of which there is a cell."""
    return sorted({cell["num_frames"] for cell in audit["cells"]})


def samples_of(audit: Audit, row: str, phase: str, key: str = "samples_s") -> dict[int, list[float]]:
    """Length -> samples of a row in a phase, where there are any."""
    found = {n: cell["time"].get(phase, {}).get(key, []) for n, cell in cells_of(audit, row).items()}
    return {n: samples for n, samples in found.items() if samples}


def _summary(audit: Audit, row: str, at: int) -> list[str]:
    facts, cells = audit["rows"][row], cells_of(audit, row)
    fit_from = audit["fit_from"]
    slope = exponent({n: s for n, s in samples_of(audit, row, ATTENTION).items() if n >= fit_from})
    peaks = {n: cell["memory"][ATTENTION]["peak_bytes"] for n, cell in cells.items() if ATTENTION in cell["memory"]}
    memory = exponent_with_error({n: peak for n, peak in peaks.items() if n >= fit_from})
    here = cells.get(at, {"time": {}, "memory": {}, "problems": {}})
    weighed = here["memory"].get(TRAIN, {}), here["memory"].get(ATTENTION, {})
    return [
        row,
        facts["order"] or NOTHING,
        f"{slope[0]:.2f} ({slope[1]:.2f} to {slope[2]:.2f})" if slope else NOTHING,
        *(f"{facts['macs'][str(n)] / 1e9:.3g} G" if facts["macs"] else NOTHING for n in SHOWN_FRAMES),
        *(_ratio_text(here, phase) for phase in (LAYER, TRAIN)),
        _crossover(audit, row),
        NOTHING if memory is None else f"{memory[0]:.2f}" + ("" if memory[1] is None else f" ± {memory[1]:.2f}"),
        *(f"{found['peak_bytes'] / MB:.0f}" if found else NOTHING for found in reversed(weighed)),
        next((f"{found['module_bytes'] / MB:.0f}" for found in weighed if found), NOTHING),
    ]


def _crossover(audit: Audit, row: str) -> str:
    own, base = (samples_of(audit, row, LAYER, key) for key in ("samples_s", "baseline_samples_s"))
    if row == audit["baseline"]:
        return "is the baseline"
    if not own or set(own) != set(base):
        return NOTHING
    found, longest = crossover(own, base), max(own)
    if found is None:
        return f"none up to {longest}"
    return f"{found}" if longest == all_lengths(audit)[-1] else f"{found} (measured up to {longest})"


def _ratio(time: dict[str, Any]) -> tuple[float, float, float] | None:
    """Median and quartiles of the ratio to the baseline; None without samples of both."""
    if not time.get("samples_s") or not time.get("baseline_samples_s"):
        return None
    return ratio_spread(time["samples_s"], time["baseline_samples_s"])


def _ratio_text(cell: dict[str, Any], phase: str) -> str:
    ratio = _ratio(cell["time"].get(phase, {}))
    if ratio:
        return "{:.2f} ({:.2f} to {:.2f})".format(*ratio)
    return _short(cell["problems"].get(phase, NOTHING))


def _short(problem: str) -> str:
    """A problem as a table shows it: errors of an upstream are told below."""
    return problem if problem == NOTHING or problem.startswith(SHORT_PROBLEMS) else "failed, see below"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _times(audit: Audit, row: str, phase: str, lengths: Sequence[int]) -> list[str]:
    cells, texts = cells_of(audit, row), []
    for num_frames in lengths:
        cell = cells.get(num_frames, {"time": {}, "problems": {}})
        samples_s = cell["time"].get(phase, {}).get("samples_s")
        ratio = _ratio(cell["time"].get(phase, {}))
        text = _ms(1000 * float(np.median(samples_s))) if samples_s else _short(cell["problems"].get(phase, NOTHING))
        texts.append(f"{text} ({ratio[0]:.2f})" if ratio else text)
    return [row, *texts]


def _peaks(audit: Audit, row: str, lengths: Sequence[int]) -> list[str]:
    cells = cells_of(audit, row)
    found = [cells[n]["memory"].get(ATTENTION) if n in cells else None for n in lengths]
    return [row, *(f"{memory['peak_bytes'] / MB:.0f}" if memory else NOTHING for memory in found)]


def commands(audit: Audit) -> list[str]:
    """The commands that made the audit, each once."""
    return list(dict.fromkeys(run["command"] for run in audit["runs"]))


def setting(audit: Audit) -> list[str]:
    """Machine and code of each run of which there are cells, sizes, rounds, disturbed samples."""
    settings = audit["settings"]
    machines = [audit["runs"][number]["environment"] for number in sorted({cell["run"] for cell in audit["cells"]})]
    lines = [
        f"on {machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"{(machine['ram_bytes'] or 0) / 2**30:.0f} GiB, torch {machine['packages']['torch']}, commit "
        f"{commit(machine)}."
        for machine in machines
    ]
    lines = list(dict.fromkeys(lines))
    times = [time for cell in audit["cells"] for time in cell["time"].values()]
    rounds = sorted({len(time["samples_s"]) for time in times})
    disturbed = sum(sum(time["disturbed"]) for time in times)
    lines += [
        f"One layer, D {settings['hidden_dim']}, {settings['num_heads']} heads, batch 1, float32. "
        f"{' to '.join(str(n) for n in dict.fromkeys([*rounds[:1], *rounds[-1:]]))} rounds, interleaved with "
        f"{audit['baseline']}; {disturbed} of {sum(len(time['samples_s']) for time in times)} samples were taken "
        f"while others used the machine.",
    ]
    return lines


def meaning(audit: Audit) -> list[tuple[str, str]]:
    """What the columns of the summary are: titles and sentences."""
    base, fit_from, at = audit["baseline"], audit["fit_from"], _compared_at(audit)
    return [
        (
            "fitted exponent",
            f"the attention module alone, forward, median time over lengths from {fit_from} on as a power of length; "
            f"in brackets a 95 % interval by bootstrap over rounds, which knows nothing of a bend.",
        ),
        ("MACs", "declared closed form of the attention with its projections; one utterance."),
        (
            "ratio",
            f"to the same layer with {base}, in the same rounds: median (quartiles). A layer is attention, projections "
            f"and feed-forward; forward in evaluation, where weights that do not depend on the input are kept between "
            f"calls; forward+backward in training, with gradients of parameters and input, without an optimiser.",
        ),
        (
            "crossover",
            f"the length at which, and at all longer ones measured, the layer forward is faster than with {base} in "
            f"three quarters of the rounds.",
        ),
        (
            "memory exponent",
            f"peak of attention forward, what it keeps included and its parameters not, over lengths from {fit_from} "
            f"on; ± standard error of the fit.",
        ),
        ("peak MB", f"at {at}, beyond the built layer and its input, in a process of its own."),
        ("parameters MB", "the attention's, buffers included."),
    ]


def failures(audit: Audit) -> list[str]:
    """What was not measured, and why."""
    return list(_failures(audit))


def _failures(audit: Audit) -> Iterable[str]:
    lengths = all_lengths(audit)
    for row in ordered_rows(audit):
        left_out = [str(n) for n in lengths if n not in cells_of(audit, row)]
        if left_out and not audit["rows"][row]["problem"]:
            yield f"{row} at {', '.join(left_out)}: not asked for"
        untimed = [str(n) for n, cell in cells_of(audit, row).items() if not is_timed(cell)]
        if untimed:
            yield f"{row} at {', '.join(untimed)}: weighed, not timed yet"
        weighed = {cell["num_frames"] for cell in audit["cells"] if cell["row"] == row and not is_timed(cell)}
        older = [str(n) for n, cell in cells_of(audit, row).items() if is_timed(cell) and n in weighed]
        if older:
            yield f"{row} at {', '.join(older)}: measured with older code, of the code as it is only the memory"
        if audit["rows"][row]["problem"]:
            yield f"{row}: {audit['rows'][row]['problem']}"
        for num_frames, cell in cells_of(audit, row).items():
            for problem in dict.fromkeys(cell["problems"].values()):
                phases = [phase for phase in PHASES if cell["problems"].get(phase) == problem]
                yield f"{row} at {num_frames}, {', '.join(phases)}: {problem}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", "| --- |" + " ---: |" * (len(titles) - 1)]
    return lines + [f"| {' | '.join(escape(text) for text in row)} |" for row in rows]
