"""Seeds: what a score is the mean of, and the spread of pre-training and probe apart."""

import itertools
from statistics import stdev

import pytest
from s3prl_attention.benchmark.seeds import Seeds, sort_seeds

SCORES = {(0, 0): 0.50, (1, 0): 0.60, (2, 0): 0.58, (0, 1): 0.51, (0, 2): 0.53}  # what --seed 0 1 2 makes


def cells(scores: dict[tuple[int, int], float]) -> list[dict]:
    return [
        {"cell": {"seed": seed, "probe_seed": probe}, "scores": {"test": score}}
        for (seed, probe), score in scores.items()
    ]


def pairs(seeds: Seeds) -> list[tuple[int, int]]:
    return [(cell["cell"]["seed"], cell["cell"]["probe_seed"]) for cell in seeds.averaged]


def test_a_score_is_the_mean_over_pre_training_seeds_with_one_probe_seed():
    for order in itertools.permutations(cells(SCORES)):
        seeds = sort_seeds(order, pretrained=True)
        assert pairs(seeds) == [(0, 0), (1, 0), (2, 0)]
        assert (seeds.pretraining, seeds.probes, seeds.note) == ((0, 1, 2), (0, 1, 2), "")
        assert seeds.pretraining_spread == pytest.approx(stdev([0.50, 0.60, 0.58]))
        assert seeds.probe_spread == pytest.approx(stdev([0.50, 0.51, 0.53]))


def test_the_first_seed_need_not_be_the_lowest():
    seeds = sort_seeds(cells({(2, 2): 0.5, (0, 2): 0.6, (1, 2): 0.7, (2, 0): 0.4, (2, 1): 0.3}), pretrained=True)
    assert pairs(seeds) == [(0, 2), (1, 2), (2, 2)]
    assert seeds.probe_spread == pytest.approx(stdev([0.5, 0.4, 0.3]))
    alone = sort_seeds(cells({(2, 2): 0.5, (2, 0): 0.4, (2, 1): 0.3}), pretrained=True)
    assert pairs(alone) == [(2, 2)]


def test_what_is_not_pre_trained_is_the_mean_over_probe_seeds():
    seeds = sort_seeds(cells({(0, 2): 0.53, (0, 0): 0.50, (0, 1): 0.51, (1, 1): 0.51}), pretrained=False)
    assert pairs(seeds) == [(0, 0), (0, 1), (0, 2)]
    assert (seeds.pretraining, seeds.probes, seeds.pretraining_spread) == ((), (0, 1, 2), None)
    assert seeds.probe_spread == pytest.approx(stdev([0.50, 0.51, 0.53]))


def test_one_seed_has_no_spread():
    seeds = sort_seeds(cells({(0, 0): 0.5}), pretrained=True)
    assert (seeds.pretraining_spread, seeds.probe_spread) == (None, None)


def test_old_results_that_changed_both_seeds_at_once_are_averaged_and_say_so():
    seeds = sort_seeds(cells({(0, 0): 0.5, (1, 1): 0.6, (2, 2): 0.7}), pretrained=True)
    assert pairs(seeds) == [(0, 0), (1, 1), (2, 2)]
    assert seeds.probe_spread is None
    assert "not all probed with the same seed" in seeds.note


def test_two_results_for_the_same_seeds_are_not_taken_for_two_seeds():
    seeds = sort_seeds([*cells({(0, 0): 0.5}), *cells({(0, 0): 0.9})], pretrained=True)
    assert [cell["scores"]["test"] for cell in seeds.averaged] == [0.5]
    assert seeds.note == "seed 0, probe seed 0: more than one result file, only the first counts"
