"""Hidden states as pictures: a fair sample, the right frames, numbers that mean what they say, nothing trained."""

import json
import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from s3prl_attention.benchmark.cli import _parse as benchmark_words
from s3prl_attention.benchmark.pages import where_made
from s3prl_attention.benchmark.prepare import frozen_upstream, load_speech
from s3prl_attention.benchmark.projection import pca
from s3prl_attention.benchmark.settings import load_study
from s3prl_attention.benchmark.states import command, picture
from s3prl_attention.benchmark.states.measures import Share, distances, nearest, silhouette, standardised
from s3prl_attention.benchmark.states.phone_classes import broad_class, without_class
from s3prl_attention.benchmark.states.sample import phone_sample, speaker_sample
from s3prl_attention.benchmark.states.view import Numbers, Seen, View, view
from s3prl_attention.downstream import feature_cache
from s3prl_attention.recipes.corpora import PhoneAlignment
from s3prl_attention.recipes.corpora.corpus import ARPABET, PHONE_SET
from states_fixtures import corpus, store


def test_every_phone_of_our_corpora_has_one_broad_class():
    assert {broad_class(phone) for phone in PHONE_SET} == set(picture.BROAD_CLASSES) - {"other"}
    assert [phone for phone in ARPABET if broad_class(phone) == "vowels"] == [p for p in ARPABET if p[0] in "AEIOU"]
    assert [broad_class(phone) for phone in ("SIL", "CH", "NG", "Y")] == [
        "silence",
        "fricatives",
        "nasals",
        "approximants",
    ]
    assert without_class(["AA", "ʃ", "17"]) == ["17", "ʃ"]


def test_frames_are_the_middles_of_segments_as_many_of_each_phone():
    made = corpus("a", "b", "c")
    sample = phone_sample(made, per_phone=4)
    assert {phone: int((sample.names == phone).sum()) for phone in set(sample.names)} == dict.fromkeys(
        ("AA", "L", "M", "S", "SIL", "T"), 4
    )
    for utterance, frame, phone in zip(sample.utterances, sample.frames, sample.names, strict=True):
        labels = utterance.phones.frame_labels(utterance.num_frames)
        segment = np.flatnonzero(labels == PHONE_SET.index(phone))
        assert labels[frame] == PHONE_SET.index(phone)
        assert min(segment) < frame < max(segment)  # neither the first nor the last of its phone
    assert sample.groups.tolist() == [u.speaker for u in sample.utterances]
    pairs = [(u.id, int(frame)) for u, frame in zip(sample.utterances, sample.frames, strict=True)]
    assert len(set(pairs)) == len(pairs)
    turned = replace(made, utterances=made.utterances[::-1])
    assert phone_sample(turned, per_phone=4).utterances == sample.utterances


def test_at_most_so_many_utterances_are_read_and_one_speaker_is_not_enough():
    assert len({u.id for u in phone_sample(corpus("a", "b", each=9), most=5).utterances}) == 5
    assert phone_sample(corpus("a")) is None
    assert phone_sample(corpus("a", "b", aligned=False)) is None


def test_a_single_phone_has_nothing_to_stand_apart_from():
    one = PhoneAlignment(np.zeros(1), np.full(1, 0.6), np.zeros(1, np.int16))
    made = corpus("a", "b")
    assert phone_sample(replace(made, utterances=tuple(replace(u, phones=one) for u in made.utterances))) is None


@pytest.mark.parametrize("repeat", [1, 3])
def test_the_state_is_that_of_the_frame_under_the_label(tmp_path, repeat):
    made = corpus("a", "b")
    sample = phone_sample(made)
    states = sample.states(store(tmp_path / "s", made, repeat=repeat))
    assert states.shape == (len(sample.names), 3, 4)
    assert states[:, 0, 0].tolist() == (sample.frames // repeat).tolist()
    means = speaker_sample(made, 2).states(store(tmp_path / "m", made, repeat=repeat))
    np.testing.assert_allclose(means[:, 0, 0], (60 // repeat - 1) / 2)


def test_speakers_are_those_with_most_utterances_each_session_in_turn():
    rich, poor = corpus("a", "b", each=8), corpus("c", each=1)
    made = replace(rich, utterances=rich.utterances + poor.utterances)
    sample = speaker_sample(made, 2, per_speaker=6)
    assert sample.names.tolist() == ["a"] * 6 + ["b"] * 6
    for name in "ab":
        sessions = [u.chapter for u in sample.utterances if u.speaker == name]
        assert (sessions.count("0"), sessions.count("1")) == (3, 3)
    assert set(sample.groups) == {"a/0", "a/1", "b/0", "b/1"}
    assert "c" not in speaker_sample(made, 9).names  # two utterances only
    alone = speaker_sample(corpus("a", "b", chapters=1), 2)
    assert sorted(alone.groups) == sorted(u.id for u in alone.utterances)  # nobody has another session
    assert speaker_sample(corpus("a", each=3), 2) is None


def test_a_neighbour_of_the_own_group_does_not_count_and_chance_is_what_is_left():
    points = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]])
    classes, groups = np.array(list("xxyyx")), np.array(list("aabcc"))
    share = nearest(distances(points), classes, groups, groups)
    # 0 -> 5.0 y, no; 0.1 -> 5.0 y, no; 5.0 -> 5.2 y, yes; 5.2 -> 5.0 y, yes; 9 -> 5.0 y, no
    assert share.value == pytest.approx(2 / 5)
    assert share.chance == pytest.approx(np.mean([1 / 3, 1 / 3, 1 / 4, 1 / 3, 2 / 3]))
    assert share.interval[0] <= share.value <= share.interval[1]


def test_the_chance_share_is_what_random_points_have():
    generator = np.random.default_rng(0)
    classes = generator.choice(list("xxxyz"), 800)
    groups = generator.choice(list("abcdefgh"), 800)
    share = nearest(distances(generator.standard_normal((800, 9))), classes, groups, groups)
    assert share.value == pytest.approx(share.chance, abs=0.05)
    assert share.chance == pytest.approx(np.mean([np.mean(classes == c) for c in classes]), abs=0.02)


def test_silhouettes_know_chance_and_scales_do_not_matter():
    generator = np.random.default_rng(0)
    classes = np.repeat(list("xy"), 30)
    points = np.where(classes == "x", -5.0, 5.0)[:, None] + generator.standard_normal((60, 4))
    value, chance = silhouette(distances(points), classes)
    assert value > 0.6
    assert abs(chance) < 0.05
    np.testing.assert_allclose(standardised(points * [1, 5, 2, 0.5] + 7), standardised(points), atol=1e-3)
    assert standardised(points).std(0) == pytest.approx(1, abs=1e-3)


def test_states_that_hold_phone_and_speaker_are_seen_to_and_noise_is_not(tmp_path):
    made = corpus("a", "b", "c", "d", each=4)
    samples = {"phones": phone_sample(made), "speakers": speaker_sample(made, 4)}
    seen = view("toy", store(tmp_path / "s", made, repeat=1), samples)
    assert (seen.state, seen.num_states, seen.state_name) == (2, 3, "layer 2")
    middle, last = seen.seen["speakers"].by_state[1:]
    assert last.name.value == 1
    assert middle.name.value < 0.6
    middle, last = seen.seen["phones"].by_state[1:]
    assert last.name.value == last.broad.value == 1  # though other speakers are far away
    assert middle.name.value < 0.5
    for one in seen.seen.values():
        assert one.pca.shape == one.tsne.shape == (len(one.pca), 2)
        assert 0 < one.ratios.sum() <= 1


def test_a_layer_is_chosen_and_features_have_only_one(tmp_path):
    made = corpus("a", "b")
    samples = {"speakers": speaker_sample(made, 2)}
    three, one = store(tmp_path / "3", made), store(tmp_path / "1", made, num_states=1)
    for state, name in ((0, "input"), (1, "layer 1"), (None, "layer 2")):
        seen = view("toy", three, samples, state)
        drawn = samples["speakers"].states(three)[:, seen.state]
        np.testing.assert_allclose(seen.seen["speakers"].pca, pca(standardised(drawn))[0])
        assert seen.state_name == name
    assert view("mel", one, samples, 2).state_name == "features"
    with pytest.raises(ValueError, match=r"toy has no layer 3: its states are 0 \(the input\) to 2"):
        view("toy", three, samples, 3)


def test_phones_of_one_class_are_judged_by_themselves(tmp_path):
    made = corpus("a", "b", "c")
    renamed = replace(made, phone_set=tuple(f"{number}" for number in range(len(PHONE_SET))))
    sample = phone_sample(renamed)
    seen = view("toy", store(tmp_path / "s", made, repeat=1), {"phones": sample}).seen["phones"].by_state[-1]
    assert seen.broad is None
    assert "silhouette of phones" in picture.caption("phones", seen)
    assert list(picture.key_of("phones", sample).styles)[-1] == "other"


def full_view(label: str, samples) -> View:
    """The widest numbers there are, at places that do not matter."""
    share, flat = Share(1.0, 1.0, (1.0, 1.0)), Numbers(Share(1.0, 1.0, None), None, -0.55, -0.55)
    seen = {
        name: Seen(
            np.random.default_rng(0).standard_normal((len(sample.names), 2)),
            np.array([0.5, 0.25]),
            np.zeros((len(sample.names), 2)),
            (replace(flat, broad=share if name == "phones" else None),),
        )
        for name, sample in samples.items()
    }
    return View(label, 0, 1, seen)


def test_words_in_the_picture_do_not_run_into_each_other():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    made = corpus("a", "b")
    samples = {"phones": phone_sample(made), "speakers": speaker_sample(made, 2)}
    drawn = picture.figure([full_view("mel", samples), full_view("synthesizer_dense_m[option=true]", samples)], samples)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    renderer = canvas.get_renderer()
    words = [
        text.get_window_extent(renderer)
        for band in drawn.subfigs
        for text in [
            *band.texts,
            *band.legends,
            *(part for axes in band.axes for part in (axes.patch, axes.xaxis.label)),
        ]
    ]
    assert len(words) == 4 + 2 * (3 + 2 * 4)
    for place, box in enumerate(words):
        assert 0 <= box.x0 < box.x1 <= drawn.bbox.width
        assert not [other for other in words[place + 1 :] if box.overlaps(other)]


def test_many_upstreams_make_several_pictures_the_same_each_time():
    samples = {"speakers": speaker_sample(corpus("a", "b"), 2)}
    views = [full_view(f"row {number}", samples) for number in range(picture.ROWS + 1)]
    drawn = picture.draw(views, samples)
    assert list(drawn) == ["states-1.png", "states-1.svg", "states-2.png", "states-2.svg"]
    assert picture.draw(views, samples) == drawn
    assert drawn["states-1.png"].startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory, synthetic_tiny):
    """A result folder with a trained ``fixed_init`` and a variant of it."""
    del synthetic_tiny  # made before
    out = tmp_path_factory.mktemp("result")
    for row in ("fixed_init", "fixed_init[init=random]"):
        study = load_study(row, "smoke", ["pretrain.steps=2"])
        frozen_upstream(study, load_speech(study.recipe.data), 0, out, "cpu")
    return out


def test_a_finished_run_gives_page_and_numbers_and_nothing_is_made_again(small_run, monkeypatch, capsys):
    monkeypatch.setattr(command, "phone_sample", partial(phone_sample, per_phone=2))
    words = ["--preset", "smoke", "pretrain.steps=2", "--out", str(small_run)]
    command.main(words)
    folder = small_run / "states" / "synthetic-tiny" / "smoke" / "seed0--pretrain.steps=2"
    assert sorted(path.name for path in folder.iterdir()) == ["states.json", "states.md", "states.png", "states.svg"]
    assert str(folder / "states.md") in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    page, told = first["states.md"].decode(), json.loads(first["states.json"])
    assert f"    {shlex.join(['python', '-m', 's3prl_attention.benchmark', 'states', *words])}\n" in page
    assert told["schema"] == 1
    assert "\n".join(where_made([told["environment"]])) in page
    assert {(row["upstream"], row["state"], row["drawn"]) for row in told["table"]} == {
        ("mel", 0, True), ("fixed_init", 0, False), ("fixed_init", 1, False), ("fixed_init", 2, True)
    }  # fmt: skip
    for row in told["table"]:
        if row["drawn"] and row["sample"] == "speakers":
            assert f"{100 * row['same_name']['share']:.1f} (" in page

    def refuse(*_, **__):
        raise AssertionError("hidden states are stored already")

    monkeypatch.setattr(feature_cache, "extract", refuse)
    command.main(words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_a_row_in_brackets_is_another_upstream_and_a_layer_can_be_chosen(small_run, monkeypatch):
    monkeypatch.setattr(command, "phone_sample", lambda corpus: None)
    rows = ["fixed_init[init=random]", "fixed_init"]
    command.main(
        ["--upstream", *rows, "--layer", "1", "--preset", "smoke", "pretrain.steps=2", "--out", str(small_run)]
    )
    folder = small_run / "states" / "synthetic-tiny" / "smoke" / "seed0--layer1--pretrain.steps=2"
    told = json.loads((folder / "states.json").read_text())
    drawn = {row["upstream"]: row["silhouette"] for row in told["table"] if row["drawn"]}
    assert list(drawn) == rows
    assert drawn[rows[0]] != drawn[rows[1]]
    assert "| fixed_init | layer 1 |" in (folder / "states.md").read_text()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--upstream", "xbox"],
            "has no xbox pre-trained on synthetic-tiny with preset smoke and seed 0: make it with",
        ),
        (["pretrain.steps=3"], "has no self_attention pre-trained"),
        (["--upstream", "fixed_init", "--seed", "4"], "seed 4 (what it has, fixed_init--seed0--"),
        (["--upstream", "fixed_init", "--layer", "9"], "--layer must be 0 (the input) to 2 for fixed_init, got 9"),
        (["--seed", "-1"], "a seed must be a whole number from 0 and below 2**63, got -1"),
        (["--speakers", "1"], "--speakers must be 2 to 42"),
        (["--upstream", "nobody"], "nobody"),
        (["--upstream", "fixed_init[init=raw]"], "has no fixed_init[init=raw] pre-trained on synthetic-tiny"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(small_run, words, why):
    given = [*words, "--preset", "smoke", "--out", str(small_run)]
    steps = [] if any(word.startswith("pretrain") for word in words) else ["pretrain.steps=2"]
    with pytest.raises(SystemExit) as ended:
        command.main([*given, *steps])
    assert why in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


def test_the_command_that_is_told_asks_for_the_same_settings(small_run):
    with pytest.raises(SystemExit) as ended:
        command.main(
            [
                "--upstream",
                "xbox",
                "fixed_init[init=raw]",
                "--preset",
                "smoke",
                "--seed",
                "2",
                "--out",
                str(small_run),
                "probe.num_epochs=3",
            ]
        )
    told = shlex.split(str(ended.value.code).partition("make it with python run_benchmark.py ")[2])
    options, overrides = benchmark_words(told)
    assert (options.upstream, options.preset, options.seed, options.out) == (
        ["xbox", "fixed_init[init=raw]"],
        "smoke",
        [2],
        small_run,
    )
    assert overrides == ["probe.num_epochs=3"]
