"""Damaged checkpoints, maps, option files and overrides: what was saved, or an error that names the file."""

import json
import math
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzz_fixtures import HOSTILE, RIGHT, Target, fuzz, mutated, refusal, twisted
from hypothesis import strategies as st
from s3prl_attention.downstream.dataset import DataConfig
from s3prl_attention.upstream import load
from s3prl_attention.upstream.checkpoint import CONFIG, WEIGHTS
from s3prl_attention.upstream.expert import read_options, split_options
from s3prl_attention.upstream.maps_file import read_maps
from s3prl_attention.upstream.plain_yaml import MAX_NODES, parse_yaml
from safetensors.torch import save

SIZES = {"hidden_dim": 16, "num_heads": 8, "num_layers": 1, "max_frames": 6, "num_mels": 4}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
YAML = (
    "hidden_dim: 32\nnum_heads: 8\ndropout: 0.2\nshared_layers: true\nweight_init: bert\n",
    "num_layers: 2 # two\nmax_frames: !!int 64\nnorm_eps: 1.0e-6\n",
    "{hidden_dim: 48, num_heads: 6, eps: 1e-3}\n",
    BOMB,
)
DATARC: dict[str, Any] = {
    "corpus": "librispeech", "root": "/x", "size": "tiny", "seed": 3, "alignments": None, "label": "label",
    "split_lists": None, "train_dev_seed": None, "s3prl_compatible": False, "shared_speakers": False, "subsets": ["a"],
    "fold": 0, "train_batch_size": 8, "eval_batch_size": 4, "num_workers": 0,
}  # fmt: skip


@cache
def weights() -> tuple[bytes, dict[str, Any]]:
    """The two files of a checkpoint of ``fixed_init``."""
    torch.manual_seed(0)
    expert = load("fixed_init", **SIZES)
    config = {"upstream": "fixed_init", "options": {**vars(expert.options), **vars(expert.own_options)}, "lineage": {}}
    return save(dict(expert.state_dict())), config


@st.composite
def safetensors(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes of a safetensors file, perhaps spoilt: its header as a tree, or any of its bytes."""
    how = draw(st.sampled_from(["sound", "header", "header", "bytes", "cut", "length", "value"]))
    (size,) = struct.unpack("<Q", data[:8])
    if how == "header":
        header = draw(twisted(json.loads(data[8 : 8 + size])))
        for entry in header.values() if isinstance(header, dict) else ():
            if isinstance(entry, dict) and draw(st.integers(0, 60)) == 0:
                entry["dtype"] = draw(
                    st.sampled_from(["F64", "F16", "BF16", "I32", "U8", "BOOL", "F8_E4M3", "F4", "X"])
                )
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]
    at = draw(st.integers(0, 1 << 20)) % len(data)
    if how == "bytes":
        return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    if how == "length":
        return struct.pack("<Q", draw(st.sampled_from([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1]))) + data[8:]
    if how == "value":
        at = 8 + size + (at % (len(data) - 8 - size)) // 4 * 4
        value = draw(st.sampled_from([math.nan, math.inf, -math.inf, 3e38]))
        return data[:at] + struct.pack("<f", value) + data[at + 4 :]
    return data


def check_checkpoint(example: tuple[bytes, bytes], folder: Path) -> str:
    (folder / CONFIG).write_bytes(example[0])
    (folder / WEIGHTS).write_bytes(example[1])
    try:
        expert = load("fixed_init", ckpt=folder)
    except BaseException as error:
        return refusal(error, folder)
    assert all(torch.isfinite(tensor).all() for tensor in expert.state_dict().values())
    assert {tensor.dtype for tensor in expert.state_dict().values()} == {torch.float32}
    return RIGHT


def configs() -> st.SearchStrategy[bytes]:
    """``config.yaml`` as text that was spoilt, or as a tree with other values."""
    text = yaml.safe_dump(weights()[1], sort_keys=False)
    as_tree = twisted(weights()[1]).map(lambda tree: yaml.safe_dump(tree, sort_keys=False).encode("utf-8", "replace"))
    return st.one_of(st.just(text.encode()), mutated(text, BOMB), as_tree)


def check_maps(data: bytes, folder: Path) -> str:
    path = folder / "maps.safetensors"
    path.write_bytes(data)
    try:
        maps = read_maps(path, 1, 2, 3)
    except BaseException as error:
        return refusal(error, path)
    assert maps.shape == (1, 2, 3, 3)
    torch.testing.assert_close(maps.sum(-1), torch.ones(1, 2, 3), atol=2e-3, rtol=0)
    return RIGHT


def check_options(data: bytes, folder: Path) -> str:
    path = folder / "model.yaml"
    path.write_bytes(data)
    try:
        options = read_options(path)
    except BaseException as error:
        return refusal(error, path)
    assert isinstance(options, dict)
    try:
        split_options("fixed_init", options)
    except BaseException as error:
        return refusal(error)
    return RIGHT


def count(tree: Any) -> int:
    """Values in a tree."""
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return 1 + sum(map(count, inner))


def check_yaml(data: bytes, folder: Path) -> str:
    """Whatever is read is plain, and as large as it looks."""
    del folder
    try:
        tree = parse_yaml(data.decode("utf-8", "surrogatepass"), "here")
    except UnicodeDecodeError:
        return RIGHT
    except BaseException as error:
        return refusal(error, "here")
    json.dumps(tree)  # nothing but plain values
    assert count(tree) <= MAX_NODES
    return RIGHT


def check_datarc(datarc: Any, folder: Path) -> str:
    """The section of a task's yaml; what it holds is looked at before a corpus is loaded."""
    del folder
    try:
        config = DataConfig.read(datarc)
    except BaseException as error:
        return refusal(error, "datarc")
    assert isinstance(config.subsets, tuple)
    assert config.train_batch_size > 0
    assert config.fold >= 0
    assert isinstance(config.corpus, str)
    return RIGHT


MAPS = save({"maps": torch.full((1, 2, 4, 4), 0.25)})
TARGETS = [
    Target("checkpoints", st.tuples(configs(), safetensors(weights()[0])), check_checkpoint, quick=80),
    Target("maps", safetensors(MAPS), check_maps, quick=100),
    Target("option files", mutated(*YAML), check_options, quick=100),
    Target("yaml", st.one_of(mutated(*YAML), st.sampled_from(HOSTILE).map(str.encode)), check_yaml, quick=150),
    Target("task yaml", twisted(DATARC), check_datarc, quick=100),
]  # fmt: skip
IDS = [target.name for target in TARGETS]


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_files(target, tmp_path):
    fuzz(target, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_many_files(target, tmp_path):
    fuzz(target, tmp_path, slow=True)
