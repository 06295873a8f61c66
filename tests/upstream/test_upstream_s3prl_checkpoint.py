"""Checkpoints to s3prl's layout and back: nothing is lost, nothing is overwritten, and every mistake is told."""

import argparse
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from checkpoint_fixtures import BOTH, POSITIONS, save, write_theirs
from s3prl_attention.upstream import load
from s3prl_attention.upstream import s3prl_checkpoint as convert
from s3prl_attention.upstream.checkpoint import SUMS, load_checkpoint
from s3prl_attention.upstream.s3prl_checkpoint import read_states

# --- there and back


@BOTH
@POSITIONS
@pytest.mark.parametrize("with_head", [True, False])
def test_there_and_back_nothing_changes(with_head, positions, shared, tmp_path):
    folder = save(tmp_path / "ours", with_head, positions=positions, shared_layers=shared, norm_eps=1e-7, stack=2)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert ("SpecHead" in read_states(tmp_path / "theirs.ckpt")) == with_head
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    (config, tensors), (config_again, tensors_again) = load_checkpoint(folder), load_checkpoint(tmp_path / "again")
    assert config_again == config
    same_tensors(tensors_again, tensors)
    load("self_attention", ckpt=tmp_path / "again")


def same_tensors(some, others):
    assert some.keys() == others.keys()
    for name, tensor in some.items():
        assert tensor.dtype == others[name].dtype, name
        assert torch.equal(tensor, others[name]), name


@BOTH
def test_back_and_there_nothing_changes(shared, tmp_path):
    write_theirs(tmp_path / "theirs.ckpt", output_dim=201, share_layer=shared)
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours", encoder_only=True)
    convert.to_s3prl(tmp_path / "ours", tmp_path / "again.ckpt")
    for section in ("Transformer", "SpecHead"):
        same_tensors(read_states(tmp_path / "again.ckpt")[section], read_states(tmp_path / "theirs.ckpt")[section])
    convert.from_s3prl(tmp_path / "again.ckpt", tmp_path / "ours again")
    assert load_checkpoint(tmp_path / "ours again")[0] == load_checkpoint(tmp_path / "ours")[0]


def test_sizes_keep_their_meaning(tmp_path):
    folder = save(tmp_path / "ours", norm_eps=1e-6, attention_dropout=0.5, shared_layers=True)
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    states = read_states(tmp_path / "theirs.ckpt")
    assert states["Config"] == {}, "s3prl looks into it"
    assert states["Upstream_Config"]["task"] == {"sequence_length": 700}
    assert states["Upstream_Config"]["transformer"] == {
        "input_dim": 240, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
        "intermediate_size": 144, "hidden_act": "gelu", "hidden_dropout_prob": 0.25,
        "attention_probs_dropout_prob": 0.5, "initializer_range": 0.02, "layer_norm_eps": 1e-6, "share_layer": True,
        "pre_layer_norm": False,
    }  # fmt: skip
    write_theirs(tmp_path / "states.ckpt", input_dim=160)
    convert.from_s3prl(tmp_path / "states.ckpt", tmp_path / "from", encoder_only=True)
    config, _ = load_checkpoint(tmp_path / "from")
    assert config["options"] == {
        "hidden_dim": 48, "num_heads": 6, "num_layers": 3, "ffn_ratio": 2, "max_frames": 1500, "shared_layers": False,
        "dropout": 0.1, "attention_dropout": 0.2, "stack": 1, "num_mels": 160, "weight_init": "bert",
        "positions": "interleaved", "norm_eps": 1e-12,
    }  # fmt: skip
    assert config["lineage"]["s3prl"]["config"]["audio"]["cmvn"] == {"use_cmvn": True}


def test_a_shared_layer_is_stored_once(tmp_path):
    for shared in (True, False):
        convert.to_s3prl(save(tmp_path / f"{shared}", False, shared_layers=shared), tmp_path / f"{shared}.ckpt")
    layer = sum(t.numel() for n, t in load_checkpoint(tmp_path / "True")[1].items() if n.startswith("encoder.layers"))
    saved = (tmp_path / "False.ckpt").stat().st_size - (tmp_path / "True.ckpt").stat().st_size
    assert saved == pytest.approx(2 * 4 * layer, rel=0.2)


# --- an encoder alone


def test_no_upstream_can_be_made_of_an_encoder_alone(tmp_path):
    write_theirs(tmp_path / "theirs.ckpt")
    with pytest.raises(ValueError, match=r"--upstream s3prl:mockingjay_local:.*theirs\.ckpt, or .* --encoder-only"):
        convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "ours", encoder_only=True)
    with pytest.raises(ValueError, match=r"ours holds an encoder alone.*load_encoder"):
        load("self_attention", ckpt=tmp_path / "ours")


# --- mistakes


def change_states(path, change):
    states = read_states(path)
    change(states)
    torch.save(states, path)


class Foreign:
    pass


MISTAKES = {
    "missing": (lambda p: p.unlink(), r"is no file"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:5000]), r"cannot be read as a file of torch\.save"),
    "garbage": (lambda p: p.write_bytes(b"\xff" * 99), r"cannot be read as a file of torch\.save"),
    "empty": (lambda p: p.write_bytes(b""), r"cannot be read as a file of torch\.save"),
    "an object": (lambda p: torch.save({"Scheduler": Foreign()}, p), r"holds an object of .*Foreign.*where you trust"),
    "a list": (lambda p: torch.save([1], p), r"holds a list"),
    "of another upstream": (lambda p: torch.save({"model": {}, "Step": 1}, p), r"is no checkpoint.*has model, Step"),
    "pre-LN": (lambda p: write_theirs(p, pre_layer_norm=True), r"pre_layer_norm is true.*keep to s3prl"),
    "relu": (lambda p: write_theirs(p, hidden_act="relu"), r"hidden_act is 'relu'"),
    "ffn": (lambda p: write_theirs(p, intermediate_size=100), r"multiple of hidden_size .* got 100 and 48"),
    "an odd size": (lambda p: write_theirs(p, hidden_size=45, num_attention_heads=5, intermediate_size=90), r"be even"),
    "no eps": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].pop("layer_norm_eps")),
        r"'transformer' cannot be read \(KeyError: 'layer_norm_eps'\)",
    ),
    "a tensor too few": (
        lambda p: change_states(p, lambda s: s["Transformer"].pop("encoder.layer.1.output.dense.bias")),
        r"Transformer\.encoder\.layer\.1\.output\.dense\.bias is missing",
    ),
    "no input layer": (
        lambda p: change_states(p, lambda s: s["Transformer"].pop("input_representations.spec_transform.weight")),
        r"spec_transform\.weight is missing",
    ),
    "a tensor too many": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update(extra=torch.ones(1))),
        r"SpecHead\.extra is unexpected",
    ),
    "no tensor": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update({"dense.bias": 3})),
        r"SpecHead\.dense\.bias is no tensor",
    ),
    "a tensor of integers": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update({"dense.bias": torch.ones(48, dtype=torch.int64)})),
        r"SpecHead\.dense\.bias is no tensor of floats",
    ),
    **{
        f"{section}.{name} {shape}": (
            lambda p, section=section, name=name, shape=shape: change_states(
                p, lambda s: s[section].update({name: torch.ones(shape)})
            ),
            rf"ckpt: {section}\.{re.escape(f'{name} is {shape}, not {expected}')}: restore the file",
        )
        for section, name, shape, expected in [
            ("Transformer", "encoder.layer.0.output.dense.weight", (48, 7), (48, 96)),
            ("Transformer", "encoder.layer.1.attention.self.query.weight", (48, 7), (48, 48)),
            ("Transformer", "encoder.layer.2.attention.self.value.bias", (1, 48), (48,)),
            ("Transformer", "encoder.layer.0.intermediate.dense.weight", (96,), (96, 48)),
            ("Transformer", "input_representations.LayerNorm.weight", (), (48,)),
            ("SpecHead", "LayerNorm.bias", (5,), (48,)),
            ("SpecHead", "output.weight", (200, 48), (240, 48)),
            ("SpecHead", "output.bias", (), (240,)),
        ]
    },
    "a scalar input layer": (
        lambda p: change_states(
            p, lambda s: s["Transformer"].update({"input_representations.spec_transform.weight": torch.ones(())})
        ),
        r"spec_transform\.weight is missing or no matrix: restore",
    ),
    "a number as name": (
        lambda p: change_states(p, lambda s: s["SpecHead"].update({0: torch.ones(1), "x": torch.ones(1)})),
        r"SpecHead\.0 is unexpected; SpecHead\.x is unexpected",
    ),
    "no width": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].update(hidden_size=0)),
        r"hidden_size must be at least 1, got 0",
    ),
    "a tensor as size": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].update(hidden_size=torch.ones(2, 2))),
        r"transformer\.hidden_size is a Tensor, not a plain value: restore",
    ),
    "infinite": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].update(hidden_size=float("inf"))),
        r"'transformer' cannot be read \(OverflowError",
    ),
    "not shared": (
        lambda p: change_states(p, lambda s: s["Upstream_Config"]["transformer"].update(share_layer=True)),
        r"share_layer is true, but encoder\.layer\.1\.\S+ differs from that of layer 0",
    ),
    "NaN": (
        lambda p: change_states(p, lambda s: s["Transformer"]["encoder.layer.2.output.dense.bias"].fill_(torch.nan)),
        r"holds NaN or infinity in Transformer\.encoder\.layer\.2\.output\.dense\.bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_file_that_cannot_be_taken_is_told_in_a_line(mistake, tmp_path):
    path = tmp_path / "theirs.ckpt"
    write_theirs(path)
    if mistake not in ("missing", "cut short", "garbage", "empty", "an object", "a list", "of another upstream"):
        states = read_states(path)
        torch.save({key: states[key] for key in ("Transformer", "SpecHead", "Upstream_Config", "Config")}, path)
    harm, message = MISTAKES[mistake]
    harm(path)
    with pytest.raises(ValueError, match=message) as told:
        convert.from_s3prl(path, tmp_path / "ours", encoder_only=True)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert sorted(found.name for found in tmp_path.iterdir()) == (["theirs.ckpt"] if path.exists() else [])


@pytest.mark.parametrize("safe", [[], [argparse.Namespace, Foreign]])
def test_reading_leaves_what_is_safe_to_unpickle(safe, tmp_path):
    before = torch.serialization.get_safe_globals()
    write_theirs(tmp_path / "theirs.ckpt")
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(safe)
    assert read_states(tmp_path / "theirs.ckpt")["Args"].upstream == "mockingjay"
    assert set(torch.serialization.get_safe_globals()) == set(safe)
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


OURS = {
    "options": (
        lambda u: u["s3prl_attention"]["options"].update(hidden_dim="wide"),
        r"hidden_dim must be int",
    ),
    "a number as option": (
        lambda u: u["s3prl_attention"]["options"].update({0: 1}),
        r"upstream 'self_attention': no option 0 \(known: attention_dropout, ",
    ),
    "section": (lambda u: u.update(s3prl_attention=[]), r"its section 's3prl_attention' is damaged"),
    "statistics": (lambda u: u["s3prl_attention"]["log_mel"].update(mean=[0.0]), r"log_mel does not fit.*mean"),
    "lineage": (
        lambda u: u["s3prl_attention"]["lineage"].update(seeds=[1, torch.ones(2)]),
        r"s3prl_attention\.lineage\.seeds\.1 is a Tensor, not a plain value: restore",
    ),
    "words as statistics": (
        lambda u: u["s3prl_attention"]["log_mel"].update(mean="x"),
        r"'s3prl_attention' is damaged, log_mel\.mean is no list of numbers: convert it again",
    ),
    "no statistics": (
        lambda u: u["s3prl_attention"]["log_mel"].update(std=None),
        r"log_mel\.std is no list of numbers: convert it again",
    ),
    "infinite statistics": (
        lambda u: u["s3prl_attention"]["log_mel"].update(std=[float("inf")] * 80),
        r"'s3prl_attention' holds NaN or infinity in log_mel\.std",
    ),
    "changed": (
        lambda u: u["transformer"].update(pre_layer_norm=True, hidden_act="relu"),
        r"changed after it was converted, in hidden_act, pre_layer_norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OURS)
def test_damage_to_what_we_wrote_is_told(mistake, tmp_path):
    convert.to_s3prl(save(tmp_path / "ours"), tmp_path / "theirs.ckpt")
    harm, message = OURS[mistake]
    change_states(tmp_path / "theirs.ckpt", lambda states: harm(states["Upstream_Config"]))
    with pytest.raises(ValueError, match=message) as told:
        convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    assert str(told.value).startswith(str(tmp_path / "theirs.ckpt"))
    assert not (tmp_path / "again").exists()


def test_only_self_attention_converts(tmp_path):
    load("uniform", hidden_dim=16, num_heads=2, num_layers=1).save(tmp_path / "uniform")
    with pytest.raises(ValueError, match=r"upstream 'uniform', but .* self_attention only: .*register"):
        convert.to_s3prl(tmp_path / "uniform", tmp_path / "theirs.ckpt")


def test_a_damaged_head_is_told(tmp_path):
    folder = save(tmp_path / "ours")
    config, tensors = load_checkpoint(folder)
    tensors.pop("head.norm.bias")
    convert.save_checkpoint(folder, tensors, config)
    with pytest.raises(ValueError, match=r"ours: head\.norm\.bias is missing"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    tensors["head.norm.bias"] = torch.ones(())
    convert.save_checkpoint(folder, tensors, config)
    with pytest.raises(ValueError, match=r"ours: head\.norm\.bias is \(\), not \(48,\): restore"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")


def test_nothing_is_overwritten(tmp_path):
    folder = save(tmp_path / "ours")
    (tmp_path / "theirs.ckpt").write_text("mine")
    with pytest.raises(ValueError, match=r"theirs\.ckpt exists: name another place"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert (tmp_path / "theirs.ckpt").read_text() == "mine"
    convert.to_s3prl(folder, tmp_path / "new.ckpt")
    with pytest.raises(ValueError, match=r"ours exists: name another place"):
        convert.from_s3prl(tmp_path / "new.ckpt", folder)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    folder = save(tmp_path / "ours")

    def disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_the_command_line(tmp_path, capsys):
    folder = save(tmp_path / "ours")
    convert.main(["to", str(folder), str(tmp_path / "deep" / "theirs.ckpt")])
    convert.main(["from", str(tmp_path / "deep" / "theirs.ckpt"), str(tmp_path / "again")])
    write_theirs(tmp_path / "states-7.ckpt")
    convert.main(["from", "--encoder-only", str(tmp_path / "states-7.ckpt"), str(tmp_path / "alone")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2][:21] for line in lines] == [
        "for code that gives f",
        "a checkpoint of self_",
        "an encoder alone: s3p",
    ]
    with pytest.raises(SystemExit, match=r"^error: .* exists"):
        convert.main(["to", str(folder), str(tmp_path / "states-7.ckpt")])


def test_a_checkpoint_older_than_the_options_converts(tmp_path):
    folder = save(tmp_path / "ours")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    before = {key: config["options"].pop(key) for key in ("positions", "norm_eps")}
    Path(folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / SUMS).unlink()  # there were none either
    convert.to_s3prl(folder, tmp_path / "theirs.ckpt")
    convert.from_s3prl(tmp_path / "theirs.ckpt", tmp_path / "again")
    assert load_checkpoint(tmp_path / "again")[0]["options"] == {**config["options"], **before}
    same_tensors(load_checkpoint(tmp_path / "again")[1], load_checkpoint(folder)[1])
