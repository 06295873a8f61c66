"""Checkpoints: whole or not at all, every damage a ``ValueError`` that names the file, and never a pickle."""

import ast
import hashlib
import os
import shutil
from pathlib import Path

import pytest
import s3prl_attention.upstream
import torch
import yaml
from s3prl_attention.upstream import checkpoint, load, load_encoder
from s3prl_attention.upstream.checkpoint import CONFIG, SUMS, WEIGHTS, load_checkpoint, restore, save_checkpoint
from safetensors.torch import load_file, save_file

SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 1, "max_frames": 12}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "checkpoint"
    load("fixed_init", **SIZES).save(folder, {"seed": 3}, torch.nn.Linear(2, 2))
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """As an older version wrote it: without checksums, so that damage has to be noticed by what the files say."""
    return Path(shutil.copytree(sound, tmp_path / "checkpoint", ignore=shutil.ignore_patterns(SUMS)))


def test_what_was_saved_is_read(tmp_path):
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(7), "c": torch.randn(4, 4).T, "d": torch.randn(2).bfloat16()}
    save_checkpoint(tmp_path / "deep" / "down", tensors, {"text": "Grüße", "numbers": [1, 2.5], "none": None})
    config, again = load_checkpoint(tmp_path / "deep" / "down")
    assert config == {"text": "Grüße", "numbers": [1, 2.5], "none": None}
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) and again[name].dtype == tensors[name].dtype for name in tensors)


def test_files_are_synced_through_handles_that_may_write(tmp_path, monkeypatch):
    """Windows refuses others."""
    synced = []
    monkeypatch.setattr(checkpoint.os, "fsync", lambda handle: synced.append(os.write(handle, b"")))
    save_checkpoint(tmp_path / "x", {"a": torch.ones(1)}, {})
    assert len(synced) == len([WEIGHTS, CONFIG, SUMS])
    assert load_checkpoint(tmp_path / "x")[1].keys() == {"a"}


def test_the_folder_says_how_it_came_about(sound):
    config, tensors = load_checkpoint(sound)
    assert config["upstream"] == "fixed_init"
    assert config["lineage"] == {"seed": 3}
    assert config["options"]["num_heads"] == 8
    assert config["options"]["eps"] == 1e-4
    assert "head.weight" in tensors


def test_a_head_in_the_checkpoint_does_not_disturb_the_upstream(sound):
    expert = load("fixed_init", ckpt=sound)
    assert not any(name.startswith("head") for name in expert.state_dict())


def test_saving_replaces_what_was_there(tmp_path):
    for value in (1.0, 2.0):
        save_checkpoint(tmp_path / "x", {"a": torch.tensor(value)}, {"value": value})
    config, tensors = load_checkpoint(tmp_path / "x")
    assert (config["value"], float(tensors["a"])) == (2.0, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["x"], "nothing else is left behind"


def test_those_may_read_it_whom_the_umask_lets(tmp_path):
    for umask, rights in ((0o022, 0o755), (0o027, 0o750)):
        before = os.umask(umask)
        try:
            save_checkpoint(tmp_path / "x", {"a": torch.tensor(1.0)}, {})
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o777 == rights
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "x").iterdir()} == {rights & 0o666}


class _Unwritable:
    pass


@pytest.mark.parametrize("failing", ["save_file", "config", "os.fsync"])
@pytest.mark.parametrize("older", [True, False])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path, monkeypatch, failing, older):
    if older:
        save_checkpoint(tmp_path / "x", {"a": torch.tensor(1.0)}, {"value": 1})
    config = {"value": 2}
    if failing == "config":
        config["object"] = _Unwritable()
    else:
        monkeypatch.setattr(f"s3prl_attention.upstream.checkpoint.{failing}", disk_full)
    with pytest.raises((ValueError, yaml.YAMLError)) as caught:
        save_checkpoint(tmp_path / "x", {"a": torch.tensor(2.0)}, config)
    if failing != "config":
        assert str(caught.value) == (
            f"{tmp_path / 'x'}: the checkpoint cannot be written ([Errno 28] No space left on device): free some room "
            f"on its disk and run the same command again"
        )
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == (["x"] if older else [])
    if older:
        assert load_checkpoint(tmp_path / "x")[0] == {"value": 1}


def disk_full(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_failure_while_renaming_leaves_what_was_there(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "x", {"a": torch.tensor(1.0)}, {"value": 1})
    rename = Path.rename

    def rename_the_old_only(self, target):
        return rename(self, target) if self.name == "x" or Path(target).parent != tmp_path else disk_full()

    monkeypatch.setattr(Path, "rename", rename_the_old_only)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "x", {"a": torch.tensor(2.0)}, {"value": 2})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "x")[0] == {"value": 1}


def test_the_new_folder_is_complete_before_it_has_its_name(tmp_path, monkeypatch):
    """A kill at any moment: whenever the folder exists, it can be read."""
    seen = []
    rename = Path.rename

    def spy(self, target):
        done = rename(self, target)
        if (tmp_path / "x").exists():
            seen.append(load_checkpoint(tmp_path / "x")[0]["value"])
        return done

    monkeypatch.setattr(Path, "rename", spy)
    monkeypatch.setattr(
        checkpoint, "save_file", lambda *args: (seen.append((tmp_path / "x").exists()), save_file(*args))
    )
    save_checkpoint(tmp_path / "x", {"a": torch.tensor(1.0)}, {"value": 1})
    assert seen == [False, 1]


# --- damage


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def change_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def change_config(folder, change):
    config = yaml.safe_load((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(yaml.safe_dump(config))


LOGITS, NORM = "encoder.layers.0.attention.core.logits", "encoder.input_norm.weight"
DAMAGE = {
    "the folder is missing": (shutil.rmtree, r"checkpoint is no checkpoint: .*missing"),
    "it is a file": (lambda f: (shutil.rmtree(f), f.write_text("x")), r"is no checkpoint"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"model\.safetensors missing"),
    "no config": (lambda f: (f / CONFIG).unlink(), r"config\.yaml missing"),
    "weights cut short": (lambda f: cut(f / WEIGHTS), r"model\.safetensors cannot be read .*pre-train again"),
    "weights empty": (lambda f: (f / WEIGHTS).write_bytes(b""), r"model\.safetensors cannot be read"),
    "weights overwritten": (lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 999), r"model\.safetensors cannot be read"),
    "weights are a pickle": (lambda f: torch.save({}, f / WEIGHTS), r"model\.safetensors cannot be read"),
    "config is no YAML": (lambda f: (f / CONFIG).write_text("a: [1"), r"config\.yaml:\d+: is not YAML"),
    "config is not text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x80"), r"config\.yaml is not YAML"),
    "config builds objects": (
        lambda f: (f / CONFIG).write_text("!!python/object/apply:os.getcwd []"),
        r"config\.yaml:\d+: is not YAML",
    ),
    "config is a list": (lambda f: (f / CONFIG).write_text("- a\n- b\n"), r"config\.yaml must hold a mapping"),
    "config is empty": (lambda f: (f / CONFIG).write_text(""), r"config\.yaml must hold a mapping"),
    "NaN": (
        lambda f: change_tensors(f, lambda t: t[LOGITS][2, 3].fill_(float("nan"))),
        rf"model\.safetensors holds NaN or infinity in {LOGITS}",
    ),
    "infinity": (
        lambda f: change_tensors(f, lambda t: t[NORM].fill_(float("-inf"))),
        rf"model\.safetensors holds NaN or infinity in {NORM}",
    ),
    "a tensor too few": (
        lambda f: change_tensors(f, lambda t: t.pop(NORM)),
        rf"checkpoint does not fit the model: {NORM} is missing",
    ),
    "a tensor too many": (
        lambda f: change_tensors(f, lambda t: t.update(extra=torch.ones(1))),
        r"checkpoint does not fit the model: extra is unexpected",
    ),
    "a tensor of another shape": (
        lambda f: change_tensors(f, lambda t: t.update({LOGITS: torch.zeros(8, 6, 6)})),
        rf"checkpoint does not fit the model: {LOGITS} is \(8, 6, 6\), not \(8, 12, 12\)",
    ),
    "other sizes in the config": (
        lambda f: change_config(f, lambda c: c["options"].update(hidden_dim=32)),
        r"checkpoint does not fit the model: .* and \d+ more",
    ),
    "of another upstream": (
        lambda f: change_config(f, lambda c: c.update(upstream="self_attention")),
        r"checkpoint is a checkpoint of upstream 'self_attention', not of 'fixed_init'",
    ),
    "no upstream": (lambda f: change_config(f, lambda c: c.pop("upstream")), r"checkpoint.*upstream"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_an_error_that_names_the_file(damage, folder):
    harm, message = DAMAGE[damage]
    harm(folder)
    with pytest.raises(ValueError, match=message) as told:
        load("fixed_init", ckpt=folder)
    assert str(folder) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, SUMS])
@pytest.mark.parametrize("place", [0.0, 0.02, 0.3, 0.5, 0.7, 0.999])
def test_a_flipped_bit_anywhere_is_noticed(sound, tmp_path, name, place):
    copy = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    assert load("fixed_init", ckpt=copy)
    data = bytearray((copy / name).read_bytes())
    data[int(place * len(data))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"not match its checksum: .*pre-train again|SHA256SUMS is damaged") as told:
        load("fixed_init", ckpt=copy)
    assert str(copy) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_checksums_are_as_sha256sum_reads_them(sound):
    lines = (sound / SUMS).read_text().splitlines()
    want = [f"{hashlib.sha256((sound / name).read_bytes()).hexdigest()}  {name}" for name in (WEIGHTS, CONFIG)]
    assert lines == want


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["options"].update(hidden_dim="wide"), "hidden_dim must be int"),
        (lambda c: c["options"].update(newer=1), "no option 'newer'"),
    ],
    ids=["wrong type", "unknown option"],
)
def test_options_that_cannot_be_used_are_laid_to_the_checkpoint(change, message, folder):
    change_config(folder, change)
    with pytest.raises(ValueError, match=message) as told:
        load("fixed_init", ckpt=folder)
    assert str(folder) in str(told.value)


def test_a_checkpoint_without_options_is_told_what_it_lacks(folder):
    change_config(folder, lambda c: c.pop("options"))
    with pytest.raises(ValueError, match=r"checkpoint.*options") as told:
        load("fixed_init", ckpt=folder)
    assert "not of 'fixed_init'" not in str(told.value)


def test_a_checkpoint_older_than_an_option_has_its_default(folder):
    frames, want = torch.randn(1, 7, 240), load("fixed_init", ckpt=folder).eval()
    change_config(folder, lambda c: [c["options"].pop(key) for key in ("positions", "norm_eps")])
    expert = load("fixed_init", ckpt=folder, positions="halves").eval()
    assert (expert.options.positions, expert.options.norm_eps) == ("halves", 1e-5)
    assert torch.equal(expert.encoder(frames, None)[-1], want.encoder(frames, None)[-1])
    with pytest.raises(ValueError, match=r"positions='interleaved' \(the checkpoint has 'halves'\)"):
        load("fixed_init", ckpt=folder, positions="interleaved")


def test_the_encoder_alone(folder):
    frames, keep = torch.randn(2, 7, 240), torch.arange(7) < torch.tensor([[7], [3]])
    got, want = load_encoder(folder).eval()(frames, keep), load("fixed_init", ckpt=folder).eval().encoder(frames, keep)
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))
    change_config(folder, lambda c: c["options"].update(hidden_dim="wide"))
    with pytest.raises(ValueError, match=r"checkpoint: upstream 'fixed_init': hidden_dim must be int"):
        load_encoder(folder)
    change_config(folder, lambda c: c.pop("options"))
    with pytest.raises(ValueError, match=r"^\S+checkpoint lacks 'options'"):
        load_encoder(folder)


def test_restore_lists_what_is_wrong_and_changes_nothing():
    module = torch.nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"^place does not fit .*bias is missing; x is unexpected; weight is \(1,\)"):
        restore(module, {"weight": torch.ones(1), "x": torch.ones(1)}, "place")
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


# --- no pickle


def unsafe_calls(source: str) -> list[str]:
    """Calls that read a pickle, or YAML that builds objects."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"import {name}" for name in modules if name.split(".")[0] in READS_PICKLES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name == "torch.load" and given.get("weights_only") != "True":
                found.append(name)
            if given.get("allow_pickle", "False") != "False":
                found.append(name)
            if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load_state_dict_from_url"):
                found.append(name)
    return found


READS_PICKLES = ("pickle", "joblib", "dill", "cloudpickle", "shelve")


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib", "torch.load(path)",
        "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "yaml.load(text, Loader=x)",
    ],
)  # fmt: skip
def test_the_search_finds(source):
    assert unsafe_calls(source)


@pytest.mark.parametrize("source", ["torch.load(p, weights_only=True)", "np.load(p)", "yaml.safe_load(p)", "load(p)"])
def test_the_search_lets_pass(source):
    assert not unsafe_calls(source)


def test_no_pickle_is_read_anywhere():
    root = Path(s3prl_attention.upstream.__path__[0]).parent
    sources = [
        path for name in ("upstream", "recipes", "downstream", "benchmark") for path in (root / name).rglob("*.py")
    ]
    assert len(sources) > 40
    assert {str(path): calls for path in sources if (calls := unsafe_calls(path.read_text(encoding="utf-8")))} == {}
