"""What all fuzzing shares: how many examples, a watch for hangs, what counts as a clear error, and mutations.

A target is a strategy of inputs and a check, which returns ``RIGHT`` or ``REFUSED`` or fails. ``pytest`` tries the same
few dozen inputs every time; ``pytest -m slow tests/fuzz`` tries $S3PRL_ATTENTION_FUZZ_EXAMPLES new ones of each target.
"""

import contextlib
import copy
import faulthandler
import json
import math
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

RIGHT, REFUSED = "right", "refused"
EXAMPLES = "S3PRL_ATTENTION_FUZZ_EXAMPLES"
FIGURES = "S3PRL_ATTENTION_FIGURES"
HANG_S = 20.0  # Python code is stopped, and the example that hangs is told
DEAD_S = 120.0  # C code is not stopped: the process ends with the stack of every thread
LAST = "last-example.txt"  # in the folder of the test: what was tried when the process died

quick = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
thorough = settings(quick, derandomize=False, print_blob=True, max_examples=int(os.environ.get(EXAMPLES) or 2000))


@dataclass(frozen=True)
class Target:
    """What is fuzzed: its name in figures, inputs, and ``check(input, folder)``; ``quick`` examples in CI.

    ``both`` says that some inputs must be taken and some refused, else the inputs test nothing.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Path], str]
    quick: int = 40
    both: bool = True


def fuzz(target: Target, folder: Path, slow: bool) -> Counter[str]:
    """Try the target's inputs; how many were taken and how many refused, which slow runs also write to the figures."""
    found: Counter[str] = Counter()

    @settings(thorough if slow else quick, **({} if slow else {"max_examples": target.quick}))
    @given(target.inputs)
    def run(example: Any) -> None:
        (folder / LAST).write_text(
            f"{target.name}: {example!r}"[:2_000_000], encoding="utf-8", errors="backslashreplace"
        )
        with watched():
            outcome = target.check(example, folder)
        assert outcome in (RIGHT, REFUSED), outcome
        found[outcome] += 1

    run()
    if target.both:
        assert found[RIGHT], "no input was taken: the target tests nothing but errors"
        assert found[REFUSED], "no input was refused: the target tests nothing but what is right"
    if slow:
        record("fuzz", target=target.name, inputs=found.total(), **found)
    return found


def record(test: str, **counts: Any) -> None:
    """A line for the figures of the last full run, where a file for them is named."""
    line = json.dumps({"test": test, **counts})
    print(line)
    if os.environ.get(FIGURES):
        with Path(os.environ[FIGURES]).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends what hangs: Python code with an error, anything else with the process."""
    faulthandler.dump_traceback_later(DEAD_S, exit=True)
    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if timed:
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def _too_long(number: int, frame: Any) -> None:
    raise AssertionError(f"an example takes longer than {HANG_S:g} s")


def refusal(error: BaseException, *named: str | Path) -> str:
    """``REFUSED`` for an error that a user can act upon: a ``ValueError`` in one printable line.

    ``named`` are texts of which at least one must be in it.
    """
    assert type(error) is ValueError, f"{type(error).__name__} reaches the user: {error}"
    text = str(error)
    assert text.strip(), "an empty message"
    assert len(text.splitlines()) == 1, f"more than one line: {text!r}"
    assert text.isprintable(), f"steers the terminal: {text!r}"
    assert len(text) < 20_000, f"{len(text)} characters: {text[:300]!r}"
    assert not named or any(str(name) in text for name in named), f"names none of {[*map(str, named)]}: {text!r}"
    return REFUSED


HOSTILE = (
    "", " ", "0", "-1", "1e999", "-1e999", "nan", "inf", "9" * 30, "9" * 5000, "1_0", "0x1f", "٣", "²", "1e-320",
    "true", "null", "~", "../x", "../../../etc/passwd", "/etc/passwd", "~root/x", "C:\\x", "a\\b", "a/b", ".", "..",
    "\0", "\r", "\n", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ud7ff", "é" * 200, "a" * 300,
    "'", '"', '""', "|", "[" * 3000, "{" * 3000, "- " * 500, "&a [*a]", "*a", "!!python/object/apply:os.system [x]",
    "${oc.env:HOME}",
    "???", "2001-13-45", "2001-01-01", "<script>", "=1+1", "%s%n", "{0}", "\N{SNOWMAN}", "a b", "SIL", "1.5", "70000",
)  # fmt: skip
BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\r\n",
    b"\r",
    b"\n\n\n",
    b"\x1a",
    b'"',
    b",",
)
WORDS = re.compile(r"[^\s,:|=\[\]{}\"]+")
NUMBERS = st.integers(0, 1 << 30)


@st.composite
def mutated(draw: st.DrawFn, *texts: str) -> bytes:
    """A valid text, spoilt up to four times: bytes, as they would stand in a file."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 3))):
        text = _spoilt(draw, text)
    data = text.encode("utf-8", "surrogatepass")
    how = draw(st.integers(0, 11))
    at = draw(NUMBERS) % (len(data) + 1)
    if how == 0:
        return data[:at] + draw(st.sampled_from(BYTES)) + data[at:]
    if how == 1:
        return data[:at]
    if how == 2:
        return data.replace(b"\n", b"\r\n")
    if how == 3:
        return b"\xef\xbb\xbf" + data
    if how == 4:
        return text.encode("utf-16", "surrogatepass")
    if how == 5 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return data


def _spoilt(draw: st.DrawFn, text: str) -> str:
    words = list(WORDS.finditer(text))
    lines = text.split("\n")
    one, other = draw(NUMBERS), draw(NUMBERS)
    how = draw(
        st.sampled_from(["replace", "replace", "replace", "insert", "delete", "swap", "repeat", "many", "lines"])
    )
    if how == "replace" and words:
        word = words[one % len(words)]
        return text[: word.start()] + draw(st.sampled_from(HOSTILE)) + text[word.end() :]
    if how == "swap" and words:
        first, second = sorted((words[one % len(words)], words[other % len(words)]), key=lambda word: word.start())
        if first.end() <= second.start():
            between = text[first.end() : second.start()]
            return text[: first.start()] + second[0] + between + first[0] + text[second.end() :]
    if how == "insert":
        at = one % (len(text) + 1)
        return text[:at] + draw(st.sampled_from(HOSTILE)) + text[at:]
    start = one % (len(text) + 1)
    end = start + other % 40
    if how == "delete":
        return text[:start] + text[end:]
    if how == "repeat":
        return text[:end] + text[start:end] + text[end:]
    at = one % len(lines)
    if how == "many":
        return "\n".join([*lines[:at], *[lines[at]] * 200, *lines[at:]])
    lines.insert(other % len(lines), lines.pop(at))
    return "\n".join(lines)


VALUES = (
    None, True, False, 0, -1, 1, 2**70, -(2**70), 0.5, 1e308, math.nan, math.inf, "", "x", "../../x", "/etc/passwd",
    "a" * 300, "\x1b[31m\n", "<script>alert(1)</script>", "=1+1", "\0", [], [[]], {}, {"a": 1}, [1, "x", None], [{}],
    "ok",
)  # fmt: skip


@st.composite
def twisted(draw: st.DrawFn, *trees: Any) -> Any:
    """A valid tree of mappings, lists and plain values, of which up to three parts are others, gone or doubled."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(tree))
        if not places:
            break
        parent, key = places[draw(NUMBERS) % len(places)]
        how = draw(st.sampled_from(["other", "other", "other", "gone", "wrapped", "elsewhere", "number"]))
        if how == "gone":
            del parent[key]
        elif how == "wrapped":
            parent[key] = [parent[key]]
        elif how == "elsewhere":
            source, name = places[draw(NUMBERS) % len(places)]
            with contextlib.suppress(LookupError):
                parent[key] = copy.deepcopy(source[name])
        elif how == "number" and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
            parent[key] = draw(
                st.sampled_from([-parent[key], parent[key] * 10**9, float(parent[key]), str(parent[key])])
            )
        else:
            parent[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is below a folder: names, kinds, times and contents, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns if path.is_file() else 0, content)
    return found
