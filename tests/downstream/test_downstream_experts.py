"""The tasks as s3prl's runner calls them."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_fixtures import PHONES, FakeUpstream, tones, utterances
from s3prl.upstream.interfaces import Featurizer
from s3prl_attention import downstream
from s3prl_attention.downstream.dataset import DataConfig, TaskData, WaveDataset
from s3prl_attention.downstream.outcomes import Outcome
from s3prl_attention.recipes.corpora import Corpus, read_audio
from task_fixtures import batch, build, labelled, small
from torch import Tensor
from torch.nn import functional

TASKS = downstream.names()
POINTWISE = ("phone_linear", "phone_1hidden", "phone_2hidden", "speaker_frame")
HERTZ = {"low": 500.0, "mid": 1500.0, "high": 2500.0}


@pytest.fixture
def made() -> Corpus:
    return small()


@pytest.mark.parametrize("rate", [160, 320, 480])
@pytest.mark.parametrize("task", POINTWISE)
def test_frame_loss_is_the_cross_entropy_of_the_frame_under_each_label(made: Corpus, rate: int, task: str):
    expert = build(task, made, rate=rate)
    features, labels, ids = batch(expert, rate, 4)
    records: dict = defaultdict(list)
    loss = expert("train", features, labels, ids, records=records)
    head = expert.model.head.layers
    logits = [
        torch.stack([head(x[min(int((i + 0.5) * 160 / rate), len(x) - 1)]) for i in range(len(y))])
        for x, y in zip(features, labels, strict=True)
    ]
    torch.testing.assert_close(loss, functional.cross_entropy(torch.cat(logits), torch.cat(labels)))
    correct = [int((part.argmax(-1) == y).sum()) for part, y in zip(logits, labels, strict=True)]
    speakers = {u.id: u.speaker for u in made.utterances}
    expected = [Outcome(id, speakers[id], good, len(y)) for id, good, y in zip(ids, correct, labels, strict=True)]
    assert records["outcomes"] == expected


@pytest.mark.parametrize("task", TASKS)
def test_loss_gradients_and_outcomes_do_not_depend_on_batch_mates(made: Corpus, task: str):
    expert = build(task, made, rate=160)
    features, labels, ids = batch(expert, 160, 5)
    assert len({len(x) for x in features}) > 1, "or nothing would be padded"
    weights = [len(y) / sum(map(len, labels)) for y in labels]

    def run(rows: list[int]) -> tuple[list[Tensor], list[Outcome]]:
        records: dict = defaultdict(list)
        given = [features[i] for i in rows], [labels[i] for i in rows], [ids[i] for i in rows]
        loss = expert("train", *given, records=records)
        return [loss.detach(), *torch.autograd.grad(loss, list(expert.parameters()))], records["outcomes"]

    alone = [run([row]) for row in range(5)]
    together, outcomes = run([0, 1, 2, 3, 4])
    for whole, *parts in zip(together, *(values for values, _ in alone), strict=True):
        expected = torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(0)
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    assert outcomes == [outcome for _, found in alone for outcome in found]


def test_speaker_takes_frames_or_their_mean(made: Corpus):
    expert = build("speaker", made)
    features, labels, ids = batch(expert, 160, 6)
    pooled = [x.mean(0, keepdim=True) for x in features]
    frames: dict = defaultdict(list)
    means: dict = defaultdict(list)
    a = expert("train", features, labels, ids, records=frames)
    b = expert("train", pooled, labels, ids, records=means)
    torch.testing.assert_close(a, b)
    assert frames == means
    assert [outcome.total for outcome in frames["outcomes"]] == [1] * 6


def test_gradients_reach_head_and_features(made: Corpus):
    for task in TASKS:
        expert = build(task, made)
        for parameter in expert.parameters():  # the last layer of a recogniser starts at zero
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        features, labels, ids = batch(expert, 160, 2)
        features = [x.requires_grad_() for x in features]
        expert("train", features, labels, ids, records=None).backward()
        assert all(bool((p.grad != 0).any()) for p in expert.parameters()), task
        assert all(x.grad is not None and bool((x.grad != 0).any()) for x in features), task


@pytest.mark.parametrize("task", [*POINTWISE, "phone_concat"])
def test_features_that_do_not_fit_the_labels_name_the_utterance(made: Corpus, task: str):
    expert = build(task, made, rate=480)
    features, labels, ids = batch(expert, 160, 1)  # three times too many
    with pytest.raises(ValueError, match=f"utterance '{ids[0]}': .*check upstream_rate"):
        expert("train", features, labels, ids, records=None)


def test_an_unknown_speaker_or_label_is_refused(made: Corpus):
    stranger = replace(utterances("test", ["e"])[0], labels={"label": "z"})
    for task in ("speaker", "speaker_frame"):
        with pytest.raises(ValueError, match="speaker 'e' of e-9-0000 is not in train"):
            build(task, made).label(stranger)
    with pytest.raises(ValueError, match="label 'z' of e-9-0000 is not in train"):
        build("utterance_label", made).label(stranger)


class Scalars:
    """TensorBoard's writer, as far as it is called."""

    def __init__(self) -> None:
        self.values: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, global_step: int) -> None:
        self.values.append((name, value, global_step))


@pytest.mark.parametrize("task", TASKS)
def test_the_call_sequence_of_s3prls_runner(task: str, tmp_path: Path):
    """Build, loop over the train loader, evaluate dev and test, log, as ``s3prl.downstream.runner`` does."""
    made = labelled(tones(tmp_path, HERTZ))
    upstream = FakeUpstream(1).eval()
    featurizer = Featurizer(upstream, "hidden_states", upstream_device="cpu")
    expdir = tmp_path / "exp"
    expdir.mkdir()
    runner_config = downstream.config(task)
    runner_config["downstream_expert"]["datarc"] |= {"train_batch_size": 2, "eval_batch_size": 3}
    expert = downstream.load(task).DownstreamExpert(
        upstream_dim=featurizer.output_dim,
        upstream_rate=featurizer.downsample_rate,
        **runner_config,
        expdir=str(expdir),
        device="cpu",
        upstream="fake",
        mode="train",
        corpus=made,
    )
    logger = Scalars()
    optimizer = torch.optim.Adam([*featurizer.parameters(), *expert.parameters()], lr=0.1)
    saved = []
    for epoch in range(3):
        records: dict = defaultdict(list)
        loader = expert.get_dataloader("train", epoch=epoch)
        for waves, *others in loader:
            waves = [torch.FloatTensor(wave).to("cpu") for wave in waves]
            with torch.no_grad():
                features = upstream(waves)
            features = featurizer(waves, features)
            loss = expert("train", features, *others, records=records)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        names = expert.log_records(
            "train", records=records, logger=logger, global_step=epoch, batch_ids=[0], total_batch_num=len(loader)
        )
        assert names == [], "train chooses no checkpoint"
        for split in ("dev", "test"):
            records = defaultdict(list)
            with torch.no_grad():
                for number, (waves, *others) in enumerate(expert.get_dataloader(split)):
                    waves = [torch.FloatTensor(wave) for wave in waves]
                    expert(split, featurizer(waves, upstream(waves)), *others, records=records, batch_id=number)
            assert [o.utterance for o in records["outcomes"]] == [u.id for u in expert.data.fold.utterances(split)]
            names = expert.log_records(
                split, records=records, logger=logger, global_step=epoch, batch_ids=[0], total_batch_num=1
            )
            saved.append((split, names))
    assert saved[0] == ("dev", ["best-states-dev.ckpt"])
    assert all(names == [] for split, names in saved if split == "test"), "test must never choose a checkpoint"
    short = "acc" if downstream.load(task).INFO.higher_is_better else "err"
    assert {name for name, _, _ in logger.values} == {f"{task}/{split}-{short}" for split in ("train", "dev", "test")}
    lines = (expdir / "log.log").read_text().splitlines()
    assert len(lines) == 9
    assert lines[1].startswith(f"best|{task}/dev|step:0|{short}:")


def test_the_best_dev_score_survives_a_resume(made: Corpus):
    expert, resumed = build("speaker", made), build("speaker", made)
    features, labels, ids = batch(expert, 160, 6)
    records: dict = defaultdict(list)
    expert("dev", features, labels, ids, records=records)
    assert expert.log_records("dev", records, None, 1) == ["best-states-dev.ckpt"]
    assert expert.log_records("dev", records, None, 2) == [], "as good is not better"
    resumed.load_state_dict(expert.state_dict())
    assert resumed.log_records("dev", records, None, 3) == []


def test_loading_is_shuffled_by_epoch_repeatably_and_leaves_the_random_state_alone(tmp_path: Path):
    made = tones(tmp_path, HERTZ, each=6)
    expert = build("speaker", made, train_batch_size=3)
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    order = [[id for _, _, ids in expert.get_dataloader("train", epoch=epoch) for id in ids] for epoch in (0, 0, 1)]
    list(expert.get_dataloader("dev"))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert order[0] == order[1] != order[2]
    assert sorted(order[0]) == sorted(order[2]) == sorted(u.id for u in expert.data.fold.train)


def test_the_task_loads_the_corpus_that_its_yaml_names(synthetic_tiny: Corpus):
    section = {"datarc": {"corpus": "synthetic", "size": "tiny"}}
    expert = downstream.load("phone_linear").DownstreamExpert(4, 160, section, None)
    assert expert.data.corpus.fingerprint == synthetic_tiny.fingerprint
    assert expert.model.head.layers.out_features == len(synthetic_tiny.phone_set) == 40
    waves, labels, ids = next(iter(expert.get_dataloader("dev")))
    assert len(waves) == len(labels) == len(ids) == 8
    for wave, label in zip(waves, labels, strict=True):
        assert wave.dim() == 1
        assert len(label) == -(-len(wave) // 160)


def test_mistakes_in_the_yaml_are_told_at_once(made: Corpus):
    folds = downstream.load("speaker").folds
    with pytest.raises(ValueError, match=r"no option 'copus' .did you mean 'corpus'.*no option 'train_batch'"):
        DataConfig.read({"copus": "x", "train_batch": 4})
    with pytest.raises(ValueError, match=r"datarc\.fold is 5, but there are folds 0 to 4 only"):
        TaskData(DataConfig(fold=5), folds, made)
    assert DataConfig.read({"subsets": ["a"]}).subsets == ("a",)


def test_a_part_of_a_file_is_heard_alone(tmp_path: Path):
    whole = tones(tmp_path, HERTZ).utterances[0]
    part = replace(whole, start_sample=800, num_samples=1600, whole=False)
    heard, _, _ = WaveDataset([part], lambda _: torch.zeros(1))[0]
    assert torch.equal(heard, read_audio(whole.path)[800:2400])


def test_the_head_has_one_output_a_class(made: Corpus):
    assert build("phone_linear", made).model.head.layers.out_features == len(PHONES)
    assert build("phone_concat", made).model.head.linear.out_features == len(PHONES)
    assert build("phone_recognition", made).model.head.out_features == len(PHONES), "a blank in place of silence"
    assert build("speaker", made).model.head.out_features == 4
    assert build("utterance_label", made).model.head.out_features == 2


def test_frames_of_a_speaker_are_counted_at_10_ms_whatever_the_frame_rate(made: Corpus):
    expert = build("speaker_frame", made, rate=480)
    spoken = expert.data.fold.train[0]
    assert expert.label(spoken).tolist() == [expert.targets.classes.index(spoken.speaker)] * spoken.num_frames
