"""Our tasks in s3prl's names and in s3prl's form, against s3prl's own datasets and experts on the same files.

Legend: B utterances, T feature frames, D feature dim, C classes.
"""

import logging
import random
from collections import defaultdict
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s3prl_attention import downstream
from s3prl_attention.downstream.dataset import DataConfig
from s3prl_attention.downstream.folds import SPLITS
from s3prl_attention.downstream.outcomes import accuracy
from s3prl_attention.downstream.s3prl_buckets import Row, buckets, read_table
from s3prl_attention.downstream.s3prl_datarc import NAMES, check_modelrc, divided_lists
from s3prl_attention.downstream.s3prl_padded import PaddedFrames, phones, speaker
from s3prl_attention.recipes.corpora import Corpus, load_corpus
from s3prl_task_fixtures import DIM, MODELRC, THEIRS, lay_out, our_expert, random_features, runnable, their_expert
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["runnable"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # s3prl closes none
    pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning"),  # s3prl asks for it on any machine
]
LAYER_FIRST = ("phone_linear", "speaker", "speaker_frame")  # s3prl's others make a linear head first, for nothing


@pytest.fixture
def synthetic(synthetic_tiny: Corpus, tmp_path: Path) -> dict[str, Any]:
    """s3prl's ``datarc`` for the synthetic corpus, which lies in LibriSpeech layout."""
    return lay_out(tmp_path, synthetic_tiny)


@pytest.fixture
def real(librispeech_mini: Path, tmp_path: Path) -> dict[str, Any]:
    return lay_out(tmp_path, load_corpus("librispeech", librispeech_mini))


def ids(theirs: Any, split: str) -> list[list[str]]:
    """The batches of a dataset of s3prl, before they are shuffled."""
    return [[Path(path).stem for path in batch] for batch in getattr(theirs, f"{split}_dataset").X]


def compare(task: str, datarc: dict[str, Any], folder: Path, rate: int) -> None:
    """Batches, their order, waves, labels, first weights, loss, gradients and accuracy of all three sets."""
    theirs, ours = their_expert(task, datarc, folder), our_expert(task, datarc, s3prl_compatible=True)
    pairs = list(zip(theirs.model.parameters(), ours.model.parameters(), strict=True))
    assert task not in LAYER_FIRST or all(torch.equal(one, other) for one, other in pairs), "one seed, one start"
    with torch.no_grad():
        for one, other in pairs:
            other.copy_(one)
    for split in SPLITS:
        spoken = [utterance.id for utterance in ours.data.fold.utterances(split)]
        order = ours.get_dataloader(split).batch_sampler.places
        assert [[spoken[place] for place in batch] for batch in order] == ids(theirs, split)
        torch.manual_seed(1)
        expected = list(theirs.get_dataloader(split))
        torch.manual_seed(1)
        found = list(ours.get_dataloader(split))
        assert len(found) == len(expected) == len(ours.get_dataloader(split))
        one_records: dict = defaultdict(list)
        other_records: dict = defaultdict(list)
        for (waves, labels), (our_waves, our_labels, our_ids) in zip(expected, found, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(waves, our_waves, strict=True))
            assert torch.cat([label.view(-1) for label in labels]).equal(torch.cat(our_labels))
            features = random_features(waves, rate)
            one = theirs(split, features, labels, records=one_records)
            other = ours(split, features, our_labels, our_ids, records=other_records)
            torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
            one.backward()
            other.backward()
        right = torch.tensor(one_records["acc"], dtype=torch.float64).mean().item()
        assert accuracy(other_records["outcomes"]) == pytest.approx(right, abs=1e-6)
    for one, other in pairs:
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", THEIRS)
def test_the_form_of_s3prl_is_s3prls_on_synthetic_speech(task: str, synthetic, tmp_path, runnable):
    compare(task, synthetic, tmp_path, rate=320 if task == "phone_linear" else 160)


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_the_form_of_s3prl_is_s3prls_on_real_speech(task: str, real, tmp_path, runnable):
    compare(task, real, tmp_path, rate=160)


@pytest.mark.parametrize("task", ["phone_linear", "speaker"])
def test_the_default_form_has_s3prls_sets_whole(task: str, synthetic, tmp_path, runnable):
    everything = their_expert(task, synthetic | {"train_batch_size": 1, "eval_batch_size": 1}, tmp_path)
    dropped = {split: len(list(chain(*ids(their_expert(task, synthetic, tmp_path), split)))) for split in SPLITS}
    random.seed(5)
    before = random.getstate()
    ours = our_expert(task, synthetic)
    assert random.getstate() == before
    for split in SPLITS:
        size = 5 if split == "train" else 4
        read = [batch for _, _, batch in ours.get_dataloader(split)]
        assert sorted(chain(*read)) == sorted(chain(*ids(everything, split)))
        assert [len(batch) for batch in read[:-1]] == [size] * (len(read) - 1), "no batch is halved"
        assert len(list(chain(*read))) >= dropped[split]
    assert sum(dropped.values()) < 64, "or nothing was dropped, and this shows nothing"
    assert "(s3prl's shuffle, seed 1337)" in ours.data.fold.split


def test_the_default_form_has_the_labels_of_the_file_and_the_speakers_of_train(synthetic):
    lines = (Path(synthetic["phone_path"]) / "converted_aligned_phones.txt").read_text().splitlines()
    written = {id: [int(label) for label in labels] for id, *labels in map(str.split, lines)}
    expert = our_expert("phone_linear", synthetic)
    for utterance in expert.data.fold.test:
        assert [int(expert.targets.classes[label]) for label in expert.label(utterance)] == written[utterance.id]
    expert = our_expert("speaker", synthetic)
    assert expert.targets.classes == sorted({utterance.speaker for utterance in expert.data.fold.train})


def test_another_seed_divides_otherwise_and_blank_lines_count(tmp_path: Path):
    train = [f"a-{number}" for number in range(40)]
    (tmp_path / "test_split.txt").write_text("b-1\n")
    for text in ("\n".join(train), "\n".join([*train, "", ""])):
        (tmp_path / "train_split.txt").write_text(text)
        lines = (tmp_path / "train_split.txt").read_text().splitlines(keepends=True)
        random.Random(1337).shuffle(lines)
        cut = int(len(lines) * 0.9)
        expected = [[line.strip() for line in part if line.strip()] for part in (lines[:cut], lines[cut:])]
        found = divided_lists(str(tmp_path), 1337)
        assert [found["train"], found["dev"], found["test"]] == [*expected, ["b-1"]]
    assert divided_lists(str(tmp_path), 1)["dev"] != found["dev"]
    (tmp_path / "dev_split.txt").write_text("a-1\n")
    with pytest.raises(ValueError, match=r"dev_split.txt: train_dev_seed makes dev of a tenth of train"):
        divided_lists(str(tmp_path), 1337)


def test_a_list_that_is_not_utf8_is_told(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}_split.txt").write_text("a-1-0001\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"train_split.txt: lists are UTF-8 text, this one is not .*: convert it"):
        divided_lists(str(tmp_path), 0)


def rows(*lengths: int) -> list[Row]:
    return [Row(str(number), length) for number, length in enumerate(lengths)]


def test_full_batches_are_halved_where_the_longest_exceeds_2000():
    everyone = set("0123456")
    assert buckets(rows(2001, 9, 8, 7, 6, 5), everyone, 3) == [["0"], ["1", "2"], ["3", "4", "5"]]
    assert buckets(rows(2000, 9, 8), everyone, 3) == [["0", "1", "2"]]
    assert buckets(rows(3000, 2500), everyone, 1) == [["0"], ["1"]], "one cannot be halved"
    assert buckets(rows(3000, 2500), everyone, 3) == [["0", "1"]], "what is left over is not"


def test_what_is_left_over_is_dropped_unless_the_shortest_of_all_is_of_the_set():
    table = rows(9, 8, 7, 6, 5, 4)
    assert buckets(table, set("01234"), 3) == [["0", "1", "2"]], "3 and 4 are dropped: 5 is of another set"
    assert buckets(table, set("01345"), 3) == [["0", "1", "3"], ["4", "5"]]
    assert buckets(table, set("0125"), 3) == [["0", "1", "2"]], "one alone is dropped in any case"
    assert buckets(table, set("01"), 3) == []


@pytest.mark.parametrize("step", [1, 0.5])
def test_the_table_is_sorted_as_pandas_sorts_it(step: float, tmp_path: Path):
    pandas = pytest.importorskip("pandas", reason="s3prl's order of ties is that of pandas: install the extra 'test'")
    lengths = np.random.default_rng(0).integers(1, 9, size=200) * step
    text = "".join(f"{number},x/a-{number}.flac,{length},\n" for number, length in enumerate(lengths.tolist()))
    (tmp_path / "t.csv").write_text(f",file_path,length,label\n{text}")
    found = read_table(tmp_path / "t.csv")
    assert [row.length for row in found] == sorted(lengths.tolist(), reverse=True)
    table = pandas.read_csv(tmp_path / "t.csv").sort_values(by=["length"], ascending=False)
    assert [f"x/{row.id}.flac" for row in found] == table["file_path"].tolist()


def ends(arrange: Any, features: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The loss of a batch in s3prl's form, and in ours: the mean over the utterances' own frames."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = PaddedFrames(arrange, nn.Linear, DIM, 160, 3)
    own = [model([part], [label], ["x"], False)[0] * len(part) for part, label in zip(features, labels, strict=True)]
    return model(features, labels, ["x"] * len(features), False)[0], sum(own) / sum(map(len, features))


def test_padding_counts_in_the_loss_of_speaker_frame_only(synthetic):
    features = [torch.ones(9, DIM), torch.ones(2, DIM)]
    padded, own = ends(speaker, features, [torch.tensor([0]), torch.tensor([1])])
    assert abs(padded - own) > 0.01
    same = [torch.ones(9, DIM), torch.ones(9, DIM)]
    torch.testing.assert_close(*ends(speaker, same, [torch.tensor([0]), torch.tensor([1])]))
    torch.testing.assert_close(*ends(phones, features, [torch.zeros(9).long(), torch.ones(2).long()]))
    expert = our_expert("speaker_frame", synthetic)
    spoken = sorted(expert.data.fold.train, key=lambda u: u.num_frames)
    chosen = [spoken[0], spoken[-1]]
    assert chosen[0].num_frames < chosen[1].num_frames
    states = [torch.ones(u.num_frames, DIM) for u in chosen]
    loss = expert("train", states, list(map(expert.label, chosen)), [u.id for u in chosen])
    scores = torch.cat([expert.model.head.layers(part) for part in states])
    torch.testing.assert_close(loss, functional.cross_entropy(scores, torch.cat(list(map(expert.label, chosen)))))


def test_features_are_matched_to_the_longest_labels_of_the_batch():
    features = [torch.full((4, DIM), 1.0), torch.full((2, DIM), 2.0)]
    frames, target, scored = phones(features, [torch.zeros(9).long(), torch.zeros(6).long()])
    assert frames[0, :, 0].tolist() == [1.0] * 9, "twice each, and the last once more"
    assert frames[1, :, 0].tolist() == [2.0] * 4 + [0.0] * 5, "its fifth and sixth labels read padding"
    assert target[1].tolist() == [0] * 6 + [-100] * 3
    assert scored == [9, 6]
    frames, _, _ = phones([torch.arange(7.0)[:, None]], [torch.zeros(5).long()])
    assert frames[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    frames, _, _ = phones([torch.arange(2.0)[:, None]], [torch.zeros(5).long()])  # 2.5 rounds to 2
    assert frames[0, :, 0].tolist() == [0, 0, 1, 1, 1]


def test_an_old_yaml_is_read_and_every_name_of_it_accounted_for(caplog: pytest.LogCaptureFixture):
    old = {"num_workers": 8, "train_batch_size": 32, "eval_batch_size": 16, "max_timestep": 0, "libri_root": "L"}
    old |= {"phone_path": "P", "bucket_file": "B", "sample_rate": 16000, "train_dev_seed": 1337}
    meant = DataConfig(corpus="librispeech", root="L", split_lists="P", alignments="P/converted_aligned_phones.txt")
    meant = replace(meant, num_workers=8, train_batch_size=32, eval_batch_size=16, bucket_file="B", train_dev_seed=1337)
    with caplog.at_level(logging.INFO):
        assert DataConfig.read(old) == meant
    assert "corpus=librispeech, root=L, split_lists=P, alignments=P/converted_aligned_phones.txt" in caplog.text
    idle = caplog.messages[-1]
    assert all(name in idle for name in ("not used", "sample_rate", "max_timestep", "bucket_file"))
    ours = downstream.config("speaker")["downstream_expert"]["datarc"]  # with -o on our own yaml
    given = {"libri_root": "L", "split_file": "S"}
    assert DataConfig.read(ours | given) == DataConfig(
        corpus="librispeech", root="L", split_lists="S", train_dev_seed=1337
    )
    caplog.clear()
    DataConfig.read(old | {"s3prl_compatible": True})
    assert "bucket_file" not in caplog.text
    assert DataConfig.read({"libri_root": None, "sample_rate": None}) == DataConfig()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"libri_rot": "L"}, r"no option 'libri_rot' \(did you mean 'libri_root'"),
        ({"libri_root": "L", "root": "M"}, "libri_root means root='L', but root is 'M': drop one"),
        ({"libri_root": "L", "corpus": "manifest"}, "means corpus='librispeech', but corpus is 'manifest'"),
        ({"libri_root": "L", "phone_path": "P", "split_file": "S"}, "split_file means split_lists='S', but .* is 'P'"),
        ({"phone_path": "P"}, "phone_path needs LibriSpeech: name its folder with libri_root"),
        ({"libri_root": "L", "sample_rate": 8000}, "sample_rate is 8000, but upstreams hear 16000 Hz"),
        ({"libri_root": "L", "train_dev_seed": 1}, "train_dev_seed divides a list of train: name its folder"),
        ({"s3prl_compatible": "true"}, "s3prl_compatible is 'true': write True or False"),
    ],
)
def test_contradictions_are_told_in_a_line(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as raised:
        DataConfig.read(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("task", downstream.names())
def test_a_yaml_may_say_what_the_head_of_its_task_is_and_nothing_of_another(task: str):
    check_modelrc(None, task)
    check_modelrc({"none": None} | MODELRC.get(task, {}), task)
    for other in MODELRC.keys() - {task}:
        name, size = next(iter(MODELRC[other].items()))
        told = rf"modelrc: {name} is not for {task} \({other} has {size}\).*: correct the yaml, take the task with that"
        with pytest.raises(ValueError, match=told) as raised:
            downstream.load(task).DownstreamExpert(5, 160, {"datarc": {}, "modelrc": MODELRC[other]}, None)
        assert "\n" not in str(raised.value)


def test_heads_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"hidden_size is 512, but the head of phone_1hidden has 768.*; dropout"):
        check_modelrc({"hidden_size": 512, "dropout": 0.1}, "phone_1hidden")
    with pytest.raises(ValueError, match=r"concat_n_frames is 11, but the head of phone_concat has 9.*-d s3prl:TASK"):
        check_modelrc({"concat_n_frames": 11}, "phone_concat")
    with pytest.raises(ValueError, match=r"modelrc: no option 'hiden_size' \(did you mean 'hidden_size'"):
        check_modelrc({"hiden_size": 512}, "phone_1hidden")


def test_the_page_of_old_numbers_has_every_task_head_and_name():
    page = (downstream.config_path("phone_linear").parent.parent / "s3prl_compatible.md").read_text(encoding="utf-8")
    for task, theirs in THEIRS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{theirs}` | [`{task}`]")]
        head = ", ".join(f"`{name}: {size}`" for name, size in MODELRC.get(task, {}).items())
        assert row.endswith(f"| {head or 'nothing'} |")
    assert [name for name in (*NAMES, "train_dev_seed", "bucket_file") if f"`{name}`" not in page] == []


@pytest.mark.parametrize("task", [task for task in downstream.names() if task not in THEIRS])
def test_tasks_that_s3prl_does_not_have_so_refuse_its_form(task: str):
    with pytest.raises(ValueError, match=f"s3prl_compatible is not for {task}, which s3prl does not have"):
        our_expert(task, {"s3prl_compatible": True})


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("speaker", {"bucket_file": None}, r"s3prl_compatible needs bucket_file .*name the files"),
        ("speaker", {"subsets": ["a"], "fold": 1}, "takes no subsets, fold: drop it"),
        ("speaker", {"eval_batch_size": 30}, "s3prl's batches have nothing of dev"),
        ("speaker", {"eval_batch_size": 0}, "eval_batch_size is '0': write a whole number from 1"),
        ("speaker", {"bucket_file": "/nowhere"}, r"/nowhere/train-clean-100.csv: cannot be read .*bucket_file"),
        ("phone_linear", {"phone_path": None}, "needs alignments .s3prl: phone_path"),
    ],
)
def test_what_the_form_of_s3prl_cannot_do_is_told(task: str, change: dict, message: str, synthetic):
    with pytest.raises(ValueError, match=message):
        our_expert(task, synthetic | change, s3prl_compatible=True)


def test_files_that_do_not_fit_together_name_what_is_missing(synthetic):
    table, labels = (
        Path(synthetic["bucket_file"]) / name for name in ("train-clean-100.csv", "converted_aligned_phones.txt")
    )
    text = labels.read_text()
    for broken, message in (
        ("\n".join(text.splitlines()[5:]), "there are no labels of"),
        (text.replace(" 0 ", " 41 ", 1), ":1: s3prl knows phones 0 to 40"),
        (text.replace(" 0 ", " x ", 1), ":1: a line is 'utterance l0 l1 ...' with whole numbers"),
    ):
        labels.write_text(broken)
        with pytest.raises(ValueError, match=message):
            our_expert("phone_linear", synthetic, s3prl_compatible=True)
    written = table.read_text()
    some = written.splitlines()[1].split(",")[1].split("/")[-1].split(".")[0]
    table.write_text(written.replace(some, "9999-1-0001"))
    lists = Path(synthetic["phone_path"])
    for name in ("train_split.txt", "test_split.txt"):
        path = lists / name
        path.write_text(path.read_text().replace(some, "9999-1-0001"))
    with pytest.raises(ValueError, match=r"name '9999-1-0001', but .* has no such audio"):
        our_expert("speaker", synthetic | {"train_batch_size": 1, "eval_batch_size": 1}, s3prl_compatible=True)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a table has the columns file_path and length, a number .KeyError: 'length'"):
        our_expert("speaker", synthetic, s3prl_compatible=True)


def test_a_speaker_with_one_utterance_in_the_table_has_no_class(synthetic):
    table = Path(synthetic["bucket_file"]) / "train-clean-100.csv"
    header, *lines = table.read_text().splitlines()
    first = lines[0].split(",")[1].split("/")[-1].split("-")[0]
    kept = [line for line in lines[1:] if f"/{first}-" not in line]
    table.write_text("\n".join([header, lines[0], *kept]))
    with pytest.raises(ValueError, match=f"speaker '{first}' has one utterance in train-clean-100.csv"):
        our_expert("speaker", synthetic | {"train_batch_size": 1, "eval_batch_size": 1}, s3prl_compatible=True)
