"""The tasks as a list: names, facts, configuration, pages; and what importing them costs."""

import subprocess
import sys
from dataclasses import asdict

import pytest
from s3prl_attention import downstream
from s3prl_attention.downstream.dataset import DataConfig
from s3prl_attention.downstream.task import TaskInfo


def test_both_tasks_are_found():
    assert {"phone_linear", "speaker"} <= set(downstream.names())


@pytest.mark.parametrize("name", downstream.names())
def test_a_task_has_facts_an_expert_folds_a_yaml_and_a_page(name: str):
    module = downstream.load(name)
    assert isinstance(module.INFO, TaskInfo)
    section = downstream.config(name)
    assert {"runner", "optimizer", "downstream_expert"} <= set(section)
    defaults = asdict(DataConfig()) | {"subsets": []}
    assert section["downstream_expert"]["datarc"] == defaults, "the yaml repeats the defaults, it has none of its own"
    page = (downstream.config_path(name).parent / "README.md").read_text(encoding="utf-8")
    positions = [page.index(f"**{word}**") for word in ("Metric", "Split", "Head", "Source")]
    assert positions == sorted(positions)


def test_an_unknown_task_is_answered_with_near_names():
    with pytest.raises(ValueError, match="unknown downstream 'phone_linaer': did you mean 'phone_linear'"):
        downstream.load("phone_linaer")


def test_importing_the_tasks_stays_light():
    code = (
        "import sys; from s3prl_attention import downstream; downstream.names(); assert 'torch' not in sys.modules;"
        "downstream.load('speaker'); downstream.load('phone_linear'); import s3prl_attention.downstream.probe;"
        "bad = {'s3prl.hub', 'matplotlib', 'sklearn'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
