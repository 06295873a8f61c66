"""Reads YAML as plain data: no objects, no dates, no key twice, and nothing that grows or goes deep when it is read."""

from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 40  # of nesting, aliases included; our own files have five levels
MAX_NODES = 200_000  # of all values, those that aliases repeat counted each time
MAX_CHARACTERS = 1 << 22
PREFIX = "tag:yaml.org,2002:"
PLAIN = {PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def read_yaml(path: str | Path, cure: str = "correct it") -> Any:
    """What a YAML file holds, as dictionaries, lists, texts, numbers, booleans and None.

    Raises:
        ValueError: in one line, naming file and line, for what is no such YAML or cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML (no UTF-8 text, {error.reason}): {cure}") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system can have
        raise ValueError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): {cure}") from None
    return parse_yaml(text, str(path), cure)


def parse_yaml(text: str, where: str, cure: str = "correct it") -> Any:
    """The same of a text; ``where`` names it in messages."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{where} is not YAML of ours ({len(text):,} characters, above {MAX_CHARACTERS:,}): {cure}")
    try:
        loader = _Loader(text)  # looks at the first characters already
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line, told = text.count("\n", 0, error.position) + 1, f"character {error.character!r} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, told = mark.line + 1 if mark else 1, error.problem or error.context or "not readable"
    raise ValueError(f"{where}:{line}: is not YAML ({' '.join(told.split())}): {cure}")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits: its own reads any number of aliases of aliases, and the last of equal keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._open = 0
        self._size: dict[int, tuple[int, int]] = {}  # node -> nodes in it, levels of it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One value with all that is in it."""
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._open += 1
        if self._open > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels of nesting", mark)
        node = super().compose_node(parent, index)
        self._open -= 1
        assert node is not None
        if is_alias:
            if id(node) not in self._size:
                raise _refused("a value that contains itself", mark)
            return node
        if node.tag not in PLAIN:
            raise _refused(f"the tag {node.tag.replace(PREFIX, '!!')!r} is not plain data", mark)
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        inner = [self._size[id(child)] for child in _children(node)]
        nodes, levels = 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if nodes > MAX_NODES:
            raise _refused(f"aliases that make more than {MAX_NODES:,} values", mark)
        if levels > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels of nesting", mark)
        self._size[id(node)] = (nodes, levels)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value; what looks like a number and is none is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            raise _refused(f"{str(node.value)[:60]!r} is no {node.tag.removeprefix(PREFIX)}", node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != f"{PREFIX}timestamp"]  # 2026-01-02 stays a text
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode) -> None:
    known: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refused("a key that is no plain text or number", key.start_mark)
        if (key.tag, key.value) in known:
            raise _refused(f"the key {key.value[:60]!r} comes twice", key.start_mark)
        known.add((key.tag, key.value))


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, problem, mark)
