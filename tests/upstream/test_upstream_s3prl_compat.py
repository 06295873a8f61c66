"""What today's packages lack for s3prl is supplied where it is missing, and only there."""

import argparse
import importlib.util
import pickle
import sys
from types import ModuleType

import huggingface_hub
import pytest
import torch
import torchaudio
from s3prl_attention.upstream import s3prl_compat
from s3prl_attention.upstream.s3prl_compat import SOX, supply_missing

MISSING = {
    "torchaudio.set_audio_backend": (torchaudio, "set_audio_backend"),
    "torchaudio.sox_effects": (torchaudio, "sox_effects"),
    "huggingface_hub.HfFolder": (huggingface_hub, "HfFolder"),
    "huggingface_hub.Repository": (huggingface_hub, "Repository"),
}
SAFE = "argparse.Namespace as safe to unpickle"


@pytest.fixture
def there(monkeypatch):
    """Packages that have all of it: by name, what they have."""
    having = {name: ModuleType(name) for name in MISSING}
    for name, (module, attribute) in MISSING.items():
        monkeypatch.setattr(module, attribute, having[name], raising=False)
    monkeypatch.setitem(sys.modules, SOX, having[SOX])
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace])
    yield having
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def remove(name, monkeypatch):
    if name == SAFE:
        kept = [item for item in torch.serialization.get_safe_globals() if item is not argparse.Namespace]
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(kept)
        return
    monkeypatch.delattr(*MISSING[name])
    if name == SOX:
        monkeypatch.delitem(sys.modules, SOX)
        find = importlib.util.find_spec  # an older torchaudio has the file
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == SOX else find(name, *rest))


@pytest.fixture
def gone(there, monkeypatch):
    """Packages that lack all of it."""
    for name in [*MISSING, SAFE]:
        remove(name, monkeypatch)


def test_nothing_that_exists_is_replaced(there):
    assert supply_missing() == []
    assert {name: getattr(*place) for name, place in MISSING.items()} == there
    assert sys.modules[SOX] is there[SOX]


def test_all_that_is_missing_is_supplied_once(gone):
    assert supply_missing() == [*MISSING, SAFE]
    supplied = {name: getattr(*place) for name, place in MISSING.items()}
    assert supply_missing() == []
    assert {name: getattr(*place) for name, place in MISSING.items()} == supplied


@pytest.mark.parametrize("name", [*MISSING, SAFE])
def test_only_what_is_missing_is_supplied(name, there, monkeypatch):
    remove(name, monkeypatch)
    assert supply_missing() == [name]
    others = [other for other in MISSING if other != name]
    assert all(getattr(*MISSING[other]) is there[other] for other in others)


def test_the_module_of_an_older_torchaudio_is_left_to_be_imported(there, monkeypatch):
    monkeypatch.delattr(torchaudio, "sox_effects")
    monkeypatch.delitem(sys.modules, SOX)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: ModuleType(name))
    assert supply_missing() == []
    assert SOX not in sys.modules


def test_the_stand_ins_raise_a_clear_line_when_called(gone):
    supply_missing()
    from torchaudio.sox_effects import apply_effects_file, apply_effects_tensor

    calls = {
        "torchaudio.sox_effects.apply_effects_tensor": lambda: apply_effects_tensor(torch.zeros(1, 9), 16_000, []),
        "torchaudio.sox_effects.apply_effects_file": lambda: apply_effects_file("a.wav", effects=[]),
        "huggingface_hub.HfFolder": huggingface_hub.HfFolder.get_token,
        "huggingface_hub.Repository": lambda: huggingface_hub.Repository("here", clone_from="there"),
    }
    for name, call in calls.items():
        package = name.partition(".")[0]
        cure = rf"install {package} below [\d.]+ for this function of s3prl"
        with pytest.raises(RuntimeError, match=rf"^s3prl wants {name}, which is no longer there: {cure}$"):
            call()
    with pytest.raises(RuntimeError, match=r"^s3prl wants huggingface_hub.HfFolder"):
        huggingface_hub.HfFolder.save_token("secret")
    assert torchaudio.set_audio_backend("sox_io") is None


def test_the_arguments_of_a_run_can_be_loaded_again(gone, tmp_path):
    torch.save({"Args": argparse.Namespace(seed=3)}, tmp_path / "states-1.ckpt")
    with pytest.raises(pickle.UnpicklingError, match=r"argparse\.Namespace"):
        torch.load(tmp_path / "states-1.ckpt", map_location="cpu", weights_only=True)
    supply_missing()
    assert torch.load(tmp_path / "states-1.ckpt", map_location="cpu", weights_only=True)["Args"].seed == 3


def test_the_hub_can_be_imported(s3prl_hub):
    assert s3prl_compat.import_hub() is s3prl_hub
    assert supply_missing() == []


def test_python_without_distutils_gets_the_one_function_that_s3prl_takes_of_it(there, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "distutils"]:
        monkeypatch.delitem(sys.modules, name)
    find = importlib.util.find_spec
    absent = ("distutils", "distutils.util")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    try:
        assert supply_missing() == ["distutils.util.strtobool"]
        assert supply_missing() == []
        strtobool = importlib.import_module("distutils.util").strtobool
        assert [strtobool(word) for word in ("True", "yes", "1", "False", "off")] == [1, 1, 1, 0, 0]
        with pytest.raises(ValueError, match="'maybe' is neither yes nor no"):
            strtobool("maybe")
    finally:
        for name in absent:
            sys.modules.pop(name, None)
