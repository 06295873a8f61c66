"""s3prl's upstreams by name, out of a made-up hub: what is refused, and in which words; what is loaded."""

import shutil
from pathlib import Path

import pytest
import torch
from s3prl_attention.downstream.feature_cache import weights_digest
from s3prl_attention.upstream import s3prl_compat
from s3prl_attention.upstream.s3prl_upstreams import Foreign, check, load_foreign, parse
from s3prl_fixtures import Fake, Hub, save_fake


def test_the_first_colon_after_the_name_ends_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("s3prl:fbank") == Foreign("fbank")
    assert parse("s3prl:x_local:/a/b:c/d.ckpt") == Foreign("x_local", "/a/b:c/d.ckpt")
    assert parse("s3prl:x_local:d.ckpt") == Foreign("x_local", str(tmp_path / "d.ckpt"))
    assert parse("s3prl:x_local:~/d.ckpt") == Foreign("x_local", str(tmp_path / "d.ckpt"))
    assert parse("s3prl:x_url:https://host/a/d.ckpt") == Foreign("x_url", "https://host/a/d.ckpt")
    assert parse("s3prl:x_custom:team/model") == Foreign("x_custom", "team/model")
    (tmp_path / "team" / "model").mkdir(parents=True)
    assert parse("s3prl:x_custom:team/model") == Foreign("x_custom", str(tmp_path / "team" / "model"))
    with pytest.raises(ValueError, match="ends where its checkpoint should be: write s3prl:fbank:CKPT, or s3prl:fbank"):
        parse("s3prl:fbank:")


@pytest.mark.parametrize("text", ["s3prl:fbank", "s3prl:x_local:/a/b:c/d.ckpt", "s3prl:x_url:https://host/a/d.ckpt"])
def test_the_text_leads_back_and_the_label_has_no_folders(text):
    assert parse(text).text == text
    assert parse(parse(text).text) == parse(text)
    assert "/" not in parse(text).label
    assert parse(text).label.startswith(":".join(text.split(":")[:2]))


def test_a_checkpoint_is_known_by_its_content(tmp_path):
    one, other = save_fake(tmp_path / "a" / "last.ckpt"), save_fake(tmp_path / "b" / "last.ckpt", seed=1)

    def told(path: Path) -> str | None:
        return parse(f"s3prl:fake_local:{path}").checkpoint

    first = told(one)
    assert first != told(other)
    assert len(first) == 12
    moved = Path(shutil.copy(one, tmp_path / "moved.ckpt"))
    assert told(tmp_path / "a") != told(tmp_path / "b")  # folders, as transformers has them
    other.write_bytes(one.read_bytes())
    assert told(other) == first
    assert told(tmp_path / "a") == told(tmp_path / "b")
    assert told(moved) == first
    assert parse("s3prl:fbank").checkpoint is None
    assert parse("s3prl:x_url:https://host/d.ckpt").checkpoint == "https://host/d.ckpt"


REFUSED = {
    "s3prl:fak": "s3prl has no upstream 'fak': did you mean 'fake'",
    "s3prl:zzzzzzz": "s3prl has no upstream 'zzzzzzz': --upstream s3prl: lists all 8",
    "s3prl:": "s3prl: needs a name: Path, broken, fake, fake_base",
    "s3prl:fake_local": "s3prl:fake_local needs a checkpoint: name it, s3prl:fake_local:CKPT",
    "s3prl:fake_local:/nowhere/x.ckpt": "there is no checkpoint /nowhere/x.ckpt: name a file that exists",
    "s3prl:fake_base:CKPT": "s3prl:fake_base would not look at CKPT: leave the checkpoint out, or ask for "
    "s3prl:fake_local:CKPT",
    "s3prl:broken:CKPT": "s3prl:broken would not look at CKPT: leave the checkpoint out$",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_must_fail_is_refused_before_it_is_built(text, fake_hub, tmp_path):
    path = str(save_fake(tmp_path / "x.ckpt"))
    expected = REFUSED[text].replace("CKPT", path) if text.endswith(":CKPT") else REFUSED[text]
    expected = expected.replace(f"s3prl:fake_local:{path}", "s3prl:fake_local:CKPT")
    with pytest.raises(ValueError, match=expected) as told:
        check([parse(text.replace("CKPT", path))])
    assert "\n" not in str(told.value)


def test_a_missing_file_is_told_before_s3prl_is_imported(monkeypatch):
    def imported():
        raise AssertionError("s3prl.hub is imported")

    monkeypatch.setattr(s3prl_compat, "import_hub", imported)
    with pytest.raises(ValueError, match="there is no checkpoint /nowhere"):
        check([parse("s3prl:fbank"), parse("s3prl:mockingjay_local:/nowhere")])


def test_a_hub_that_cannot_be_imported_is_told(monkeypatch):
    def fails():
        raise ImportError("cannot import name 'gone' from 'torchaudio'")

    monkeypatch.setattr(s3prl_compat, "import_hub", fails)
    with pytest.raises(ValueError, match=r"^s3prl.hub cannot be imported \(ImportError: cannot import name 'gone'"):
        check([parse("s3prl:fbank")])


FAILING = {
    "s3prl:fake_base": r"could not be downloaded \(URLError: <urlopen error planted: no route>\): connect to the "
    "network, or fetch the checkpoint elsewhere and name it, s3prl:fake_local:CKPT",
    "s3prl:fake_url:https://host/x": "s3prl:fake_url:https://host/x could not be downloaded",
    "s3prl:lacking": r"needs what is not installed \(ModuleNotFoundError: No module named 'fairseq'\): install it",
    "s3prl:broken": r"cannot be built \(RuntimeError: planted: weights of another size\): if it was downloaded, remove",
    "s3prl:fake_local:EMPTY": "cannot be built .*: see that the file is whole and a checkpoint for fake_local",
    "s3prl:odd": r"gives hidden_states of shape \(1, 49, 2\), \(1, 49, 6\), not all \(1, frames, dim\): choose another",
    "s3prl:Path": "is no upstream but PosixPath",
}


@pytest.mark.parametrize("text", FAILING)
def test_what_fails_says_why_in_one_line(text, fake_hub, tmp_path):
    (tmp_path / "empty.ckpt").write_bytes(b"")
    wanted = parse(text.replace("EMPTY", str(tmp_path / "empty.ckpt")))
    with pytest.raises(ValueError, match=FAILING[text]) as told:
        load_foreign(wanted)
    assert str(told.value).startswith(wanted.text)
    assert "\n" not in str(told.value)


BROKEN = {
    "no list": lambda wavs: {"hidden_states": torch.zeros(1, 50, 3)},
    "no states": lambda wavs: {"last_hidden_state": torch.zeros(1, 50, 3)},
    "raises": lambda wavs: 1 / 0,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_the_contract_is_refused(kind, fake_hub, monkeypatch):
    monkeypatch.setattr(Fake, "forward", lambda self, wavs: BROKEN[kind](wavs))
    expected = "does not encode a second of noise" if kind == "raises" else "gives no list of hidden_states"
    with pytest.raises(ValueError, match=f"s3prl:fake {expected}"):
        load_foreign(parse("s3prl:fake"))


def test_it_is_frozen_and_the_same_each_time_and_leaves_random_numbers_alone(fake_hub, capsys):
    torch.manual_seed(5)
    expected = torch.randn(2)
    torch.manual_seed(5)
    one = load_foreign(parse("s3prl:fake"))
    torch.testing.assert_close(torch.randn(2), expected, msg="the global random state has moved")
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())
    assert weights_digest(one) == weights_digest(load_foreign(parse("s3prl:fake")))
    told = capsys.readouterr()
    assert told.out == ""
    assert "this goes to stderr" in told.err


def test_a_checkpoint_is_handed_over(fake_hub, tmp_path):
    paths = [save_fake(tmp_path / f"{seed}.ckpt", seed) for seed in (0, 1)]
    experts = [load_foreign(parse(f"s3prl:fake_local:{path}")) for path in paths]
    assert weights_digest(experts[0]) != weights_digest(experts[1])
    torch.testing.assert_close(experts[1].linear.weight, torch.load(paths[1], weights_only=True)["weight"])


def test_an_entry_that_names_ckpt_takes_one(fake_hub: Hub, tmp_path):
    fake_hub.mine = lambda ckpt=None: Fake(ckpt)
    path = save_fake(tmp_path / "x.ckpt", seed=3)
    expert = load_foreign(parse(f"s3prl:mine:{path}"))
    torch.testing.assert_close(expert.linear.weight, torch.load(path, weights_only=True)["weight"])
