"""What fuzzing found, each as a plain test: none of them may come back."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from fuzz_fixtures import refusal, watched
from s3prl_attention.downstream.dataset import DataConfig
from s3prl_attention.downstream.s3prl_buckets import read_table
from s3prl_attention.recipes.corpora import load_corpus, read_audio
from s3prl_attention.recipes.corpora.alignments import check_id, read_ctm, read_frames, read_phone_table
from s3prl_attention.recipes.corpora.label_files import named_labels, read_labels
from s3prl_attention.upstream import load
from s3prl_attention.upstream.checkpoint import CONFIG, restore
from s3prl_attention.upstream.plain_yaml import parse_yaml

TINY = {"hidden_dim": 16, "num_heads": 8, "num_layers": 1, "max_frames": 6}
BOMB = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)}, ' * 9}]\n" for i in range(20))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(3000))


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "aliases of aliases": (BOMB, r"here:\d+: .*aliases that make more than"),
        "a long chain of aliases": (CHAIN, r"here:\d+: .*levels of nesting"),
        "deep": ("[" * 10_000, r"here:1: .*levels of nesting"),
        "in itself": ("a: &a [*a]", r"here:1: .*contains itself"),
        "a key twice": ("a: 1\nb: 2\na: 3", r"here:3: .*'a' comes twice"),
        "an object": ("a: !!python/object/apply:os.system [x]", r"here:1: .*not plain data"),
        "too many digits": ("a: " + "9" * 5000, r"here:1: .*is no int"),
        "NUL": ("a: 1\nb: \0", r"here:2: .*character 0 is not allowed"),
    }.values(),
)
def test_yaml_that_grows_repeats_or_builds_is_refused(text: str, why: str) -> None:
    with watched(), pytest.raises(ValueError, match=why) as caught:
        parse_yaml(text, "here")
    refusal(caught.value)


def test_yaml_that_repeats_a_little_is_read_and_dates_stay_text() -> None:
    found = parse_yaml("a: &a {b: 1}\nc: *a\nd: 2001-13-45\ne: {<<: *a, f: [1.5, true, null]}", "here")
    assert found == {"a": {"b": 1}, "c": {"b": 1}, "d": "2001-13-45", "e": {"b": 1, "f": [1.5, True, None]}}


@pytest.mark.parametrize("name", ["fixed_init", "mel"])
def test_what_is_no_batch_of_waveforms_is_told(name: str) -> None:
    expert = load(name) if name == "mel" else load(name, **TINY)
    wave = torch.zeros(1600)
    numbers = wave.to(torch.uint8)  # its silence is 128
    for batch in ([], torch.zeros(2, 1600), [wave.numpy()], [[0.0]], [None], [numbers], [wave.bool()], [wave + 0j]):
        with pytest.raises(ValueError, match="waveform") as caught:
            expert(batch)
        refusal(caught.value)


def test_memory_for_what_a_header_promises_is_not_taken_for_granted(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((100, 8)), 16_000)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the highest bits of the number of samples: 2 TB
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"a\.flac: ") as caught:
        read_audio(path)
    refusal(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_dim": 9_999_992},
        {"max_frames": 10_000_000},
        {"num_layers": 10_000_000},
        {"num_mels": 10_000_000},
        {"ffn_ratio": 9_000_000},
        {"hidden_dim": 2**70},
    ],
    ids=str,
)
def test_a_checkpoint_that_asks_for_all_memory_is_refused_before_it_is_made(tmp_path: Path, changed: dict) -> None:
    load("fixed_init", **TINY).save(tmp_path / "x")
    config = yaml.safe_load((tmp_path / "x" / CONFIG).read_text())
    config["options"] |= changed
    (tmp_path / "x" / CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=str(tmp_path / "x")) as caught:
        load("fixed_init", ckpt=tmp_path / "x")
    refusal(caught.value)


def test_weights_of_another_dtype_are_refused() -> None:
    module = torch.nn.Linear(2, 2)
    for dtype in (torch.int64, torch.float16, torch.float64):
        wrong = {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}
        with pytest.raises(ValueError, match=r"weight is \w+, not float32"):
            restore(module, wrong, "here")


def test_numbers_that_only_python_takes_for_such_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("u_1 0 1_0 2\n")
    with pytest.raises(ValueError, match=r"a\.txt:1: .*whole numbers \(got '1_0'\)"):
        read_frames(tmp_path / "a.txt")
    (tmp_path / "a.ctm").write_text("u1 1 0 1_0 AA\n")
    with pytest.raises(ValueError, match=r"a\.ctm:1: .*are seconds"):
        read_ctm(tmp_path / "a.ctm")
    (tmp_path / "a.ctm").write_text("u1 1 1e30 1 AA\n")
    with pytest.raises(ValueError, match=r"a\.ctm:1: .*lasts longer than 0 s"):
        read_ctm(tmp_path / "a.ctm")
    (tmp_path / "phones.txt").write_text(f"SIL 0\nAA {'9' * 5000}\n")
    with pytest.raises(ValueError, match=r"phones\.txt:2: ids go up to"):
        read_phone_table(tmp_path / "phones.txt")


def test_ids_that_steer_a_terminal_are_refused() -> None:
    for id in ("a\x1b[31m", "a\x7f", "a\x9b", "a\u202eb", "a\u2028b", "\ufeffa", "a\0b"):
        with pytest.raises(ValueError, match="plain name") as caught:
            check_id("here", id)
        refusal(caught.value, "here")


def test_a_manifest_of_odd_paths_and_names_is_refused_in_one_line(tmp_path: Path) -> None:
    for row in ("path,speaker\n.,anna\n", "\0path,speaker\na.wav,anna\n", "path,speaker,\x1b[31m\na.wav,anna,x\n"):
        (tmp_path / "my.csv").write_text(row)
        with pytest.raises(ValueError, match=r"my\.csv: ") as caught:
            load_corpus("manifest", tmp_path / "my.csv")
        refusal(caught.value)


def test_a_cache_of_labels_whose_zip_is_odd_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3PRL_ATTENTION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.ctm").write_text("u1 1 0 1 AA\n")
    source = named_labels(tmp_path / "a.ctm", [])[0]
    read_labels(source)
    (cached,) = (tmp_path / "cache" / "labels").glob("*.npz")
    data = bytearray(cached.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 10 : place + 12] = struct.pack("<H", 99)  # a compression that nobody has
    cached.write_bytes(bytes(data))
    assert list(read_labels(source).rows) == ["u1"]


def test_a_table_of_lengths_is_utf_8_and_finite(tmp_path: Path) -> None:
    for data in ("file_path,length\nx,1\n".encode("utf-16"), b"file_path,length\nx,inf\n"):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(ValueError, match=r"t\.csv: ") as caught:
            read_table(tmp_path / "t.csv")
        refusal(caught.value)


def test_every_value_of_a_tasks_yaml_has_its_type() -> None:
    with pytest.raises(ValueError, match=r"corpus is 'None'.*subsets is 'train': write a list.*fold is '-1'"):
        DataConfig.read({"corpus": None, "subsets": "train", "fold": -1})
    with pytest.raises(ValueError, match="must hold options"):
        DataConfig.read(None)  # type: ignore[arg-type]
