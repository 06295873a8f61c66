"""s3prl's own ``run_downstream`` with our upstreams and tasks: as a program, and what is made of its arguments."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from s3prl_attention import downstream, upstream
from s3prl_attention.downstream.run_downstream import completed
from s3prl_attention.upstream.plugins import TASKS
from s3prl_attention.upstream.s3prl_hub import register

PROGRAM = [sys.executable, "-m", "s3prl_attention.downstream.run_downstream"]
NUM_STEPS, SAVE_STEP = 40, 5


def short(num_steps: int, save_step: int | None = None, **datarc) -> list[str]:
    """s3prl's ``-o`` for a run of few steps, each with its line in the log, on the tiny corpus by default."""
    step = {"log_step": 1, "eval_step": num_steps, "save_step": save_step or num_steps, "max_keep": 99}
    words = [f"config.runner.{key}={value}" for key, value in {"total_steps": num_steps, **step}.items()]
    words += [f"config.downstream_expert.datarc.{key}={value}" for key, value in (datarc or {"size": "tiny"}).items()]
    return ["-o", ",,".join(words)]


def run(*words: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([*PROGRAM, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def steps(log: Path, split: str = "train") -> list[int]:
    """The steps of which a task's ``log.log`` has a line."""
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    return [int(step) for step in re.findall(rf"/{split}\|step:(\d+)\|", text)]


def newest(folder: Path) -> tuple[int, dict]:
    """The step and the content of the last state that s3prl's runner saved."""
    paths = {int(path.stem.removeprefix("states-")): path for path in folder.glob("states-*.ckpt")}
    step = max(paths)
    return step, torch.load(paths[step], map_location="cpu")  # the fixture s3prl_hub has made Namespace safe to load


# --- as a program


@pytest.fixture(scope="module")
def stopped(synthetic_tiny, tmp_path_factory):
    """The folder of a run that was ended by a signal after it had saved a state, and before its last step."""
    folder = tmp_path_factory.mktemp("run")
    words = ["-m", "train", "-u", "fixed_init", "-d", "phone_linear", "-p", "exp", *short(NUM_STEPS, SAVE_STEP)]
    process = subprocess.Popen([*PROGRAM, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, deadline = folder / "exp" / "log.log", time.monotonic() + 120
    while max(steps(log), default=0) < SAVE_STEP + 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM, "it ended before it was stopped"
    return folder


@pytest.fixture(scope="module")
def resumed(stopped, s3prl_hub):
    """The same folder when the run has gone on to its end, and the step from which it went on."""
    since, _ = newest(stopped / "exp")
    run("-m", "train", "-e", "exp", folder=stopped)
    return stopped, since


def test_a_stopped_run_goes_on_to_its_last_step(resumed):
    folder, since = resumed
    assert 0 < since < NUM_STEPS
    told = steps(folder / "exp" / "log.log")
    before, after = told[: since - NUM_STEPS], told[since - NUM_STEPS :]
    assert before == list(range(1, len(before) + 1))
    assert since < len(before) < NUM_STEPS
    assert after == list(range(since + 1, NUM_STEPS + 1))
    step, saved = newest(folder / "exp")
    assert step == saved["Step"] == NUM_STEPS
    assert (saved["Args"].upstream, saved["Args"].downstream) == ("fixed_init", "attention_phone_linear")
    updates = {int(value["step"]) for value in saved["Optimizer"]["state"].values()}
    assert updates == {NUM_STEPS}, "the optimiser started anew"


def test_evaluating_the_best_checkpoint_gives_the_score_of_the_run(resumed):
    folder, _ = resumed
    log = folder / "exp" / "log.log"
    (during,) = re.findall(rf"phone_linear/test\|step:{NUM_STEPS}\|acc:(.*)", log.read_text())
    run("-m", "evaluate", "-t", "test", "-e", "exp/best-states-dev.ckpt", folder=folder)
    (after,) = re.findall(r"phone_linear/test\|step:0\|acc:(.*)", log.read_text())
    assert float(after) == float(during)
    assert 0 < float(after) < 1


def test_speaker_on_real_speech(librispeech_mini, tmp_path):
    options = short(3, corpus="librispeech", root=librispeech_mini)
    run(
        "-m",
        "train",
        "-u",
        "fixed_init",
        "-d",
        "speaker",
        "-p",
        "exp",
        "-s",
        "last_hidden_state",
        *options,
        folder=tmp_path,
    )
    assert steps(tmp_path / "exp" / "log.log") == [1, 2, 3]
    assert steps(tmp_path / "exp" / "log.log", "test") == [3]
    assert (tmp_path / "exp" / "best-states-dev.ckpt").is_file()


def test_an_upstream_of_s3prl_on_our_task(synthetic_tiny, tmp_path):
    done = run("-m", "train", "-u", "fbank", "-d", "speaker", "-n", "fbank", *short(3), folder=tmp_path)
    assert "downsample rate is 160" in done.stderr
    assert "no GPU: --device cpu" in done.stderr or torch.cuda.is_available()
    exp = tmp_path / "result" / "downstream" / "fbank"
    assert steps(exp / "log.log") == [1, 2, 3]
    assert steps(exp / "log.log", "dev") == [3]


EXAMPLE = """
runner: {total_steps: 2, gradient_clipping: 1, gradient_accumulate_steps: 1, log_step: 1, eval_step: 2, save_step: 2,
  max_keep: 1, eval_dataloaders: [dev], evaluate_ratio: 0.01}
optimizer: {name: TorchOptim, torch_optim_name: Adam, lr: 1.0e-3}
downstream_expert:
  datarc: {train_batch_size: 2, eval_batch_size: 2, num_workers: 0}
  modelrc: {input_dim: 8}
"""


def test_our_upstream_on_s3prls_example_task(s3prl_hub, tmp_path):
    """Its data are noise of 5 to 20 s, longer than what ``fixed_init`` has positions for."""
    (tmp_path / "example.yaml").write_text(EXAMPLE)
    (tmp_path / "options.yaml").write_text("hidden_dim: 32\nnum_layers: 1\nmax_frames: 100\n")
    words = ["-d", "example", "-c", "example.yaml", "-u", "fixed_init", "-g", "options.yaml", "-f", "-p", "exp"]
    run("-m", "train", *words, folder=tmp_path)
    step, saved = newest(tmp_path / "exp")
    assert step == 2
    assert tuple(saved["Featurizer"]["weights"].shape) == (2,)
    own = upstream.load("fixed_init", hidden_dim=32, num_layers=1, max_frames=100)
    assert set(saved["Upstream"]) == set(own.state_dict()), "-f trains the upstream, so it is saved"


def test_a_wrong_name_is_one_line(tmp_path):
    done = run("-m", "train", "-u", "fixed_init", "-d", "speakr", "-p", "exp", folder=tmp_path, code=2)
    assert "Traceback" not in done.stderr
    told = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"error: unknown downstream 'speakr': did you mean 'speaker'.* known: .*", told)
    assert not (tmp_path / "exp").exists()


def test_a_missing_checkpoint_is_one_line(synthetic_tiny, tmp_path):
    words = ["-u", "fixed_init_local", "-k", "nowhere", "-d", "speaker", "-p", "exp", *short(1)]
    done = run("-m", "train", *words, folder=tmp_path, code=2)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: nowhere is no checkpoint: model.safetensors and config.yaml")


# --- what is made of the arguments


@pytest.fixture
def registered(s3prl_hub, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return register()


def flag(words: list[str], *names: str) -> str | None:
    """What follows a flag."""
    (value,) = [words[i + 1] for i, word in enumerate(words) if word in names] or [None]
    return value


@pytest.mark.parametrize("asked", ["phone_linear", "attention_phone_linear"])
def test_our_task_goes_before_s3prls_of_its_name(asked, registered):
    made = completed(["-m", "train", "-n", "x", "--upstream", "fixed_init", "--downstream", asked], registered)
    assert (flag(made, "-u"), flag(made, "-d")) == ("fixed_init", "attention_phone_linear")
    assert flag(made, "-c") == str(downstream.config_path("phone_linear"))
    assert flag(made, "--device") == "cpu"


def test_a_prefix_means_s3prls_own(registered, tmp_path, monkeypatch):
    (tmp_path / "own.yaml").touch()
    made = completed(["-u", "s3prl:fbank", "-d", "s3prl:phone_linear", "-c", str(tmp_path / "own.yaml")], registered)
    assert (flag(made, "-u"), flag(made, "-d")) == ("fbank", "phone_linear")
    assert flag(made, "-c") == str(tmp_path / "own.yaml")
    monkeypatch.chdir(tmp_path)
    told = r"^-d phone_linear needs -c: .*its repository does, s3prl/downstream/phone_linear/config.yaml$"
    with pytest.raises(ValueError, match=told):
        completed(["-d", "s3prl:phone_linear"], registered)
    (tmp_path / "downstream" / "phone_linear").mkdir(parents=True)
    (tmp_path / "downstream" / "phone_linear" / "config.yaml").touch()
    assert flag(completed(["-d", "s3prl:phone_linear"], registered), "-c") is None


def test_what_the_user_says_is_kept(registered, tmp_path):
    (tmp_path / "mine.yaml").touch()
    words = ["-f", "-l", "-1", "-o", "args.seed=1,,config.a=[1, 2]", "--seed", "3", "-s", "last_hidden_state", "-a"]
    given = [
        "-m",
        "train",
        "-p",
        "x",
        *words,
        "-c",
        str(tmp_path / "mine.yaml"),
        "-d",
        "speaker",
        "--dev",
        "cuda:1",
        "-ufbank",
    ]
    made = completed(given, registered)
    assert [word for word in made if word in words] == words
    assert flag(made, "-c") == str(tmp_path / "mine.yaml")
    assert flag(made, "--device") == "cuda:1"
    assert flag(made, "-u") == "fbank"


def test_a_gpu_is_left_to_s3prl(registered, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert sorted(completed(["-m", "train", "-n", "x"], registered)) == ["-m", "-n", "train", "x"]


def test_a_past_experiment_brings_its_own_configuration(registered, tmp_path):
    (tmp_path / "states-5.ckpt").touch()
    made = completed(["-m", "train", "-e", str(tmp_path), "-d", "speaker"], registered)
    assert flag(made, "-e") == str(tmp_path)
    assert flag(made, "-c") is None


def test_a_folder_without_states_names_what_can_be_taken(registered, tmp_path):
    with pytest.raises(ValueError, match=r"holds no states-\*.ckpt, saved every .*save_step steps: train for longer"):
        completed(["-m", "evaluate", "-e", str(tmp_path)], registered)
    (tmp_path / "best-states-dev.ckpt").touch()
    with pytest.raises(ValueError, match=r"name a file, .*/best-states-dev.ckpt$"):
        completed(["-m", "evaluate", "-e", str(tmp_path)], registered)


def test_an_experiment_has_a_name(registered):
    for words in (["-n", "x"], ["-p", "x"]):
        completed(["-m", "train", "-d", "speaker", *words], registered)
    with pytest.raises(ValueError, match=r"the experiment has no name: .* with -n, or a folder with -p"):
        completed(["-m", "train", "-d", "speaker"], registered)


def test_names_of_the_huggingface_hub_are_left_to_it(registered):
    made = completed(["-m", "train", "-n", "x", "--hub", "huggingface", "-u", "someone/some_model"], registered)
    assert (flag(made, "-u"), flag(made, "--hub")) == ("someone/some_model", "huggingface")


WRONG = [
    (["-u", "fixd_init"], r"unknown upstream 'fixd_init': did you mean 'fixed_init'"),
    (["-u", "s3prl:fixed_init"], r"unknown upstream 's3prl:fixed_init': "),
    (["-d", "speakr"], r"unknown downstream 'speakr': did you mean 'speaker'"),
    (["-d", "s3prl:speaker"], r"unknown downstream 's3prl:speaker': known: .*speaker_linear_utter_libri"),
    (["-d", "s3prl:attention_phone_linear"], r"unknown downstream 's3prl:attention_phone_linear': "),
    (["-d", "speaker", "-c", "nowhere.yaml"], r"-c nowhere.yaml: there is no such file or folder"),
    (["-e", "nowhere"], r"-e nowhere: there is no such file or folder"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_request_is_told_before_s3prl_runs(words, told, registered):
    with pytest.raises(ValueError, match=rf"^{told}") as caught:
        completed(["-m", "train", *words], registered)
    assert "\n" not in str(caught.value)


def test_a_task_that_cannot_be_imported_is_told(s3prl_hub, monkeypatch):
    monkeypatch.setitem(TASKS.packages, "broken_task", "a_package_that_is_nowhere")
    registered = register()
    with pytest.raises(
        ValueError, match=r"^the downstream 'broken_task' cannot be imported \(a_package.*ModuleNotFound"
    ):
        completed(["-m", "train", "-d", "broken_task"], registered)
