"""Dense Synthesizers: that the fused form is the network it stands for, and the ends between which the mixture lies.

Legend: B batch, n frames, D model dim, H heads, K head dim.
"""

import math
from functools import partial

import pytest
import torch
from s3prl_attention.upstream.kernels.synthesizer import PositionLogits
from s3prl_attention.upstream.self_attention.attention import Attention as SelfAttention
from s3prl_attention.upstream.synthesizer_dense.attention import Attention as Dense
from s3prl_attention.upstream.synthesizer_dense.reference import attend as attend_dense
from s3prl_attention.upstream.synthesizer_dense_m.attention import Attention as Mixed
from s3prl_attention.upstream.synthesizer_dense_m.reference import attend as attend_mixed
from s3prl_attention.upstream.synthesizer_random.attention import Attention as Random
from upstream_fixtures import largest_result, mask

BOTH = pytest.mark.parametrize(
    ("kind", "attend"), [(Dense, attend_dense), (Mixed, attend_mixed)], ids=["dense", "mixed"]
)


def built(kind, num_frames=20, **own):
    torch.manual_seed(0)
    return kind(hidden_dim=32, num_heads=4, max_frames=num_frames, **own)


def test_the_map_is_the_one_computed_by_hand():
    attention = Dense(hidden_dim=4, num_heads=2, max_frames=5, bottleneck=1)
    positions = attention.positions
    with torch.no_grad():
        positions.inner_weight.copy_(torch.tensor([[[1.0, 2.0]], [[-1.0, 1.0]]]))
        positions.inner_bias.copy_(torch.tensor([[-1.0], [0.5]]))
        positions.weight.copy_(torch.tensor([[[1.0], [2.0], [3.0], [9.0], [9.0]], [[0.0], [1.0], [0.0], [9.0], [9.0]]]))
        positions.bias.copy_(torch.tensor([[0.5, 0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 1.0, 9.0, 9.0]]))
    x = torch.tensor([[[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 2.0, 2.0]]])
    inner = [[2.0, 0.0, 1.0], [0.0, 1.5, 0.5]]  # relu(x0 + 2 x1 - 1), relu(x3 - x2 + 0.5)
    logits = torch.tensor([[[h + 0.5, 2 * h, 3 * h] for h in inner[0]], [[0.0, h, 1.0] for h in inner[1]]])
    torch.testing.assert_close(attention.weights(x, None)[0], logits.softmax(-1))


@BOTH
@pytest.mark.parametrize("bottleneck", [1, 3, 7, 8, 20])
def test_factors_fewer_or_more_than_a_head_has_dimensions(kind, attend, bottleneck):
    """K is 8: the fused kernel needs zeros on one side or on the other."""
    attention, x = built(kind, bottleneck=bottleneck), torch.randn(2, 20, 32)
    for keep in (None, mask(20, 13)):
        torch.testing.assert_close(attention(x, keep), attend(attention, x, keep), atol=1e-5, rtol=1e-5)


@BOTH
@pytest.mark.parametrize(("padded", "bottleneck"), [(False, 16), (True, 3)])
def test_no_map_is_made_forward_or_backward(kind, attend, padded, bottleneck):
    attention, x = built(kind, 1024, bottleneck=bottleneck), torch.randn(2, 1024, 32)
    keep = mask(1024, 700) if padded else None
    assert largest_result(attention, x, keep) < 1024 * 1024
    plain = largest_result(partial(attend, attention), x, keep)
    assert plain >= 2 * 4 * 1024 * 1024, "the watch must see what the plain form makes"


def test_positions_beyond_the_input_are_left_alone():
    attention = built(Dense)
    attention(torch.randn(2, 12, 32), None).square().sum().backward()
    for parameter in (attention.positions.weight, attention.positions.bias):
        assert parameter.grad[:, :12].abs().amin(0).max() > 0
        assert not parameter.grad[:, 12:].any()


def test_too_long_an_input_is_the_same_error_for_every_synthesizer():
    messages = set()
    for kind in (Dense, Mixed, Random):
        with pytest.raises(
            ValueError, match=r"21 stacked frames are more than max_frames=20.*long_input=windows"
        ) as error:
            built(kind)(torch.randn(1, 21, 32), None)
        messages.add(str(error.value))
    assert len(messages) == 1


def ends(balance):
    """A mixture with this balance, and the two attentions that it mixes."""
    mixed, dense, dot = (built(kind) for kind in (Mixed, Dense, SelfAttention))
    with torch.no_grad():
        mixed.balance.fill_(balance)
    state = mixed.state_dict()
    dot.load_state_dict({name: state[name] for name in dot.state_dict()})
    value = {f"value.{part}": state[f"query_key_value.{part}"][64:] for part in ("weight", "bias")}
    dense.load_state_dict({name: value.get(name, state.get(name)) for name in dense.state_dict()})
    return mixed, dense, dot


@pytest.mark.parametrize(("balance", "end"), [(40.0, 0), (-40.0, 1)], ids=["dense", "dot products"])
def test_the_mixture_has_the_two_attentions_at_its_ends(balance, end):
    mixed, *pure = ends(balance)
    x, keep = torch.randn(2, 20, 32), mask(20, 13)
    torch.testing.assert_close(mixed(x, keep), pure[end](x, keep), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed.weights(x, keep), pure[end].weights(x, keep), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mixed(x, keep), pure[1 - end](x, keep), atol=1e-2)


def test_the_mixture_starts_in_the_middle_and_each_head_has_its_own():
    mixed, dense, dot = ends(0.0)
    assert torch.equal(built(Mixed).balance.detach(), torch.zeros(4))
    x = torch.randn(1, 20, 32)
    middle = (dense.weights(x, None).log() + dot.weights(x, None).log()) / 2  # the mean of logits, but for a constant
    torch.testing.assert_close(mixed.weights(x, None), middle.softmax(-1), atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        mixed.balance[2] = 40.0
    torch.testing.assert_close(mixed.weights(x, None)[:, 2], dense.weights(x, None)[:, 2])
    torch.testing.assert_close(mixed.weights(x, None)[:, 3], middle.softmax(-1)[:, 3], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_logits_start_as_large_as_those_of_the_random_synthesizer():
    torch.manual_seed(0)
    positions = PositionLogits(hidden_dim=256, num_heads=8, max_frames=400, bottleneck=16)
    query, key = positions(torch.randn(2, 400, 256))
    assert float((query @ key.transpose(-1, -2)).std()) == pytest.approx(1, abs=0.1)


@BOTH
def test_dropout_of_weights_is_for_training_alone(kind, attend):
    attention, x = built(kind, dropout=0.5), torch.randn(2, 20, 32)
    torch.testing.assert_close(attention.eval()(x, None), attend(attention, x, None), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(attention.train()(x, None), attend(attention, x, None), atol=1e-2)


@pytest.mark.parametrize("kind", [Dense, Mixed])
def test_a_bottleneck_without_room_is_refused(kind):
    with pytest.raises(ValueError, match="bottleneck must be at least 1, got 0"):
        built(kind, bottleneck=0)
    assert math.prod(built(kind, bottleneck=1).positions.weight.shape) == 4 * 20
