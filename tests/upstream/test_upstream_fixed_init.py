"""The seven hand-crafted maps, number by number, and the logits that start from them."""

import math
from fractions import Fraction

import pytest
import torch
from s3prl_attention.upstream import load
from s3prl_attention.upstream.fixed_init.attention import Attention
from s3prl_attention.upstream.kernels.hand_crafted import NAMES, hand_crafted, start_logits

# The seven rules at n = 6: the weights of each row, and what they are divided by where their sum is not 1.
BY_HAND = {
    "identity": ["1 0 0 0 0 0", "0 1 0 0 0 0", "0 0 1 0 0 0", "0 0 0 1 0 0", "0 0 0 0 1 0", "0 0 0 0 0 1"],
    "next": ["0 1 0 0 0 0", "0 0 1 0 0 0", "0 0 0 1 0 0", "0 0 0 0 1 0", "0 0 0 0 0 1", "0 0 0 0 0 1"],
    "previous": ["1 0 0 0 0 0", "1 0 0 0 0 0", "0 1 0 0 0 0", "0 0 1 0 0 0", "0 0 0 1 0 0", "0 0 0 0 1 0"],
    "left context": [
        "1 0 0 0 0 0", "0 1 0 0 0 0", "1 0 0 0 0 0", "1 8 0 0 0 0 / 9", "1 8 27 0 0 0 / 36", "1 8 27 64 0 0 / 100",
    ],
    "right context": [
        "0 0 64 27 8 1 / 100", "0 0 0 27 8 1 / 36", "0 0 0 0 8 1 / 9", "0 0 0 0 0 1", "0 0 0 0 1 0", "0 0 0 0 0 1",
    ],
    "towards the end": ["1 8 27 64 125 216 / 441"] * 6,
    "towards the start": ["216 125 64 27 8 1 / 441"] * 6,
}  # fmt: skip


def row(text: str) -> list[float]:
    weights, _, total = text.partition(" / ")
    return [float(Fraction(int(weight), int(total or 1))) for weight in weights.split()]


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_the_one_written_by_hand(name):
    want = torch.tensor([row(text) for text in BY_HAND[name]])
    torch.testing.assert_close(hand_crafted(6)[NAMES.index(name)], want)


def test_there_are_seven_rules():
    assert list(BY_HAND) == list(NAMES)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 100, 1000])
def test_rows_sum_to_one(num_frames):
    maps = hand_crafted(num_frames)
    assert maps.shape == (7, num_frames, num_frames)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(7, num_frames))


@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_a_row_that_its_rule_leaves_empty_is_identity(num_frames):
    maps, identity = hand_crafted(num_frames), torch.eye(num_frames)
    empty = {"next": [-1], "previous": [0], "left context": [0, 1], "right context": [-1, -2]}
    for name, rows in empty.items():
        for index in rows[:num_frames]:
            assert torch.equal(maps[NAMES.index(name)][index], identity[index]), f"row {index} of {name!r}"


@pytest.mark.parametrize("eps", [1e-2, 1e-4, 1e-6])
def test_log_start_reproduces_the_maps_to_within_eps(eps):
    num_frames = 50
    maps = hand_crafted(num_frames).double()
    logits = start_logits(maps, "log", eps)
    weights = logits.softmax(-1)
    torch.testing.assert_close(weights, (maps + eps) / (1 + num_frames * eps))
    assert (weights - maps).abs().max() <= num_frames * eps
    assert (weights - maps)[maps == 0].max() <= eps
    torch.testing.assert_close(logits.amax(-1), torch.zeros(7, num_frames).double(), rtol=0, atol=1e-12)


def test_raw_start_is_almost_flat_the_published_slip():
    maps, flat = hand_crafted(512), math.log(512)
    entropy = {init: mean_entropy(start_logits(maps, init, 1e-4).softmax(-1)) for init in ("raw", "log")}
    assert entropy["raw"].min() > 0.999 * flat
    identity = NAMES.index("identity")
    assert float(entropy["raw"][identity]) == pytest.approx(6.236, abs=1e-3)  # of 6.238
    assert entropy["log"][identity] < 0.2 * flat
    assert entropy["log"].max() < 0.95 * flat


def mean_entropy(weights: torch.Tensor) -> torch.Tensor:
    return -(weights * weights.log()).sum(-1).mean(-1)


@pytest.mark.parametrize(("init", "same"), [("log", 7), ("raw", 7), ("random", 0)])
def test_seven_heads_start_from_the_maps_and_the_others_from_noise(init, same):
    logits = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        attention = Attention(hidden_dim=40, num_heads=10, max_frames=40, init=init)
        logits.append(attention.core.logits.detach())
    for head in range(10):
        assert torch.equal(logits[0][head], logits[1][head]) == (head < same), f"head {head}"
    noise = logits[0][same:]
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    if same:
        torch.testing.assert_close(logits[0][:same], start_logits(hand_crafted(40), init, 1e-4))


def test_the_default_is_log_and_everything_is_trained():
    attention = Attention(hidden_dim=16, num_heads=8, max_frames=20)
    torch.testing.assert_close(attention.core.logits[:7].detach(), start_logits(hand_crafted(20), "log", 1e-4))
    assert attention.core.logits.requires_grad


def test_the_maps_of_the_upstream_are_the_hand_crafted_ones():
    attention = load("fixed_init", hidden_dim=16, num_heads=8, num_layers=1, max_frames=20).encoder.layers[0].attention
    weights = attention.weights(torch.randn(2, 20, 16), None)
    torch.testing.assert_close(weights[:, :7], hand_crafted(20).expand(2, -1, -1, -1), atol=20e-4, rtol=0)


def test_seven_heads_are_enough_and_six_are_an_error():
    load("fixed_init", hidden_dim=14, num_heads=7, num_layers=1, max_frames=10)
    with pytest.raises(ValueError, match="needs at least 7 heads, got num_heads=6"):
        load("fixed_init", hidden_dim=12, num_heads=6, num_layers=1, max_frames=10)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"init": "lag"}, "no init 'lag': did you mean 'log'"),
        ({"init": ""}, "known: log, maps, random, raw"),
        ({"eps": 0.0}, "0 < eps < 1, got 0.0"),
        ({"eps": 1.0}, "0 < eps < 1, got 1.0"),
        ({"eps": -1e-4}, "0 < eps < 1"),
        ({"eps": math.nan}, "0 < eps < 1, got nan"),
    ],
)
def test_a_start_that_does_not_exist_is_refused(own, message):
    with pytest.raises(ValueError, match=message):
        Attention(hidden_dim=16, num_heads=8, max_frames=10, **own)


def test_init_maps_without_a_file_is_told_with_the_command_that_makes_one():
    with pytest.raises(ValueError, match=r"^fixed_init starts from the maps of a trained self_attention .*mean_maps"):
        load("fixed_init", init="maps")


def test_a_file_of_maps_that_would_not_be_read_is_refused():
    with pytest.raises(ValueError, match=r"reads maps=some\.file with init=maps alone, got init=log"):
        load("fixed_init", maps="some.file")
