"""Pre-training: a killed run continues as if nothing had happened, and what cannot be trained on is told."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from recipes_fixtures import small_corpus, small_recipe, with_maps, write_corpus
from s3prl_attention.recipes import pretrain as module
from s3prl_attention.recipes import run_files
from s3prl_attention.recipes.batches import Speech, log_mel_store
from s3prl_attention.recipes.corpora import cache, load_corpus
from s3prl_attention.recipes.corpora.cache import Unwritable
from s3prl_attention.recipes.pretrain import Log, check_device, finished, learning_rate, main, pretrain, read_log
from s3prl_attention.upstream import load, names
from s3prl_attention.upstream.checkpoint import load_checkpoint, save_checkpoint
from s3prl_attention.upstream.features import LogMel
from tensorboardX.record_writer import RecordWriter

TIMES = {"step_s", "data_wait_s", "elapsed_s"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    return pretrain(small_recipe(), corpus, folder)


def curve(folder):
    """The log without its times."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_log(folder / "log.jsonl")]


def same_weights(one, two):
    (_, first), (_, second) = load_checkpoint(one / "checkpoint"), load_checkpoint(two / "checkpoint")
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


class Interrupted(BaseException):
    pass


def run_until(step, recipe, corpus, folder, **arguments):
    """Train until the log has the line of ``step``, and stop there as a kill would."""
    write = module.Log.write

    def write_and_stop(log, at, **values):
        line = write(log, at, **values)
        if at == step:
            raise Interrupted
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Log, "write", write_and_stop)
        with pytest.raises(Interrupted):
            pretrain(recipe, corpus, folder, **arguments)


# --- interrupted and continued

KILLED = """
import sys, time
from pathlib import Path
import torch
from recipes_fixtures import small_recipe
from s3prl_attention.recipes import pretrain as module
from s3prl_attention.recipes import run_files
from s3prl_attention.recipes.corpora import load_corpus

torch.set_num_threads(int(sys.argv[4]))
write = module.Log.write
def write_and_wait(log, step, **values):
    line = write(log, step, **values)
    if step == int(sys.argv[3]):
        time.sleep(300)  # until it is killed
    return line
module.Log.write = write_and_wait
module.pretrain(small_recipe(), load_corpus("librispeech", Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("killed_after", [7])
def test_a_run_killed_by_sigkill_continues_with_the_same_losses(corpus, whole, tmp_path, killed_after):
    folder = tmp_path / "run"
    arguments = [corpus.root, folder, killed_after, torch.get_num_threads()]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        cwd=Path(__file__).parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        },
    )
    try:
        give_up = time.monotonic() + 120
        while not any(line["step"] == killed_after for line in read_log(folder / "log.jsonl")):
            assert process.poll() is None, "the run ended by itself"
            assert time.monotonic() < give_up, "the run does not get there"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in folder.glob("step-*")] == ["step-00000004"]
    assert not (folder / "checkpoint").exists()

    took = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_loss", lambda *args, plain=module._loss: (took.append(1), plain(*args))[1])
        done = pretrain(small_recipe(), corpus, folder)
    num_valid = len(curve_validations(folder, after=4))
    assert len(took) == 8 + num_valid, "steps 5 to 12 and no others are taken"
    assert [line["step"] for line in read_log(done.log)] == list(range(1, 13))
    assert curve(folder) == curve(whole.checkpoint.parent)
    assert same_weights(folder, whole.checkpoint.parent)
    assert not list(folder.glob("step-*"))
    assert done.seconds > 0


def curve_validations(folder, after):
    return [line for line in read_log(folder / "log.jsonl") if "valid_loss" in line and line["step"] > after]


@pytest.mark.parametrize("upstream", names())
@pytest.mark.parametrize("stops", [(6,), (2, 5, 9, 11)])
def test_a_run_interrupted_anywhere_continues_exactly_with_dropout_too(corpus, tmp_path, upstream, stops):
    recipe = small_recipe(upstream, "model.dropout=0.1", "model.num_layers=2", "model.shared_layers=true")
    recipe = with_maps(recipe, tmp_path / "maps.safetensors")
    pretrain(recipe, corpus, tmp_path / "whole", seed=3)
    for step in stops:
        run_until(step, recipe, corpus, tmp_path / "run", seed=3)
    pretrain(recipe, corpus, tmp_path / "run", seed=3)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_dropout_is_drawn_anew_at_every_step(corpus, tmp_path):
    """Otherwise the test above would pass for a dropout that never changes."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "_loss", lambda *args, plain=module._loss: (seen.append(torch.initial_seed()), plain(*args))[1]
        )
        pretrain(small_recipe("fixed_init", "model.dropout=0.1", "pretrain.valid_every=100"), corpus, tmp_path)
    assert len(set(seen[:11])) == 11


def test_lines_that_average_over_a_saved_state_continue_exactly(corpus, tmp_path):
    recipe = small_recipe("fixed_init", "pretrain.log_every=3", "pretrain.valid_every=12")
    pretrain(recipe, corpus, tmp_path / "whole")
    run_until(6, recipe, corpus, tmp_path / "run")
    pretrain(recipe, corpus, tmp_path / "run")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_a_state_of_an_older_version_that_kept_every_step_continues_exactly(corpus, tmp_path):
    recipe = small_recipe("fixed_init", "pretrain.log_every=3", "pretrain.valid_every=12")
    pretrain(recipe, corpus, tmp_path / "whole")
    run_until(6, recipe, corpus, tmp_path / "run")
    config, tensors = load_checkpoint(tmp_path / "run" / "step-00000004")
    assert {count for _, count in config["pending"].values()} == {1}
    pending = [{key: total for key, (total, _) in config["pending"].items()}]
    save_checkpoint(tmp_path / "run" / "step-00000004", tensors, config | {"pending": pending})
    pretrain(recipe, corpus, tmp_path / "run")
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_what_waits_for_the_next_line_does_not_grow_with_its_steps(tmp_path):
    """A state holds it, and none of ours may have more than so many values."""
    log = Log(tmp_path / "log.jsonl", 0, {})
    losses = [0.1 * step for step in range(1, 1001)]
    for step, loss in enumerate(losses):
        log.add(loss=loss, **({"gradient_norm": loss} if step % 2 else {}))
    assert {key: len(kept) for key, kept in log.pending.items()} == {"loss": 2, "gradient_norm": 2}
    total = 0.0
    for loss in losses:
        total += loss
    line = log.write(1000)
    assert line == {"step": 1000, "loss": total / 1000, "gradient_norm": pytest.approx(50.1)}
    assert not log.pending


def test_a_line_cut_short_by_the_kill_is_dropped(corpus, whole, tmp_path):
    run_until(9, small_recipe(), corpus, tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 10, "loss": 0.4')
    pretrain(small_recipe(), corpus, tmp_path)
    assert curve(tmp_path) == curve(whole.checkpoint.parent)


def test_a_kill_while_the_state_is_written_leaves_the_older_one(corpus, whole, tmp_path):
    save_file = run_files.save_checkpoint.__globals__["save_file"]

    def half(tensors, path):
        save_file(tensors, path)
        if "step-00000008" in str(path):
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s3prl_attention.upstream.checkpoint.save_file", half)
        with pytest.raises(Interrupted):
            pretrain(small_recipe(), corpus, tmp_path)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000004"]
    pretrain(small_recipe(), corpus, tmp_path)
    assert curve(tmp_path) == curve(whole.checkpoint.parent)


@pytest.mark.parametrize("how", ["cut short", "a flipped bit"])
def test_a_damaged_state_is_told_and_the_run_begins_again(corpus, whole, tmp_path, caplog, how):
    run_until(6, small_recipe(), corpus, tmp_path)
    weights = tmp_path / "step-00000004" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 4
    weights.write_bytes(data if how == "a flipped bit" else data[:100])
    with caplog.at_level(logging.WARNING):
        again = pretrain(small_recipe(), corpus, tmp_path)
    assert f"{weights} does not match its checksum" in caplog.text
    assert "from the start" in caplog.text
    assert curve(tmp_path) == curve(whole.checkpoint.parent)
    assert load_checkpoint(again.checkpoint)[0] == load_checkpoint(whole.checkpoint)[0]
    assert not list(tmp_path.glob("step-*"))


def test_the_state_that_replaces_a_damaged_one_of_its_step_stays(corpus, tmp_path):
    run_until(6, small_recipe(), corpus, tmp_path)
    state = tmp_path / "step-00000004"
    (state / "model.safetensors").write_bytes(b"damaged")
    run_until(5, small_recipe(), corpus, tmp_path)
    assert list(tmp_path.glob("step-*")) == [state]
    assert load_checkpoint(state)[0]["step"] == 4


def test_of_two_states_the_one_before_a_damaged_one_is_used(corpus, whole, tmp_path, caplog):
    """Both are there after a kill between writing one and removing the other."""
    run_until(6, small_recipe(), corpus, tmp_path)
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-00000008")
    (tmp_path / "step-00000008" / "config.yaml").unlink()
    with caplog.at_level(logging.INFO):
        pretrain(small_recipe(), corpus, tmp_path)
    assert "step-00000008 is no checkpoint" in caplog.text
    assert "after step 4" in caplog.text
    assert curve(tmp_path) == curve(whole.checkpoint.parent)


def test_states_that_a_kill_left_beside_the_checkpoint_go(corpus, tmp_path):
    pretrain(small_recipe(), corpus, tmp_path)
    (tmp_path / "step-00000008").mkdir()
    (tmp_path / "log.tmp").touch()
    pretrain(small_recipe(), corpus, tmp_path)
    assert not [*tmp_path.glob("step-*"), *tmp_path.glob("log.tmp")]


# --- the folder


@pytest.mark.parametrize(
    ("upstream", "overrides", "seed"),
    [("synthesizer_random", (), 0), ("fixed_init", ("attention.init=raw",), 0), ("fixed_init", (), 1),
     ("fixed_init", ("pretrain.steps=13",), 0)],
)  # fmt: skip
def test_the_folder_of_another_unfinished_run_is_refused(corpus, tmp_path, upstream, overrides, seed):
    run_until(5, small_recipe(), corpus, tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ValueError, match="holds a run of another recipe, data or seed: choose another folder"):
        pretrain(small_recipe(upstream, *overrides), corpus, tmp_path, seed=seed)
    assert (tmp_path / "log.jsonl").read_text() == before


def test_the_unfinished_run_on_other_data_is_refused(corpus, tmp_path):
    run_until(5, small_recipe(), corpus, tmp_path / "run")
    fewer = small_corpus_of(tmp_path / "speech", 13)
    with pytest.raises(ValueError, match="another recipe, data or seed"):
        pretrain(small_recipe(), fewer, tmp_path / "run")


def test_alignments_that_came_later_make_other_data_and_are_named_as_a_reason(corpus, tmp_path):
    run_until(5, small_recipe(), corpus, tmp_path / "run")
    root = shutil.copytree(corpus.root, tmp_path / corpus.root.name)
    (root / "alignments").mkdir()
    (root / "alignments" / "train-clean-100.ctm").write_text("100-1-0000 1 0.0 0.1 AA\n")
    with pytest.raises(ValueError, match=r"another recipe, data or seed: .* with alignments that came later\)$"):
        pretrain(small_recipe(), load_corpus("librispeech", root), tmp_path / "run")


def small_corpus_of(root, num_utterances):
    write_corpus(root, num_utterances)
    return load_corpus("librispeech", root)


def test_a_finished_run_is_returned_without_training(corpus, whole, monkeypatch):
    monkeypatch.setattr(module, "_train", lambda *args: pytest.fail("it must not train again"))
    again = pretrain(small_recipe(), corpus, whole.checkpoint.parent)
    assert again == whole == finished(whole.checkpoint.parent)


@pytest.mark.parametrize(
    ("upstream", "overrides", "seed"),
    [("synthesizer_random", (), 0), ("fixed_init", ("pretrain.steps=13",), 0), ("fixed_init", (), 1)],
)
def test_the_finished_run_of_another_recipe_is_refused(corpus, whole, upstream, overrides, seed):
    with pytest.raises(ValueError, match="another"):
        pretrain(small_recipe(upstream, *overrides), corpus, whole.checkpoint.parent, seed=seed)


def test_a_checkpoint_without_a_log_is_told(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ValueError, match=r"has a checkpoint but no log\.jsonl: remove the folder"):
        finished(tmp_path)


# --- what a run leaves


def test_the_result_says_what_the_log_says(whole):
    lines = read_log(whole.log)
    assert whole.steps == 12
    assert (whole.train_loss, whole.valid_loss) == (lines[-1]["loss"], lines[-1]["valid_loss"])
    assert whole.seconds == lines[-1]["elapsed_s"] >= sum(line["step_s"] + line["data_wait_s"] for line in lines) * 0.99


def test_every_line_of_the_log_has_loss_rate_gradient_and_times(whole):
    lines = read_log(whole.log)
    assert [line["step"] for line in lines] == list(range(1, 13))
    for line in lines:
        assert line.keys() >= {"loss", "learning_rate", "gradient_norm", "step_s", "data_wait_s", "elapsed_s"}
        assert line["gradient_norm"] > 0
        assert min(line["step_s"], line["data_wait_s"]) >= 0
    assert [line["step"] for line in lines if "valid_loss" in line] == [6, 12]
    assert [line["learning_rate"] for line in lines] == [learning_rate(step, 12, 0.07, 3e-3) for step in range(1, 13)]
    assert all(one["elapsed_s"] < two["elapsed_s"] for one, two in pairwise(lines))


def test_lines_are_means_of_the_steps_since_the_last(corpus, whole, tmp_path):
    pretrain(small_recipe("fixed_init", "pretrain.log_every=5"), corpus, tmp_path)
    every, fifth = curve(whole.checkpoint.parent), curve(tmp_path)
    assert [line["step"] for line in fifth] == [5, 6, 10, 12]
    assert [line["step"] for line in fifth if "valid_loss" in line] == [6, 12], "a validation has a line of its own"
    for line, (first, last) in zip(fifth, ((0, 5), (5, 6), (6, 10), (10, 12)), strict=True):
        steps = every[first:last]
        assert line["loss"] == pytest.approx(sum(step["loss"] for step in steps) / len(steps), rel=1e-6)


def test_there_is_a_file_for_tensorboard(whole):
    (events,) = (whole.checkpoint.parent / "tensorboard").glob("events.out.tfevents.*")
    content = events.read_bytes()
    for name in (b"pretrain/loss", b"pretrain/valid_loss", b"pretrain/learning_rate", b"pretrain/gradient_norm"):
        assert name in content


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_curves_that_cannot_be_written_are_told_once_and_the_run_goes_on(corpus, whole, tmp_path, caplog, monkeypatch):
    flushed = []

    def flush(writer):
        flushed.append(writer)
        if len(flushed) > 1:
            raise FULL

    monkeypatch.setattr(RecordWriter, "flush", flush)
    pretrain(small_recipe(), corpus, tmp_path)
    assert curve(tmp_path) == curve(whole.checkpoint.parent)
    assert len(flushed) == 2
    told = f"{tmp_path / 'tensorboard'}: cannot be written (" + os.strerror(errno.ENOSPC)
    assert [told in record.message for record in caplog.records if record.levelname == "WARNING"] == [True]


def test_curves_that_cannot_be_closed_do_not_hide_why_the_run_ended(corpus, tmp_path, monkeypatch):
    def close(writer, plain=RecordWriter.close):
        plain(writer)
        raise FULL

    def write(log, step, **values):
        raise Unwritable("free some room")

    monkeypatch.setattr(RecordWriter, "close", close)
    monkeypatch.setattr(module.Log, "write", write)
    with pytest.raises(Unwritable, match="free some room"):
        pretrain(small_recipe(), corpus, tmp_path)


def test_the_checkpoint_is_an_upstream_that_knows_its_corpus_and_lineage(corpus, whole):
    expert = load("fixed_init", ckpt=whole.checkpoint)
    assert (expert.options.hidden_dim, expert.options.max_frames) == (16, 40)
    states = expert([0.1 * torch.randn(3000)])["hidden_states"]
    assert [state.shape for state in states] == [(1, 19, 16)] * 2
    meta = log_mel_store(corpus, 80).meta
    torch.testing.assert_close(expert.log_mel.mean, torch.tensor(meta["mean"]))
    torch.testing.assert_close(expert.log_mel.std, torch.tensor(meta["std"]))
    lineage = load_checkpoint(whole.checkpoint)[0]["lineage"]
    resolved = small_recipe().resolved()
    decisive = {key: resolved[key] for key in ("upstream", "preset", "model", "attention")}
    rounding_alone = ("accumulate", "precision", "compile")
    decisive["pretrain"] = {key: value for key, value in resolved["pretrain"].items() if key not in rounding_alone}
    assert lineage == {"recipe": decisive, "seed": 0, "corpus": corpus.name, "data": corpus.fingerprint}


def test_the_seed_decides_and_nothing_else_does(corpus, whole, tmp_path):
    torch.manual_seed(1234)
    pretrain(small_recipe(), corpus, tmp_path / "again")
    assert curve(tmp_path / "again") == curve(whole.checkpoint.parent)
    pretrain(small_recipe(), corpus, tmp_path / "other", seed=1)
    losses = [[line["loss"] for line in curve(folder)] for folder in (tmp_path / "other", whole.checkpoint.parent)]
    assert not set(losses[0]) & set(losses[1])


@pytest.mark.parametrize("upstream", names())
def test_the_loss_goes_down(corpus, tmp_path, upstream):
    overrides = ["pretrain.steps=60", "pretrain.valid_every=20", "pretrain.save_every=100", "model.hidden_dim=32"]
    recipe = with_maps(small_recipe(upstream, *overrides), tmp_path / "maps.safetensors")
    done = pretrain(recipe, corpus, tmp_path / "run")
    valid = [line["valid_loss"] for line in read_log(done.log) if "valid_loss" in line]
    first = read_log(done.log)[0]["loss"]
    assert len(valid) == 3
    assert valid[-1] < valid[0] < first
    assert done.valid_loss < 0.9 * first


def test_validation_does_not_touch_the_training(corpus, whole, tmp_path):
    pretrain(small_recipe("fixed_init", "pretrain.valid_every=1"), corpus, tmp_path)
    assert [line["loss"] for line in curve(tmp_path)] == [line["loss"] for line in curve(whole.checkpoint.parent)]


def test_validation_is_the_same_for_every_seed_of_a_run(corpus):
    recipe = small_recipe()
    store = log_mel_store(corpus, 80)
    of_seeds = [
        module.validation(Speech(store, store.ids, LogMel(), 3, 40, recipe.pretrain, seed)) for seed in (0, 1, 2)
    ]
    assert sum(len(batch.keep) for batch in of_seeds[0]) == len(store), "every utterance once"
    assert len(of_seeds[0]) > 2
    for other in of_seeds[1:]:
        for one, two in zip(of_seeds[0], other, strict=True):
            assert torch.equal(one.corrupted, two.corrupted)
            assert torch.equal(one.chosen, two.chosen)


# --- what cannot be trained on


def test_a_loss_that_is_not_finite_names_the_step_and_the_cure(corpus, tmp_path):
    with pytest.raises(
        ValueError, match=r"fixed_init: loss .* at step \d+ .*lower pretrain\.learning_rate \(now 1e\+30\)"
    ):
        pretrain(small_recipe("fixed_init", "pretrain.learning_rate=1e30"), corpus, tmp_path)
    assert not (tmp_path / "checkpoint").exists()
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in read_log(tmp_path / "log.jsonl"))


def test_a_gradient_that_is_not_finite_is_told_too(corpus, tmp_path, monkeypatch):
    plain = module._loss

    def steep(model, batch):
        loss = plain(model, batch)
        loss.register_hook(lambda grad: grad * float("nan"))
        return loss

    monkeypatch.setattr(module, "_loss", steep)
    with pytest.raises(ValueError, match=r"gradient norm nan at step 1 "):
        pretrain(small_recipe(), corpus, tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5])
def test_a_seed_that_is_none_is_told_before_features_are_made(corpus, tmp_path, seed):
    with pytest.raises(ValueError, match=r"a seed must be a whole number from 0 and below 2\*\*63, got "):
        pretrain(small_recipe(), corpus, tmp_path / "run", seed=seed)
    assert not (tmp_path / "run").exists()


def test_too_little_data_is_told(tmp_path):
    with pytest.raises(ValueError, match="at least 2 utterances, got 1"):
        pretrain(small_recipe(), one_utterance(tmp_path / "speech"), tmp_path / "run")


def one_utterance(root):
    corpus = small_corpus(root)
    return type(corpus)(corpus.name, root, corpus.utterances[:1], (), False, "")


# --- the rate, the subsets


def test_the_rate_rises_to_its_peak_and_falls_towards_zero():
    rates = [learning_rate(step, 100, 0.1, 2.0) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert max(rates) == 2.0
    assert all(one > two for one, two in pairwise(rates[9:]))
    falls = {round(one - two, 9) for one, two in pairwise(rates[10:])}
    assert len(falls) == 1, "linearly"
    assert 0 < rates[-1] < 0.05
    assert learning_rate(1, 1, 0.07, 2.0) == 2.0


# --- the command


OVERRIDES = ("model.hidden_dim=16", "model.num_layers=1", "model.max_frames=40", "pretrain.steps=3")


def where(corpus, out):
    return ["--preset", "smoke", "--corpus", "librispeech", "--root", str(corpus.root), "--out", str(out)]


def command(corpus, out):
    return ["fixed_init", *OVERRIDES, *where(corpus, out)]


def test_the_command_trains_and_says_where_and_how_well(corpus, tmp_path, capsys):
    main(command(corpus, tmp_path / "run"))
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'run' / 'checkpoint'}: valid loss ")
    assert "after 3 steps" in said
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["step"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fixed_innit"], "unknown upstream 'fixed_innit': did you mean 'fixed_init'"),
        (["fixed_init", "pretrain.stepps=3"], "no option 'stepps'"),
        (["fixed_init", "steps=3"], "'steps=3' is no override"),
        (["fixed_init", "--preset", "smoky"], "unknown preset 'smoky'"),
        (["fixed_init", "--corpus", "timit"], "unknown corpus 'timit'"),
        (["fixed_init", "--corpus", "librispeech"], "needs a folder in LibriSpeech layout: give --root"),
        (["fixed_init", "--corpus", "librispeech", "--root", "/nowhere/at/all"], "/nowhere/at/all"),
        (["fixed_init", "model.num_heads=4"], "needs at least 7 heads"),
        (["fixed_init", "probe.num_epocs=3"], "is no override: write section.option=value; sections: data, model, "),
        (["fixed_init", "--seed", "-1"], "a seed must be a whole number from 0 and below 2**63, got -1: choose"),
    ],
)
def test_the_command_answers_a_mistake_in_one_line(tmp_path, words, message):
    with pytest.raises(SystemExit) as told:
        main([*words, *([] if "--preset" in words else ["--preset", "smoke"]), "--out", str(tmp_path / "run")])
    assert isinstance(told.value.code, str)
    assert told.value.code.startswith("error: ")
    assert message in told.value.code
    assert "\n" not in told.value.code
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_the_command_tells_of_a_folder_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SystemExit, match=r"^error: .*file.*: cannot be written \(.*\): choose another folder"):
            main(command(corpus, out))


@pytest.mark.parametrize("error", [RuntimeError("the process ended: run again"), PermissionError(13, "denied", "x")])
def test_the_command_tells_of_a_dead_worker_or_a_file_in_one_line(corpus, tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(module, "named_corpus", fail)
    with pytest.raises(SystemExit, match=f"^error: {re.escape(str(error))}$"):
        main(command(corpus, tmp_path / "run"))


def test_a_second_run_in_a_folder_says_that_it_waits_for_the_first(corpus, whole, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache, "WAIT_QUIETLY_S", 0.01)
    caplog.set_level(logging.INFO)
    folder = tmp_path / "run"
    with ThreadPoolExecutor(1) as pool:
        with cache.folder_lock(folder / "checkpoint"):
            second = pool.submit(pretrain, small_recipe(), corpus, folder)
            give_up = time.monotonic() + 60
            while f"waiting for another process that is making {folder / 'checkpoint'}" not in caplog.text:
                assert time.monotonic() < give_up, "it says nothing"
                time.sleep(0.02)
        assert second.result().checkpoint == folder / "checkpoint"
    assert curve(folder) == curve(whole.checkpoint.parent)


def test_the_command_tells_how_to_go_on_after_ctrl_c(corpus, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_loss", interrupt)
    with pytest.raises(SystemExit, match=r"^interrupted: the same command continues from the last checkpoint$"):
        main(command(corpus, tmp_path / "run"))


def test_overrides_may_stand_where_the_help_shows_them(corpus, tmp_path):
    """The module's own example: pretrain fixed_init --preset demo --out result/my-run pretrain.steps=300."""
    main(["fixed_init", *where(corpus, tmp_path / "run"), *OVERRIDES])


def test_a_device_that_is_not_there_is_told_in_one_line(corpus, tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*banana"):
        main([*command(corpus, tmp_path / "run"), "--device", "banana"])


@pytest.mark.parametrize("device", ["meta", "mps", "xpu:0"])
def test_devices_that_are_neither_cpu_nor_cuda_are_refused(device):
    kind = device.split(":")[0]
    with pytest.raises(ValueError, match=rf"^the device '{device}' .*of kind {kind}\): give --device cpu or cuda$"):
        check_device(device)


def test_what_a_killed_save_left_behind_is_removed(corpus, tmp_path):
    (tmp_path / ".step-00000004-abc").mkdir(parents=True)
    pretrain(small_recipe(), corpus, tmp_path)
    assert not list(tmp_path.glob(".step-*"))
