"""Pre-training in several processes: the loss is that of one; a dead one ends the run; another number resumes it."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from recipes_fixtures import small_corpus, small_recipe, with_maps
from s3prl_attention.recipes import pretrain as module
from s3prl_attention.recipes.batches import Speech, log_mel_store, step_seed
from s3prl_attention.recipes.lineage import lineage
from s3prl_attention.recipes.pretrain import num_shares, pretrain, read_log
from s3prl_attention.recipes.processes import Processes, joined
from s3prl_attention.upstream import names
from s3prl_attention.upstream.checkpoint import load_checkpoint
from s3prl_attention.upstream.features import LogMel
from torch import distributed

HERE = Path(__file__).parent
STEPS = ("pretrain.steps=50", "pretrain.precision=float64", "pretrain.save_every=20", "pretrain.valid_every=25")
RUN = """
import os, signal, sys
from pathlib import Path
import torch
from recipes_fixtures import small_recipe
from s3prl_attention.recipes import pretrain as module
from s3prl_attention.recipes.corpora import load_corpus
from s3prl_attention.recipes.processes import joined

root, folder, dies_at, *overrides = sys.argv[1:]
torch.set_num_threads(1)
backward, taken = module._backward, []
def backward_or_die(*args):
    taken.append(1)
    if len(taken) == int(dies_at) and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return backward(*args)
module._backward = backward_or_die
with joined("cpu") as processes:
    module.pretrain(small_recipe(*overrides), load_corpus("librispeech", Path(root)), Path(folder), processes=processes)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """50 steps of one process."""
    return pretrain(small_recipe("fixed_init", *STEPS), corpus, tmp_path_factory.mktemp("alone"))


def torchrun(num, corpus, folder, dies_at=0):
    """The exit code and what was said on the error stream."""
    script = folder.parent / "run.py"
    script.write_text(RUN)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num), str(script)]
    done = subprocess.run(
        [*words, str(corpus.root), str(folder), str(dies_at), "fixed_init", *STEPS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=110,  # a run that hangs when a process has died would not end at all
        check=False,
    )
    return done.returncode, done.stderr


def losses(log):
    return [(line["loss"], line["gradient_norm"], line.get("valid_loss", 0.0)) for line in read_log(log)]


def assert_same_losses(one, two, tolerance=1e-9):
    first, second = losses(one), losses(two)
    assert len(first) == len(second)
    for line, other in zip(first, second, strict=True):
        assert line == pytest.approx(other, rel=tolerance)


def test_two_processes_have_the_losses_of_one_and_three_go_on_where_one_of_two_died(corpus, alone, tmp_path):
    code, said = torchrun(2, corpus, tmp_path / "two")
    assert code == 0, said
    assert_same_losses(tmp_path / "two" / "log.jsonl", alone.log)

    code, said = torchrun(2, corpus, tmp_path / "died", dies_at=30)
    assert code != 0
    assert "SIGKILL" in said
    assert [path.name for path in (tmp_path / "died").glob("step-*")] == ["step-00000020"]
    code, said = torchrun(3, corpus, tmp_path / "died")
    assert code == 0, said
    assert_same_losses(tmp_path / "died" / "log.jsonl", alone.log)
    (_, weights), (_, expected) = (
        load_checkpoint(folder) for folder in (tmp_path / "died/checkpoint", alone.checkpoint)
    )
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("parts", [2, 3])
def test_gradients_that_are_accumulated_are_those_of_the_whole_batch(corpus, alone, tmp_path, parts):
    done = pretrain(small_recipe("fixed_init", *STEPS, f"pretrain.accumulate={parts}"), corpus, tmp_path)
    assert_same_losses(done.log, alone.log)


def speech(corpus, **shares):
    store = log_mel_store(corpus, 80)
    return Speech(store, store.ids, LogMel(), 3, 40, small_recipe().pretrain, 0, **shares)


@pytest.mark.parametrize("num_shares", [1, 2, 3, 8])
def test_the_shares_of_a_batch_are_its_utterances_each_once_with_the_same_crops_and_masks(corpus, num_shares):
    whole, dealt = speech(corpus), speech(corpus, shares=range(num_shares), num_shares=num_shares)
    for step, ids in enumerate(islice(whole.plan(), 12)):
        expected = whole.batch(ids, step_seed(0, step))
        parts = [dealt.batch(ids, step_seed(0, step), share) for share in range(num_shares)]
        assert sum(part.weight for part in parts) == pytest.approx(1.0)
        for number, id in enumerate(ids):
            part, row = parts[number % num_shares], number // num_shares
            assert part.weight > 0, id
            for name in ("corrupted", "target", "chosen", "keep"):
                ours, theirs = getattr(part, name)[row], getattr(expected, name)[number]
                length = min(len(ours), len(theirs))
                assert torch.equal(ours[:length], theirs[:length])
                assert not theirs[length:].any()
        for part in parts[len(ids) :]:
            assert (len(part.keep), part.weight) == (1, 0.0), "a share without an utterance counts for nothing"


@pytest.mark.parametrize(
    ("overrides", "num", "message"),
    [
        ((), 7, r"batch_frames=120 shared by 7 process.* leaves a remainder: take a number .* or 119 frames"),
        (("pretrain.accumulate=5",), 1, r"accumulate=5 leaves 24 frames for each, .* crop of model.max_frames=40"),
        (("pretrain.accumulate=2",), 2, "leaves 30 frames for each"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_shared_is_refused(overrides, num, message):
    with pytest.raises(ValueError, match=message):
        num_shares(small_recipe("fixed_init", *overrides), num)


@pytest.fixture
def two_gpus(monkeypatch):
    """What became the current device, on a machine that seems to have two."""
    current = []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "made up")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_every_process_has_a_gpu_of_its_own_before_it_looks_at_one(two_gpus, monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "1")
    looked = []

    def look(device):
        looked.append((device, list(two_gpus)))
        raise ValueError("seen")

    monkeypatch.setattr(module, "check_device", look)
    with pytest.raises(SystemExit, match="error: seen"):
        module.main(["fixed_init", "--device", "cuda", "--out", str(tmp_path)])
    assert looked == [("cuda:1", [1])]


def test_more_processes_than_gpus_are_told_in_one_line(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"this machine has 2: give a smaller --nproc-per-node, or --device cpu$"):
        joined("cuda").__enter__()
    assert not two_gpus


@pytest.fixture(scope="module")
def group():
    """A group of one process, whose gradients still go through DistributedDataParallel."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_the_mean_is_taken_of_buffers_that_have_one(group):
    moved, counted = torch.tensor([2.0, 6.0]), torch.tensor([2, 6])
    Processes(torch.device("cpu"), 0, 2).average([moved, counted])  # the group has one process: its sum, halved
    assert moved.tolist() == [1.0, 3.0]
    assert counted.tolist() == [2, 6]


class Wrapped(Processes):
    """One process whose model is wrapped as if there were two."""

    def parallel(self, model):
        wrapped = Processes(self.device, 0, 2).parallel(model)
        assert isinstance(wrapped, torch.nn.parallel.DistributedDataParallel)
        return wrapped


@pytest.mark.parametrize("upstream", names())
def test_every_upstream_trains_in_parallel_and_under_mixed_precision(corpus, group, tmp_path, upstream):
    """DistributedDataParallel refuses a second step when a parameter was left without a gradient."""
    short = ("pretrain.steps=3", "pretrain.valid_every=3")
    found = {}
    for precision in ("float32", "bf16"):
        recipe = small_recipe(upstream, *short, f"pretrain.precision={precision}")
        recipe = with_maps(recipe, tmp_path / f"{precision}.safetensors")
        folder = tmp_path / precision
        done = pretrain(recipe, corpus, folder, processes=Wrapped(torch.device("cpu")))
        found[precision] = done.valid_loss
        assert all(
            t.dtype == torch.float32 for t in load_checkpoint(done.checkpoint)[1].values() if t.is_floating_point()
        )
    assert found["bf16"] == pytest.approx(found["float32"], rel=0.03)
    assert found["bf16"] != found["float32"]


def test_fp16_goes_on_over_an_overflow_and_resumes_with_its_scale(corpus, tmp_path):
    half = small_recipe("fixed_init", "pretrain.precision=fp16")
    done = pretrain(half, corpus, tmp_path / "whole")
    plain = pretrain(small_recipe(), corpus, tmp_path / "plain")
    assert done.valid_loss == pytest.approx(plain.valid_loss, rel=0.02)

    write = module.Log.write

    def stop(log, step, **values):
        line = write(log, step, **values)
        if step == 6:
            raise KeyboardInterrupt
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Log, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(half, corpus, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "step-00000004")[0]["scaler"]["scale"] > 0
    assert losses(pretrain(half, corpus, tmp_path / "run").log) == losses(done.log)


def test_an_overflow_of_fp16_is_no_end_and_leaves_the_weights_alone(corpus, tmp_path, monkeypatch):
    plain, called = module._loss, []

    def steep_once(model, batch):
        loss = plain(model, batch)
        called.append(1)
        if len(called) == 2:
            loss.register_hook(lambda grad: grad * float("inf"))
        return loss

    monkeypatch.setattr(module, "_loss", steep_once)
    done = pretrain(small_recipe("fixed_init", "pretrain.precision=fp16"), corpus, tmp_path)
    lines = read_log(done.log)
    assert "gradient_norm" not in lines[1]
    assert all("gradient_norm" in line for line in lines[:1] + lines[2:])


def test_what_changes_rounding_alone_does_not_make_another_run(corpus):
    made_of = [
        lineage(small_recipe("fixed_init", f"pretrain.{option}"), corpus, 0)
        for option in ("accumulate=1", "accumulate=2", "compile=true", "precision=float32", "precision=bf16")
    ]
    assert made_of[0] == made_of[1] == made_of[2] == made_of[3] != made_of[4]


def test_a_precision_that_nobody_has_is_told():
    with pytest.raises(ValueError, match=r"pretrain\.precision cannot be 'fp61': did you mean 'fp16'"):
        small_recipe("fixed_init", "pretrain.precision=fp61")


@pytest.mark.slow  # PyTorch's compiler takes a minute
@pytest.mark.filterwarnings("default")
def test_a_compiled_model_has_the_same_losses(corpus, tmp_path):
    plain = pretrain(small_recipe(), corpus, tmp_path / "plain")
    compiled = pretrain(small_recipe("fixed_init", "pretrain.compile=true"), corpus, tmp_path / "compiled")
    assert_same_losses(compiled.log, plain.log, tolerance=2e-3)
