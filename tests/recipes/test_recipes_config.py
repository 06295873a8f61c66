"""The configuration: what overrides what, what is refused, and that every file there is can be loaded."""

import shutil
from dataclasses import replace

import pytest
import soundfile
import yaml
from s3prl_attention.recipes import config
from s3prl_attention.recipes.config import (
    PretrainConfig,
    as_overrides,
    load_recipe,
    parse_overrides,
    presets,
    recipe_names,
    sections,
)
from s3prl_attention.recipes.lineage import named_corpus
from s3prl_attention.upstream import names

RECIPES = sorted(config.HERE.glob("*.yaml"))
PRESETS = sorted((config.HERE / "presets").glob("*.yaml"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A copy of the folder of recipes and presets, to write other files into."""
    shutil.copytree(config.HERE, tmp_path / "recipes", ignore=lambda folder, found: {"corpora", "__pycache__"})
    monkeypatch.setattr(config, "HERE", tmp_path / "recipes")
    return tmp_path / "recipes"


# --- the files


@pytest.mark.parametrize("upstream", [path.stem for path in RECIPES])
@pytest.mark.parametrize("preset", [path.stem for path in PRESETS])
def test_every_recipe_loads_with_every_preset(upstream, preset):
    recipe = load_recipe(upstream, preset)
    assert (recipe.upstream, recipe.preset) == (upstream, preset)
    written = yaml.safe_load((config.HERE / f"{upstream}.yaml").read_text()) or {}
    for key, value in (written.get("attention") or {}).items():
        assert recipe.attention[key] == value
    assert yaml.safe_load(yaml.safe_dump(recipe.resolved())) == recipe.resolved()


def test_every_upstream_has_a_recipe_and_every_recipe_an_upstream():
    assert [path.stem for path in RECIPES] == names() == recipe_names()


def test_the_presets_of_the_design_are_there():
    assert {"smoke", "demo", "study", "paper"} <= {path.stem for path in PRESETS}
    assert presets() == [path.stem for path in PRESETS]


@pytest.mark.parametrize("path", [*RECIPES, *PRESETS], ids=lambda path: path.stem)
def test_every_file_opens_with_a_comment_that_says_what_it_is(path):
    assert path.read_text().startswith(f"# {path.stem}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_gives_its_command(path):
    assert f"# python -m s3prl_attention.recipes.pretrain {path.stem} " in path.read_text()


# --- what overrides what


def test_overrides_win_over_the_recipe_which_wins_over_the_preset(here):
    preset = yaml.safe_load((here / "presets" / "smoke.yaml").read_text())
    preset["attention"] = {"eps": 0.1, "init": "raw"}
    (here / "presets" / "smoke.yaml").write_text(yaml.safe_dump(preset))
    (here / "fixed_init.yaml").write_text("attention: {eps: 0.2}")
    assert start_of("smoke") == ("raw", 0.2)
    assert start_of("smoke", ["attention.eps=0.3"]) == ("raw", 0.3)
    assert start_of("demo") == ("log", 0.2)
    (here / "fixed_init.yaml").write_text("# nothing of its own\n")
    assert start_of("smoke") == ("raw", 0.1)


def start_of(preset, overrides=()):
    attention = load_recipe("fixed_init", preset, overrides).attention
    return attention["init"], attention["eps"]


def test_an_override_changes_its_key_only():
    plain, changed = load_recipe("fixed_init", "demo"), load_recipe("fixed_init", "demo", ["pretrain.steps=7"])
    assert plain.pretrain.steps != changed.pretrain.steps == 7
    was, now = plain.resolved(), changed.resolved()
    now["pretrain"]["steps"] = plain.pretrain.steps
    assert was == now


def test_the_last_override_wins():
    assert load_recipe("fixed_init", "demo", ["pretrain.steps=7", "pretrain.steps=8"]).pretrain.steps == 8


def test_an_upstream_without_a_recipe_takes_the_preset(here):
    (here / "self_attention.yaml").unlink()
    assert load_recipe("self_attention", "smoke").attention == {}
    assert sections("smoke", None)["model"]["hidden_dim"] == 32


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("2E-4", 0.0002), ("3", 3), ("0.5", 0.5), ("true", True), ("null", None), ("[a, b]", ["a", "b"]),
     ("log", "log"), ("a=b", "a=b")],
)  # fmt: skip
def test_values_are_yaml_with_numbers_as_people_write_them(written, value):
    got = parse_overrides([f"data.x={written}"])["data"]["x"]
    assert got == value
    assert type(got) is type(value)


def test_numbers_of_a_preset_may_be_written_with_an_exponent(here):
    (here / "presets" / "mine.yaml").write_text("pretrain: {learning_rate: 5e-4}")
    assert load_recipe("self_attention", "mine").pretrain.learning_rate == 5e-4


# --- what is refused


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pretrain.stepps=3"], "^pretrain: no option 'stepps' .did you mean 'steps'"),
        (["data.sise=tiny"], "^data: no option 'sise' .did you mean 'size'"),
        (["model.width=3"], "^model: no option 'width'"),
        (["attention.ini=log"], "no option 'ini' .did you mean 'init'"),
        (["attention.hidden_dim=64"], "attention.hidden_dim is an option of the encoder .*: write model.hidden_dim"),
        (["pretrain.steps=many"], "pretrain: steps must be int, got 'many'"),
        (["pretrain.steps=1.5"], "pretrain: steps must be int, got 1.5"),
        (["pretrain.steps=true"], "pretrain: steps must be int, got True"),
        (["pretrain.steps="], "pretrain: steps must be int, got None"),
        (["model.shared_layers=perhaps"], "model: shared_layers must be bool, got 'perhaps'"),
        (["data.pretrain_subsets=train"], "data: pretrain_subsets must be list"),
        (["attention.eps=small"], "eps must be float, got 'small'"),
        (["pretrain.steps=0"], "pretrain.steps must be at least 1, got 0"),
        (["pretrain.mask_share=0"], "pretrain.mask_share must lie between 0 and 1, got 0"),
        (["pretrain.valid_share=1.0"], "pretrain.valid_share must lie between 0 and 1"),
        (["pretrain.learning_rate=0"], "pretrain.learning_rate must be above 0"),
        (["pretrain.learning_rate=nan"], "pretrain.learning_rate must be above 0, got nan"),
        (["pretrain.clip=-5"], "pretrain.clip must be above 0, got -5"),
        (["model.hidden_dim=30"], "multiple of num_heads"),
        (["model.num_heads=4"], "fixed_init needs at least 7 heads, got num_heads=4"),
    ],
)
def test_a_wrong_value_is_told(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("fixed_init", "smoke", overrides)


@pytest.mark.parametrize("name", [
    "steps", "batch_frames", "span_frames", "valid_utterances", "valid_every", "log_every", "save_every"
])  # fmt: skip
def test_counts_start_at_one(name):
    with pytest.raises(ValueError, match=f"pretrain.{name} must be at least 1, got 0"):
        PretrainConfig(**{name: 0})


def test_mistakes_in_all_sections_are_told_at_once():
    overrides = ["data.sise=3", "model.num_layers=x", "pretrain.steps=0", "attention.ini=log", "pretrain.clip=5"]
    with pytest.raises(ValueError) as told:  # noqa: PT011  # every part of the message is checked below
        load_recipe("fixed_init", "smoke", overrides)
    for part in ("no option 'sise'", "num_layers must be int, got 'x'", "steps must be at least 1", "no option 'ini'"):
        assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text", ["pretrain.steps", "steps=3", "=3", "pretrain=3", ".steps=3", "pretrain.=3", "pretrian.steps=3", ""]
)
def test_what_is_no_override_is_told(text):
    with pytest.raises(ValueError, match=r"is no override: write section.option=value; sections: data, model, "):
        load_recipe("fixed_init", "smoke", [text])


def test_an_override_that_is_no_yaml_is_told():
    with pytest.raises(ValueError, match=r"'data.root=\[a':1: is not YAML .*: quote the value"):
        load_recipe("fixed_init", "smoke", ["data.root=[a"])


def test_an_override_that_explodes_when_it_is_read_is_refused():
    levels = ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
    with pytest.raises(ValueError, match="aliases that make more than 200,000 values"):
        load_recipe("fixed_init", "smoke", [f"model.hidden_dim=[&a0 lol, {levels}]"])


@pytest.mark.parametrize("text", ["- a list", "model: [1, 2]", "model: 3"])
def test_a_recipe_without_sections_is_told(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml: a recipe or preset holds sections of 'name: value' lines"):
        config._read(path, config.SECTIONS)


def test_an_unknown_preset_or_upstream_is_answered_with_near_names():
    with pytest.raises(ValueError, match="unknown preset 'smoky': did you mean 'smoke'"):
        load_recipe("fixed_init", "smoky")
    with pytest.raises(ValueError, match="unknown upstream 'fixed': did you mean 'fixed_init'"):
        load_recipe("fixed", "smoke")


@pytest.mark.parametrize("section", ["data", "model", "pretrain", "probe", "timing", "attentoin"])
def test_a_recipe_may_hold_attention_only(here, section):
    (here / "fixed_init.yaml").write_text(f"attention: {{init: log}}\n{section}: {{hidden_dim: 8}}\n")
    with pytest.raises(ValueError, match=f"fixed_init.yaml: no section '{section}' here .*known: attention"):
        load_recipe("fixed_init", "smoke")


def test_a_preset_may_hold_known_sections_only(here):
    (here / "presets" / "mine.yaml").write_text("pretraining: {steps: 3}")
    with pytest.raises(ValueError, match=r"mine.yaml: no section 'pretraining' here .did you mean 'pretrain'"):
        load_recipe("self_attention", "mine")


def test_an_empty_section_is_no_section(here):
    (here / "presets" / "mine.yaml").write_text("data:\nmodel: {num_layers: 1}\n")
    assert load_recipe("self_attention", "mine").model.num_layers == 1


# --- from the command line


@pytest.mark.parametrize(
    "root", ["/data/LibriSpeech", "relative dir/with spaces", "with # and: colons", "~/speech", "täglich", "a=b"]
)
def test_a_folder_survives_the_command_line(root):
    overrides = as_overrides("data", {"corpus": "librispeech", "root": root, "size": None})
    assert len(overrides) == 2
    data = load_recipe("fixed_init", "smoke", overrides).data
    assert (data.corpus, data.root) == ("librispeech", root)


@pytest.mark.parametrize("root", ["2024", "/data/" + " ".join(["a folder with a long name"] * 5)])
def test_a_folder_of_digits_or_a_long_one_survives_the_command_line(root):
    assert load_recipe("fixed_init", "smoke", as_overrides("data", {"root": root})).data.root == root


@pytest.mark.parametrize("root", ["/data/\N{SPEAKER}", "2e5"])
def test_any_name_of_a_folder_survives_the_command_line(root):
    assert load_recipe("fixed_init", "smoke", as_overrides("data", {"root": root})).data.root == root


@pytest.mark.parametrize("text", ["data.pretrain_subsets={a: 1}", "data.root=${home}"])
def test_odd_values_are_told_in_one_line(text):
    with pytest.raises(ValueError, match="data"):
        load_recipe("fixed_init", "smoke", [text])


def test_a_batch_must_hold_a_crop():
    with pytest.raises(
        ValueError, match=r"pretrain.batch_frames=50 must hold at least one crop of model.max_frames=100"
    ):
        load_recipe("fixed_init", "smoke", ["pretrain.batch_frames=50"])


def test_the_corpus_gets_every_option_of_its_section(tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.0] * 1600, 16_000)
    (tmp_path / "manifest.csv").write_text("path,speaker,mood\na.wav,anna,glad\n")
    overrides = ["data.corpus=manifest", f"data.root={tmp_path}", "data.label=mood", "data.shared_speakers=true"]
    data = load_recipe("fixed_init", "smoke", overrides).data
    corpus = named_corpus(data)
    assert (corpus.utterances[0].labels["label"], corpus.shared_speakers) == ("glad", True)
    with pytest.raises(ValueError, match="'manifest' takes no split_lists"):
        named_corpus(replace(data, split_lists="lists"))
