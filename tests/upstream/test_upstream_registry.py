"""Finding plug-ins: without importing them, here and in other packages, and one that is broken breaks only itself."""

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from s3prl_attention import upstream
from s3prl_attention.upstream import check_upstream, load, names
from s3prl_attention.upstream.__main__ import main
from s3prl_attention.upstream.checks import ORDERS
from s3prl_attention.upstream.contract import UPSTREAMS, entry
from s3prl_attention.upstream.registry import Registry, nearest

GROUP = "s3prl_attention_test.gadgets"


@pytest.fixture
def gadgets(tmp_path, monkeypatch):
    """A package of two gadgets, which notes in ``sys`` what is imported; more can be added before the first look."""
    home = tmp_path / "gadget_shop"
    for name in ("anvil", "bellows"):
        write(home / name / "attention.py", f"NAME = {name!r}")
    write(home / "no_gadget" / "other.py", "")
    write(home / "attention.py", "raise RuntimeError('not a folder, so not a gadget')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield home
    for module in [name for name in sys.modules if name.split(".")[0] in ("gadget_shop", "elsewhere")]:
        del sys.modules[module]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text(textwrap.dedent(text))


def offer(tmp_path, distribution, group, **plugins):
    """An installed distribution that offers plug-ins: name -> package."""
    folder = tmp_path / f"{distribution}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {package}" for name, package in plugins.items()]
    (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")


def registry():
    return Registry(kind="gadget", package="gadget_shop", marker="attention", group=GROUP)


def test_listing_finds_folders_and_imports_none(gadgets):
    assert registry().names() == ["anvil", "bellows"]
    assert not [name for name in sys.modules if name.startswith("gadget_shop.")]


def test_loading_imports_the_one_that_is_asked_for(gadgets):
    assert registry().load("bellows", "attention").NAME == "bellows"
    assert "gadget_shop.anvil" not in sys.modules
    assert registry().folder("anvil") == gadgets / "anvil"


def test_an_unknown_name_is_answered_with_near_ones(gadgets):
    for ask in (registry().check, lambda name: registry().load(name, "attention"), registry().folder):
        with pytest.raises(
            ValueError, match=r"^unknown gadget 'anvill': did you mean 'anvil'\? known: anvil, bellows$"
        ):
            ask("anvill")
    with pytest.raises(ValueError, match=r"^unknown gadget 'zzz': known: anvil, bellows$"):
        registry().check("zzz")


def test_nearest_without_anything_known():
    assert nearest("x", []) == "known: none"


def test_another_package_offers_its_own(gadgets, tmp_path):
    write(tmp_path / "elsewhere" / "crane" / "attention.py", "NAME = 'crane'")
    write(tmp_path / "elsewhere" / "__init__.py", "")
    offer(tmp_path, "elsewhere", GROUP, crane="elsewhere.crane")
    offer(tmp_path, "unrelated", "some.other.group", drill="elsewhere.drill")
    found = registry()
    assert found.names() == ["anvil", "bellows", "crane"]
    assert "elsewhere" not in sys.modules
    assert found.load("crane", "attention").NAME == "crane"
    assert found.folder("crane") == tmp_path / "elsewhere" / "crane"


def test_two_of_one_name_are_an_error_that_names_both(gadgets, tmp_path):
    offer(tmp_path, "elsewhere", GROUP, anvil="elsewhere.anvil")
    message = "two gadgets are called 'anvil': gadget_shop.anvil and elsewhere.anvil; rename or uninstall"
    for ask in (registry().names, lambda: registry().load("bellows", "attention")):
        with pytest.raises(ValueError, match=message):
            ask()


def test_two_distributions_of_one_name_are_an_error_too(gadgets, tmp_path):
    offer(tmp_path, "elsewhere", GROUP, crane="elsewhere.crane")
    offer(tmp_path, "otherwise", GROUP, crane="otherwise.crane")
    with pytest.raises(ValueError, match="two gadgets are called 'crane'"):
        registry().names()


BROKEN = {
    "imports what is missing": "import a_module_that_is_nowhere",
    "imports a name that is missing": "from math import a_name_that_is_nowhere",
    "is no Python": pytest.param("def (:"),
    "raises": pytest.param("raise RuntimeError('broken inside')"),
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_broken_one_breaks_only_itself(gadgets, source):
    write(gadgets / "broken" / "attention.py", source)
    found = registry()
    assert found.names() == ["anvil", "bellows", "broken"]
    assert found.load("anvil", "attention").NAME == "anvil"
    with pytest.raises(ValueError, match=r"the gadget 'broken' cannot be imported \(gadget_shop.broken.attention\): "):
        found.load("broken", "attention")
    assert found.load("bellows", "attention").NAME == "bellows"


def test_an_offer_whose_package_is_gone_breaks_only_itself(gadgets, tmp_path):
    offer(tmp_path, "elsewhere", GROUP, crane="elsewhere.crane")
    found = registry()
    assert found.load("anvil", "attention").NAME == "anvil"
    with pytest.raises(ValueError, match=r"the gadget 'crane' cannot be imported.*No module named 'elsewhere'"):
        found.load("crane", "attention")


# --- the upstreams


@pytest.fixture
def plugin(gadgets, tmp_path, monkeypatch):
    """An upstream that another distribution offers, written as CONTRIBUTING would have it."""
    home = tmp_path / "elsewhere" / "twin"
    write(home.parent / "__init__.py", "")
    write(
        home / "attention.py",
        """
        from dataclasses import replace
        from s3prl_attention.upstream.self_attention import attention as sound
        from s3prl_attention.upstream.self_attention.attention import Attention, Options
        INFO = replace(sound.INFO, title="Twin")
        """,
    )
    write(home / "reference.py", "from s3prl_attention.upstream.self_attention.reference import attend")
    write(
        home / "expert.py",
        """
        from functools import partial
        from s3prl_attention.upstream.expert import UpstreamExpert as _UpstreamExpert
        UpstreamExpert = partial(_UpstreamExpert, "twin")
        """,
    )
    (home / "README.md").write_text("The twin of self-attention.")
    offer(tmp_path, "elsewhere", "s3prl_attention.upstreams", twin="elsewhere.twin")

    def look():
        """Search anew, as another process would."""
        monkeypatch.setitem(vars(UPSTREAMS), "packages", dataclasses.replace(UPSTREAMS).packages)

    look()
    return look


def test_an_upstream_of_another_package_is_one_like_ours(plugin, tmp_path):
    assert "twin" in names()
    assert entry("twin").info.title == "Twin"
    expert = load("twin", hidden_dim=16, num_layers=1)
    assert expert([torch.randn(1600)])["last_hidden_state"].shape == (1, 10, 16)
    expert.save(tmp_path / "checkpoint")
    assert load("twin", ckpt=tmp_path / "checkpoint").options.hidden_dim == 16
    check_upstream("twin")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("attention.py", "class Attention: pass", "'twin' lacks Options, INFO"),
        ("reference.py", "", "'twin' lacks reference.attend"),
        ("attention.py", "Attention = Options = INFO = 3", "'twin': Options must be a frozen dataclass"),
    ],
)
def test_an_incomplete_upstream_is_told_what_it_lacks(plugin, tmp_path, file, text, message):
    (tmp_path / "elsewhere" / "twin" / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        load("twin")
    load("self_attention")


def test_an_upstream_of_the_name_of_ours_is_an_error(plugin, tmp_path):
    offer(tmp_path, "otherwise", "s3prl_attention.upstreams", fixed_init="otherwise.fixed_init")
    with pytest.raises(ValueError, match="two upstreams are called 'fixed_init'"):
        plugin()


def test_every_folder_is_found():
    root = Path(upstream.__path__[0])
    assert names() == sorted(path.parent.name for path in root.glob("*/attention.py"))
    assert {"self_attention", "synthesizer_random", "fixed_init"} <= set(names())
    assert "kernels" not in names()


# --- the command


def test_the_command_lists_every_upstream(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(line[23:31].strip() in ORDERS and "(" in line for line in lines)


@pytest.mark.parametrize("source", ["import a_module_that_is_nowhere", "def (:"])
def test_the_command_lists_the_others_when_one_is_broken(plugin, tmp_path, capsys, source):
    (tmp_path / "elsewhere" / "twin" / "attention.py").write_text(source)
    main(["list"])
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(names())


def test_the_command_checks_and_says_which_rule_is_broken(plugin, tmp_path, capsys):
    main(["check", "twin"])
    assert "FAIL" not in capsys.readouterr().out
    (tmp_path / "elsewhere" / "twin" / "README.md").unlink()
    with pytest.raises(SystemExit, match=r"^1 of \d+ checks failed$"):
        main(["check", "twin"])
    assert "FAIL facts: the folder has no README.md" in capsys.readouterr().out


def test_the_command_answers_a_wrong_name_in_one_line():
    with pytest.raises(SystemExit, match=r"^error: unknown upstream 'fixed': did you mean 'fixed_init'.*$"):
        main(["check", "fixed"])


# --- what importing costs

IMPORTS = """
import json, sys
HEAVY = ("torch", "s3prl", "s3prl.hub", "matplotlib", "sklearn", "tensorboardX")
def seen():
    loaded = [name for name in HEAVY if name in sys.modules]
    ours = [name for name in sys.modules if name.startswith("s3prl_attention.")]
    return loaded + [name for name in ours if name.endswith((".attention", ".expert", ".reference"))]
import s3prl_attention.upstream, s3prl_attention.recipes, s3prl_attention.downstream, s3prl_attention.benchmark
steps = {"packages": seen()}
s3prl_attention.upstream.names()
steps["names"] = seen()
import s3prl_attention.recipes.pretrain
s3prl_attention.upstream.load("fixed_init", hidden_dim=16, num_layers=1, max_frames=10)
steps["load"] = seen()
print(json.dumps(steps))
"""


@pytest.fixture(scope="module")
def imported():
    """What is imported after importing the packages, after listing names, and after loading an upstream."""
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_importing_the_packages_imports_nothing_heavy(imported):
    assert imported["packages"] == []


def test_listing_names_imports_no_upstream(imported):
    assert [name for name in imported["names"] if name != "torch"] == []


def test_listing_names_does_not_import_torch(imported):
    assert "torch" not in imported["names"]


def test_loading_an_upstream_imports_no_other_and_not_all_of_s3prl(imported):
    loaded = imported["load"]
    assert "s3prl_attention.upstream.fixed_init.attention" in loaded
    assert not any("self_attention" in name or "synthesizer_random" in name for name in loaded)
    assert not {"s3prl.hub", "matplotlib", "sklearn", "tensorboardX"} & set(loaded)
