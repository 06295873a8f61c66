"""The plan: which cells, in which order, and what a change of the sources means for them."""

from dataclasses import replace

import pytest
from grid_fixtures import TASKS, UPSTREAMS
from s3prl_attention import downstream
from s3prl_attention.benchmark import plan as plan_module
from s3prl_attention.benchmark import sources
from s3prl_attention.benchmark.names import MEL
from s3prl_attention.benchmark.plan import Request, cells, make_plan, seed_pairs
from s3prl_attention.benchmark.prepare import lineage
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.benchmark.steps import Step, steps_of
from s3prl_attention.downstream.task import NotApplicable
from s3prl_attention.upstream.plugins import HOME


def test_every_seed_is_told_apart_and_a_repeated_one_counts_once():
    assert seed_pairs([3, 1, 2], pretrained=True) == [(3, 3), (1, 3), (2, 3), (3, 1), (3, 2)]
    assert seed_pairs([3, 1, 2], pretrained=False) == [(3, 3), (3, 1), (3, 2)]
    assert seed_pairs([4, 4], pretrained=True) == [(4, 4)]


def test_a_seed_is_whole_before_the_next_one_begins():
    studies = [load_study(name, "smoke") for name in (*UPSTREAMS, MEL)]
    order = [(c.study.upstream, c.task, c.seed, c.probe_seed) for c in cells(studies, TASKS, [0, 5])]
    first = [(name, task, 0, 0) for name in (*UPSTREAMS, MEL) for task in TASKS]
    later = [(name, task, *pair) for name in UPSTREAMS for pair in ((5, 0), (0, 5)) for task in TASKS]
    assert order == [*first, *later, *[(MEL, task, 0, 5) for task in TASKS]]


def test_a_task_that_the_corpus_cannot_serve_is_refused_with_its_reason(synthetic_tiny, tmp_path, monkeypatch):
    def no_folds(corpus, subsets=()):
        raise NotApplicable("planted: no phones here")

    monkeypatch.setattr(downstream.load("phone_linear"), "folds", no_folds)
    plan = make_plan(Request("smoke", tmp_path / "out", UPSTREAMS, TASKS))
    assert plan.refused == {"phone_linear": "planted: no phones here"}
    assert not (tmp_path / "out").exists()


def test_steps_are_shared_and_those_that_are_done_are_left_out(synthetic_tiny, tmp_path):
    plan = make_plan(Request("smoke", tmp_path, ("mean_map",), TASKS, (0, 1)))
    of = {(c.study.upstream, c.task, c.seed, c.probe_seed): steps_of(plan, [c])[plan.path(c)] for c in plan.cells}
    kinds = [
        (step.kind, step.upstream, step.seed) for step in of["mean_map", "speaker", 1, 0] if step.kind != "log-Mel"
    ]
    assert kinds == [
        *[("timing", name, None) for name in (MEL, "self_attention", "mean_map")],
        ("pre-training", "self_attention", 1),
        ("mean maps", "self_attention", 1),
        ("pre-training", "mean_map", 1),
        ("extraction", "mean_map", 1),
        ("probe", "mean_map", 1),
    ]
    shared = set(of["mean_map", "speaker", 0, 0]) & set(of["mean_map", "phone_linear", 0, 1])
    assert Step("pre-training", "mean_map", 0) in shared
    assert not any(step.kind == "probe" for step in shared)
    assert not any(step.kind in ("pre-training", "mean maps") for step in of[MEL, "speaker", 0, 1])
    cell = next(c for c in plan.cells if c.study.upstream == "mean_map" and c.seed == 0)
    run = f"mean_map--seed0--{lineage(cell.study, plan.speech, 0)}"
    (tmp_path / "pretrain" / plan.speech.pretraining.name / run / "checkpoint").mkdir(parents=True)
    assert not any(step.kind in ("pre-training", "mean maps") for step in steps_of(plan, [cell])[plan.path(cell)])


def test_what_slurm_computes_on_is_not_asked_of_the_machine_that_submits(synthetic_tiny, tmp_path, monkeypatch):
    def no_gpu(device):
        raise ValueError(f"planted: no {device} here")

    monkeypatch.setattr(plan_module, "check_device", no_gpu)
    request = Request("smoke", tmp_path, ("fixed_init",), ("speaker",), device="cuda", executor="slurm")
    assert make_plan(request).cells
    with pytest.raises(ValueError, match="no cuda here"):
        make_plan(replace(request, executor="local"))


S3PRL = "downstream.s3prl_"


def test_a_cell_hangs_on_what_its_code_imports_and_on_nothing_else(monkeypatch):
    read = {}
    monkeypatch.setattr(sources, "_digest", lambda modules, *others: read.setdefault(len(read), set(modules)) and "0")
    sources.task_hash.__wrapped__("speaker")
    sources.source_hash.__wrapped__("fixed_init")
    sources.source_hash.__wrapped__(MEL)
    task, upstream, mel = ({name.removeprefix(f"{HOME}.") for name in modules} for modules in read.values())
    assert {"downstream.speaker.expert", "downstream.probe", "downstream.utterance_classifier"} <= task
    assert "upstream.kernels.onednn" in task
    assert not {name for name in task if name.startswith(("benchmark", "downstream.phone", "downstream.ctc", S3PRL))}
    own = {"upstream.fixed_init.attention", "upstream.encoder", "upstream.kernels.input_independent"}
    assert own | {"recipes.pretrain", "recipes.objective"} <= upstream
    unwanted = (
        "benchmark",
        "upstream.checks",
        "upstream.fixed_init.reference",
        "upstream.self",
        "upstream.kernels.lsh",
    )
    assert not {name for name in upstream if name.startswith(unwanted)}
    assert "upstream.features" in mel
    assert "upstream.encoder" not in mel


def test_imports_are_followed_wherever_they_stand(tmp_path, monkeypatch):
    package = tmp_path / "followed"
    (package / "deep").mkdir(parents=True)
    files = {
        "__init__": "",
        "a": "from . import b\nimport os\nfrom .deep.d import NAME\n",
        "b": "def late():\n    from .c import VALUE\n",
        "c": "import followed.e\n",
        "deep/__init__": "from .. import a\n",
        "deep/d": "NAME = 1\n",
        "e": "",
        "unused": "",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = sources.imported(["followed.a"], ("followed",))
    assert found == {f"followed{name}" for name in ("", ".a", ".b", ".c", ".deep.d", ".e")}
    assert sources.imported(["followed.a"], ("followed.deep",)) == set()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('"""Says what."""\n\n\ndef f(x):\n    """Says how."""\n    return x  # why\n', True),
        ("def f(x):\n    # a line\n\n    return x\n", True),
        ('def f(x):\n    """Says how."""  # and why\n    return x\n', True),
        ("def f(x):\n    return -x\n", False),
        ('def f(x):\n    return "x"\n', False),
    ],
)
def test_explaining_code_does_not_change_it(text, same, tmp_path):
    (tmp_path / "bare.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "told.py").write_text(text)
    assert (sources.code(tmp_path / "told.py") == sources.code(tmp_path / "bare.py")) == same


def test_text_in_the_code_is_code_on_every_python(tmp_path):
    text = 'NAME = f"{a  or b} {{c}} # no comment"\nprint("x"  # why\n)\n'
    (tmp_path / "text.py").write_text(text)
    assert sources.code(tmp_path / "text.py") == 'NAME = f"{a  or b} {{c}} # no comment"\nprint("x"\n)'


def test_where_a_line_belongs_is_part_of_the_code(tmp_path):
    for name, text in {"in": "if a:\n    b\n    c\n", "out": "if a:\n    b\nc\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert sources.code(tmp_path / "in.py") != sources.code(tmp_path / "out.py")


@pytest.mark.parametrize("words", [(), ("speaker", "speaker"), ("phone", "phone_linear")])
def test_tasks_come_once_and_groups_are_opened(words, synthetic_tiny, tmp_path):
    plan = make_plan(Request("smoke", tmp_path, ("fixed_init",), words))
    assert list(plan.tasks) == (downstream.expand(words) if words else downstream.names())
    assert len(set(plan.tasks)) == len(plan.tasks)
