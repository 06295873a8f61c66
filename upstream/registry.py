"""Finds plug-in folders by name, without importing any until one is asked for.

A plug-in is a package: a folder beside the registry's own package that holds a marker file, or a package
that another distribution offers through an entry point. Upstreams and downstream tasks share this code.
"""

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType


def nearest(word: str, known: list[str]) -> str:
    """``did you mean 'x'? known: x, y``: the second half of every message about an unknown name."""
    names = sorted(name if name.isprintable() else ascii(name) for name in known)
    return f"{did_you_mean(word, known)} known: {', '.join(names) or 'none'}".lstrip()


def did_you_mean(word: str, known: list[str]) -> str:
    """``did you mean 'x'?``, or nothing where no known name is near."""
    found = difflib.get_close_matches(str(word), known, n=3, cutoff=0.5)  # a key of a yaml may be a number
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind.

    Args:
        kind: what one is called in messages, for example ``upstream``.
        package: the package whose sub-folders are plug-ins, for example ``s3prl_attention.upstream``.
        marker: the file (without ``.py``) that makes a folder a plug-in.
        group: the entry-point group through which other distributions offer theirs.
    """

    kind: str
    package: str
    marker: str
    group: str

    @cached_property
    def packages(self) -> dict[str, str]:
        """Name -> importable package. Raises ``ValueError`` when two plug-ins claim one name."""
        root = importlib.import_module(self.package)
        found = {
            path.parent.name: f"{self.package}.{path.parent.name}"
            for folder in root.__path__
            for path in sorted(Path(folder).glob(f"*/{self.marker}.py"))
        }
        for entry in entry_points(group=self.group):
            if found.setdefault(entry.name, entry.value) != entry.value:
                raise ValueError(
                    f"two {self.kind}s are called {entry.name!r}: {found[entry.name]} and {entry.value}; "
                    f"rename or uninstall one of them"
                )
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """All names, sorted; imports none of the plug-ins."""
        return list(self.packages)

    def check(self, name: str) -> str:
        """``name`` itself; raises ``ValueError`` with the nearest names when no plug-in is called so."""
        if name not in self.packages:
            raise ValueError(f"unknown {self.kind} {name!r}: {nearest(name, self.names())}")
        return name

    def load(self, name: str, module: str) -> ModuleType:
        """Import one module of one plug-in, for example ``load("fixed_init", "attention")``."""
        target = f"{self.packages[self.check(name)]}.{module}"
        try:
            return importlib.import_module(target)
        except Exception as error:  # a plug-in may raise anything
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"the {self.kind} {name!r} cannot be imported ({target}): {what}") from error

    def folder(self, name: str) -> Path:
        """Where the plug-in's files are."""
        spec = importlib.util.find_spec(self.packages[self.check(name)])
        assert spec is not None
        assert spec.submodule_search_locations
        return Path(next(iter(spec.submodule_search_locations)))
