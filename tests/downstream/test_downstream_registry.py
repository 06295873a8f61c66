"""The tasks as a list: names, facts, configuration, pages; and what importing them costs."""

import subprocess
import sys
from dataclasses import asdict

import pytest
from s3prl_attention import downstream
from s3prl_attention.downstream.dataset import DataConfig
from s3prl_attention.downstream.task import KINDS, TaskInfo

PHONE = [
    *("phone_1hidden", "phone_2hidden", "phone_concat", "phone_linear"),
    *("phone_recognition", "phone_recognition_1hidden"),
]


def test_all_tasks_are_found():
    others = {"speaker", "speaker_frame", "utterance_label", "utterance_label_1hidden"}
    assert {*PHONE, *others} <= set(downstream.names())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["phone"], PHONE),
        (["speaker"], ["speaker"]),
        (["speakers"], ["speaker", "speaker_frame"]),
        (["labels"], ["utterance_label", "utterance_label_1hidden"]),
        (["*_1hidden"], ["phone_1hidden", "phone_recognition_1hidden", "utterance_label_1hidden"]),
        (["phone_linear", "speaker", "phone_l*", "speakers"], ["phone_linear", "speaker", "speaker_frame"]),
        ([], []),
    ],
)
def test_words_stand_for_tasks_groups_and_patterns_in_their_order(words: list[str], expected: list[str]):
    assert downstream.expand(words) == expected


def test_every_kind_is_a_group_and_every_task_in_one():
    assert set(downstream.GROUPS.values()) == set(KINDS)
    assert sorted(downstream.expand(list(downstream.GROUPS))) == downstream.names()


def test_a_word_that_means_nothing_is_answered_with_near_tasks_and_groups():
    with pytest.raises(ValueError, match=r"unknown downstream 'phones': did you mean .*'phone'.*known: labels, phone,"):
        downstream.expand(["phone_linear", "phones"])
    with pytest.raises(ValueError, match=r"no downstream is meant by 'phome_\*'"):
        downstream.expand(["phome_*"])


def test_a_task_that_cannot_be_imported_is_told_and_does_not_break_its_group(monkeypatch, caplog):
    monkeypatch.setitem(downstream.TASKS.packages, "broken", "s3prl_attention.no_such_package")
    assert downstream.expand(["speakers"]) == ["speaker", "speaker_frame"]
    assert "the downstream 'broken' cannot be imported" in caplog.text
    assert downstream.expand(["broken"]) == ["broken"], "a name is not imported"


@pytest.mark.parametrize("name", downstream.names())
def test_a_task_has_facts_an_expert_folds_a_yaml_and_a_page(name: str):
    module = downstream.load(name)
    assert isinstance(module.INFO, TaskInfo)
    section = downstream.config(name)
    assert {"runner", "optimizer", "downstream_expert"} <= set(section)
    defaults = asdict(DataConfig()) | {"subsets": []}
    assert section["downstream_expert"]["datarc"] == defaults, "the yaml repeats the defaults, it has none of its own"
    page = (downstream.config_path(name).parent / "README.md").read_text(encoding="utf-8")
    assert "Works " in page, "on which corpora, and why not on others"
    positions = [page.index(f"**{word}**") for word in ("Metric", "Split", "Head", "Source")]
    assert positions == sorted(positions)


def test_an_unknown_task_is_answered_with_near_names():
    with pytest.raises(ValueError, match="unknown downstream 'phone_linaer': did you mean 'phone_linear'"):
        downstream.load("phone_linaer")


def test_importing_the_tasks_stays_light():
    code = (
        "import sys; from s3prl_attention import downstream; downstream.names();"
        "downstream.expand(['speaker', 'phone_*']); assert 'torch' not in sys.modules;"
        "downstream.load('speaker'); downstream.load('phone_linear'); import s3prl_attention.downstream.probe;"
        "bad = {'s3prl.hub', 'matplotlib', 'sklearn'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
