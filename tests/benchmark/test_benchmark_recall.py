"""Recall of the LSH family on a trained encoder over real speech: far above chance, and twins agree."""

import pytest
from s3prl_attention.benchmark.recall import RANDOM, main, recall, table
from s3prl_attention.recipes.config import load_recipe
from s3prl_attention.recipes.corpora import load_corpus
from s3prl_attention.recipes.pretrain import pretrain, pretrain_part
from s3prl_attention.upstream import load

SIZES = ["model.hidden_dim=64", "model.num_heads=4", "model.max_frames=200", "pretrain.steps=60"]


@pytest.fixture(scope="module")
def tallies(librispeech_mini, tmp_path_factory):
    """Of six utterances, after 60 steps of pre-training: enough for queries that are no longer those of the start."""
    speech = pretrain_part(load_corpus("librispeech", root=librispeech_mini), [])
    recipe = load_recipe("shared_qk", "smoke", [*SIZES, "pretrain.batch_frames=800"])
    done = pretrain(recipe, speech, tmp_path_factory.mktemp("shared_qk"))
    return recall(done.checkpoint, speech, num_utterances=6)


def of(tallies, text):
    return {label: tally for label, tally in tallies.items() if text in label}


def test_every_member_is_well_above_chance_and_below_the_exact_top_keys(tallies):
    chance = tallies[f"random ({RANDOM})"]
    best = tallies["exact top keys"]
    assert best.recall == 1.0
    assert 0.1 < chance.recall < 0.3, "32 of at most 200 keys"
    members = of(tallies, "bits")
    assert len(members) == 6 * 2 * 2
    for label, tally in members.items():
        wanted = 1.5 if "exact" in label else 1.3
        assert wanted * chance.recall < tally.recall < 1, f"{label}: {tally.recall:.3f}, chance {chance.recall:.3f}"
        assert chance.kept < tally.kept < best.kept, label


@pytest.mark.parametrize("mode", ["exact, 64", "exact, 256", "bucketed, 64", "bucketed, 256"])
def test_twins_pick_the_same_keys(tallies, mode):
    def found(name):
        return tallies[f"{name}, {mode} bits"].found

    def same(name):
        """But for the odd bit of a hash that rounding turns, on some machines."""
        return pytest.approx(found(name), rel=1e-3)

    assert found("xbox_qnf") == same("xbox")
    assert found("simple_lsh") == same("xbox")
    assert found("sign_alsh_qnf") == same("sign_alsh")
    assert found("sign_alsh") != same("xbox")


def test_more_bits_and_a_search_over_all_keys_find_more(tallies):
    for name in ("sign_alsh", "xbox", "simple_alsh"):
        assert tallies[f"{name}, exact, 64 bits"].recall < tallies[f"{name}, exact, 256 bits"].recall
        assert tallies[f"{name}, bucketed, 256 bits"].recall < tallies[f"{name}, exact, 256 bits"].recall


def test_the_table_has_a_row_for_each_with_an_interval(tallies):
    lines = table(tallies).splitlines()
    assert len(lines) == 2 + len(tallies)
    assert all(line.count("|") == 4 for line in lines)
    low, high = tallies["xbox, exact, 64 bits"].interval()
    assert low < tallies["xbox, exact, 64 bits"].recall < high


def test_a_checkpoint_of_another_upstream_is_refused(tmp_path, librispeech_mini):
    load("self_attention", hidden_dim=16, num_heads=2, num_layers=1).save(tmp_path / "checkpoint")
    with pytest.raises(SystemExit, match="is a checkpoint of upstream 'self_attention', not of 'shared_qk'"):
        main([str(tmp_path / "checkpoint"), "--corpus", "librispeech", "--root", str(librispeech_mini)])
