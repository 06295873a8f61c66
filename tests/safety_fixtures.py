"""Finds calls that run what they read, in our own source: pickles, yaml with tags, eval, shells."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "pickletools"}
CALLS = {  # dotted name -> why
    "eval": "runs text as code",
    "exec": "runs text as code",
    "compile": "makes code of text",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "yaml.load": "may build any object: use upstream.plain_yaml",
    "yaml.load_all": "may build any object: use upstream.plain_yaml",
    "yaml.full_load": "may build objects: use upstream.plain_yaml",
    "yaml.unsafe_load": "builds any object: use upstream.plain_yaml",
    "pandas.read_pickle": "reads a pickle",
    "pd.read_pickle": "reads a pickle",
    "torch.hub.load": "runs code from the network",
}
NEEDED = {  # dotted name -> the keyword that makes it safe, and its value
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
UNSAFE = {"shell": True, "allow_pickle": True, "weights_only": False}  # keywords that no call may have


def findings(path: Path) -> list[str]:
    """``file:line: what`` for everything in a file that could run what it reads."""
    return [f"{path}:{line}: {what}" for line, what in sorted(_found(ast.parse(path.read_text(encoding="utf-8"))))]


def _found(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"imports {a.name}") for a in node.names if a.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield node.lineno, f"imports {node.module}"
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from ((node.lineno, f"{name}: call it by its dotted name") for name in names & {*CALLS, *NEEDED})
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    name = ast.unparse(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in CALLS:
        yield node.lineno, f"{name}: {CALLS[name]}"
    if name in NEEDED:
        keyword, wanted = NEEDED[name]
        value = given.get(keyword)
        if not (isinstance(value, ast.Constant) and value.value is wanted):
            yield node.lineno, f"{name} without {keyword}={wanted}"
    for keyword, value in given.items():
        if keyword in UNSAFE and isinstance(value, ast.Constant) and value.value is UNSAFE[keyword]:
            yield node.lineno, f"{name} with {keyword}={value.value}"
