"""Our upstreams and tasks in s3prl: added, never in the place of something of s3prl's, and still our own modules."""

import importlib
import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from s3prl_attention import downstream, upstream
from s3prl_attention.upstream import s3prl_hub as ours
from s3prl_attention.upstream.plugins import TASKS, UPSTREAMS
from s3prl_attention.upstream.s3prl_hub import entries, register, upstream_in_s3prl

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = {"hidden_dim": 32, "num_layers": 2, "max_frames": 50, "dropout": 0.0}


@pytest.fixture
def restored(s3prl_hub):
    """What a test registers ends with it."""
    yield
    register()


@pytest.fixture
def bare(restored, s3prl_hub, monkeypatch):
    """A copy of ``s3prl.hub`` as s3prl made it, which ``register`` takes for it."""
    copy = ModuleType("hub")
    vars(copy).update({name: value for name, value in vars(s3prl_hub).items() if not isinstance(value, ours._Entry)})
    monkeypatch.setattr(ours, "import_hub", lambda: copy)
    return copy


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(5)
    upstream.load("fixed_init", **SIZES).save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def waves(*samples):
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(count, generator=generator) for count in samples]


# --- names


def test_every_upstream_is_added_and_nothing_is_replaced(bare):
    before = dict(vars(bare))
    registered = register()
    after = vars(bare)
    assert all(after[name] is value for name, value in before.items())
    assert set(after) - set(before) == {f"{name}{end}" for name in upstream.names() for end in ("", "_local")}
    assert registered.upstreams == {name: name for name in upstream.names()}


def test_every_task_is_added_under_a_name_that_s3prl_does_not_have(s3prl_hub):
    tasks = register().tasks
    assert list(tasks) == downstream.names()
    assert tasks["speaker"] == "speaker"
    taken = {name for name, called in tasks.items() if called == f"attention_{name}"}
    assert taken == {"phone_linear", "phone_1hidden"}
    for name in taken:
        spec = importlib.util.find_spec(f"s3prl.downstream.{name}.expert")
        assert Path(spec.origin).parts[-4:] == ("s3prl", "downstream", name, "expert.py")


def test_registering_twice_changes_nothing(bare):
    first = register()
    before, finders = dict(vars(bare)), list(sys.meta_path)
    assert register() == first
    assert all(vars(bare)[name] is value for name, value in before.items())
    assert len(vars(bare)) == len(before)
    assert sys.meta_path == finders


def test_registering_imports_none_of_them(bare):
    before = {name for name in sys.modules if name.startswith("s3prl_attention.")}
    register()
    assert {name for name in sys.modules if name.startswith("s3prl_attention.")} == before


def test_s3prls_names_are_known(s3prl_hub):
    assert {"fixed_init", "fixed_init_local", "fbank"} <= set(s3prl_hub.options())
    assert "fixed_init" in s3prl_hub.options(only_registered_ckpt=True)
    assert "fixed_init_local" not in s3prl_hub.options(only_registered_ckpt=True)


@pytest.mark.parametrize("taken", ["thing", "thing_local"])
def test_a_name_that_s3prl_has_gets_a_prefix(taken, bare, monkeypatch):
    setattr(bare, taken, taken)
    monkeypatch.setitem(UPSTREAMS.packages, "thing", "s3prl_attention.upstream.no_attention")
    assert register().upstreams["thing"] == "attention_thing"
    assert getattr(bare, taken) == taken
    assert bare.attention_thing(**SIZES).options.hidden_dim == 32
    with pytest.raises(ValueError, match=r"^attention_thing_local needs ckpt \(-k\): .* or use attention_thing$"):
        bare.attention_thing_local()
    bare.attention_thing_local = taken
    with pytest.raises(ValueError, match="s3prl has both 'thing' and 'attention_thing': give ours another name"):
        register()


def test_a_task_never_hides_a_module_of_s3prl(bare, monkeypatch):
    monkeypatch.setitem(TASKS.packages, "runner", "s3prl_attention.downstream.speaker")
    assert register().tasks["runner"] == "attention_runner"
    assert importlib.util.find_spec("s3prl.downstream.runner").origin.endswith("runner.py")


def test_names_are_understood_as_in_our_commands(s3prl_hub, bare, monkeypatch):
    monkeypatch.setitem(UPSTREAMS.packages, "fbank", "s3prl_attention.upstream.no_attention")
    monkeypatch.setattr(bare, "options", lambda: [name for name, value in vars(bare).items() if callable(value)])
    registered = register()
    assert upstream_in_s3prl("fixed_init", registered) == "fixed_init"
    assert upstream_in_s3prl("fixed_init_local", registered) == "fixed_init_local"
    assert upstream_in_s3prl("mfcc", registered) == "mfcc"
    assert upstream_in_s3prl("fbank", registered) == "attention_fbank"
    assert upstream_in_s3prl("s3prl:fbank", registered) == "fbank"
    with pytest.raises(ValueError, match=r"^unknown upstream 's3prl:fixed_init': .*known: .*, and all of s3prl's hub$"):
        upstream_in_s3prl("s3prl:fixed_init", registered)
    with pytest.raises(ValueError, match=r"^unknown upstream 'mfc': did you mean 'mfcc'"):
        upstream_in_s3prl("mfc", registered)


# --- upstreams


def test_s3prls_wrapper_and_featurizer_take_our_upstreams(s3prl_hub):
    from s3prl.nn import Featurizer, S3PRLUpstream

    wrapped = S3PRLUpstream("fixed_init", extra_conf=SIZES).eval()
    assert (wrapped.num_layers, wrapped.hidden_sizes, wrapped.downsample_rates) == (3, [32] * 3, [160] * 3)
    with torch.no_grad():
        states, lengths = wrapped(torch.stack(waves(32_000, 32_000)), torch.tensor([32_000, 16_001]))
        features, frames = Featurizer(wrapped)(states, lengths)
    assert tuple(features.shape) == (2, 200, 32)
    assert frames.tolist() == [200, 101]


@pytest.mark.parametrize("name", ["fixed_init", "fixed_init_local"])
def test_a_checkpoint_is_loaded_and_long_utterances_are_encoded_in_windows(name, s3prl_hub, checkpoint):
    from s3prl.nn import S3PRLUpstream

    wrapped = S3PRLUpstream(name, path_or_url=str(checkpoint)).eval()
    expert = upstream.load("fixed_init", checkpoint, long_input="windows").eval()
    wave = waves(48_000)  # 100 stacked frames, twice max_frames
    with torch.no_grad():
        states, _ = wrapped(torch.stack(wave), torch.tensor([48_000]))
        assert all(map(torch.equal, states, expert(wave)["hidden_states"]))


def test_what_a_call_lacks_is_told_in_one_line(s3prl_hub, tmp_path):
    with pytest.raises(
        ValueError, match=r"^fixed_init_local needs ckpt \(-k\): name a checkpoint folder, or use fixed_init$"
    ):
        s3prl_hub.fixed_init_local()
    with pytest.raises(ValueError, match=r"nowhere is no checkpoint: .* missing; name a folder that has both"):
        s3prl_hub.fixed_init_local(ckpt=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^upstream 'fixed_init': no option 'hiden_dim' \(did you mean 'hidden_dim'"):
        s3prl_hub.fixed_init(hiden_dim=3)
    with pytest.raises(TypeError, match="positional argument"):
        s3prl_hub.fixed_init(None, None, "more")  # never dropped without a word


def test_options_come_from_a_file_as_by_minus_g(s3prl_hub, tmp_path):
    (tmp_path / "options.yaml").write_text("hidden_dim: 48\nnum_layers: 1\n")
    for expert in (
        s3prl_hub.fixed_init(ckpt=None, model_config=str(tmp_path / "options.yaml"), refresh=False),
        s3prl_hub.fixed_init(None, tmp_path / "options.yaml"),
    ):
        assert (expert.options.hidden_dim, expert.options.num_layers) == (48, 1)


def test_torch_hub_finds_every_upstream_in_the_clone():
    clone = str(REPOSITORY / "upstream")
    expert = torch.hub.load(clone, "fixed_init", source="local", **SIZES)
    assert (expert.name, expert.options.hidden_dim, expert.long_input) == ("fixed_init", 32, "windows")
    offered = runpy.run_path(f"{clone}/hubconf.py")
    listed = {name for name, value in offered.items() if callable(value) and not name.startswith("_")}  # PyTorch's rule
    assert listed == {made for name in upstream.names() for made in entries(name)}
    assert "random weights" in offered["fixed_init"].__doc__


# --- tasks


@pytest.mark.parametrize("name", downstream.names())
def test_a_task_under_s3prls_name_is_our_module(name, s3prl_hub):
    called = register().tasks[name]
    theirs = importlib.import_module(f"s3prl.downstream.{called}.expert")
    expert = importlib.import_module(f"s3prl_attention.downstream.{name}.expert")
    assert theirs is expert
    assert expert.__spec__.name == expert.__name__ == f"s3prl_attention.downstream.{name}.expert"
    package = sys.modules[f"s3prl_attention.downstream.{name}"]
    assert sys.modules[f"s3prl.downstream.{called}"] is package
    assert package.__spec__.name == package.__name__


def test_what_is_not_ours_is_left_to_s3prl(s3prl_hub):
    register()
    with pytest.raises(ModuleNotFoundError, match=r"s3prl\.downstream\.no_such_task"):
        importlib.import_module("s3prl.downstream.no_such_task.expert")
    with pytest.raises(ModuleNotFoundError, match=r"downstream\.speaker\.no_such_part"):
        importlib.import_module("s3prl.downstream.speaker.no_such_part")


# --- plug-ins that are broken


def test_a_broken_plug_in_breaks_only_itself(bare, monkeypatch, tmp_path):
    (tmp_path / "shattered").mkdir()
    (tmp_path / "shattered" / "__init__.py").write_text("raise RuntimeError('planted')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(UPSTREAMS.packages, "broken", "shattered")
    monkeypatch.setitem(TASKS.packages, "broken_task", "shattered")
    registered = register()
    assert registered.upstreams["broken"] == "broken"
    with pytest.raises(ValueError, match=r"the upstream 'broken' cannot be imported .*RuntimeError: planted"):
        bare.broken(ckpt=None)
    assert bare.fixed_init(**SIZES).name == "fixed_init"
    with pytest.raises(RuntimeError, match="planted"):
        importlib.import_module(f"s3prl.downstream.{registered.tasks['broken_task']}.expert")
    assert importlib.import_module("s3prl.downstream.speaker.expert").INFO.kind == "speaker"
