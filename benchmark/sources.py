"""A fingerprint of the code behind a number, so that no result outlives a change of what made it.

Only modules that an import names count, and of them neither comments nor docstrings: to explain is not to change.
"""

import ast
import hashlib
import importlib.util
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from ..downstream import TASKS, config
from ..upstream.plugins import HOME, UPSTREAMS
from ..upstream.s3prl_upstreams import s3prl_version
from .names import MEL, attention_of, is_foreign

PRETRAINING = tuple(f"{HOME}.recipes.{name}" for name in ("batches", "objective", "pretrain", "processes"))
PROBE, PRODUCTS = f"{HOME}.downstream.probe", f"{HOME}.upstream.kernels.onednn"
THEIR_FORM = f"{HOME}.downstream.s3prl_"
LOADING = tuple(f"{HOME}.upstream.{name}" for name in ("s3prl_compat", "s3prl_upstreams"))


@cache
def source_hash(upstream_name: str) -> str:
    """12 digits that change with the own code of a row's upstream, the shared encoder, or the pre-training; of s3prl's
    upstreams with s3prl's version and with how they are loaded."""
    if is_foreign(upstream_name):
        return _digest(LOADING, s3prl_version())
    shared = f"{HOME}.upstream"
    if upstream_name == MEL:
        return _digest({*imported([f"{shared}.{MEL}"], (shared,)), *PRETRAINING})
    own = UPSTREAMS.packages[UPSTREAMS.check(attention_of(upstream_name))]
    return _digest({*imported([f"{own}.expert", f"{own}.attention"], (shared, own)), *PRETRAINING})


@cache
def task_hash(task: str) -> str:
    """12 digits that change with the task's own code and options, or with the code of the probe; not with s3prl's form
    of a task, which no cell runs."""
    own = TASKS.packages[TASKS.check(task)]
    options = config(task)["downstream_expert"]
    modules = imported([f"{own}.expert", PROBE, PRODUCTS], (f"{HOME}.downstream", own, PRODUCTS))
    return _digest({module for module in modules if not module.startswith(THEIR_FORM)}, repr(options))


def imported(modules: Iterable[str], within: tuple[str, ...]) -> set[str]:
    """``modules`` and all that they import, directly or not, of the packages ``within``."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and any(f"{module}.".startswith(f"{package}.") for package in within):
            found.add(module)
            waiting += _imports(module)
    return found


@cache
def code(path: Path) -> str:
    """The lines of a file without comments, docstrings, blank lines and what stands behind the last word."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for first, last in reversed(list(_told(text))):
        (row, column), (end_row, end_column) = first, last
        lines[row - 1 : end_row] = [lines[row - 1][:column] + lines[end_row - 1][end_column:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _told(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where comments and docstrings begin and end, as (line from 1, column from 0), one after the other."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    words = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    ends = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    docstrings = {
        word.start
        for before, word, after in zip([None, *words], words, words[1:], strict=False)
        if word.type == tokenize.STRING and after.type == tokenize.NEWLINE and (before is None or before.type in ends)
    }
    for token in tokens:
        if token.type == tokenize.COMMENT or (token.start in docstrings and token.type == tokenize.STRING):
            yield token.start, token.end


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules that a module names in its imports, wherever they stand; names in a module count as modules too,
    and are left out where there is no such file."""
    path = _file(module)
    assert path is not None, f"{module} is imported, but has no file"
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    ours = tuple(name for name in names if name.startswith(HOME) or name.startswith(module.partition(".")[0]))
    return tuple(name for name in dict.fromkeys(ours) if _file(name) is not None)


@cache
def _file(module: str) -> Path | None:
    """The file of a module; None for what is none."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _digest(modules: Iterable[str], *others: str) -> str:
    digest = hashlib.sha256()
    for module in sorted(modules):
        path = _file(module)
        assert path is not None, f"{module} has no file"
        digest.update(f"{module}\n{code(path)}\n".encode())
    for other in others:
        digest.update(other.encode())
    return digest.hexdigest()[:12]
