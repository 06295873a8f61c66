"""The controls: one mean for everybody, nobody for anybody, and no weights to drop.

Legend: B batch, n frames, D model dim.
"""

import pytest
import torch
from s3prl_attention.upstream import load
from s3prl_attention.upstream.kernels.weightless import weighted_mean
from s3prl_attention.upstream.no_attention.attention import Attention as NoAttention
from s3prl_attention.upstream.uniform.attention import Attention as Uniform
from upstream_fixtures import largest_result, mask

SIZES = {"hidden_dim": 8, "num_heads": 2, "max_frames": 4}


def difference_of_one_frame(attention, keep):
    """What changing frame 3 of (1, 6, 8) changes in each frame."""
    x = torch.randn(1, 6, 8)
    other = x.clone()
    other[0, 3] += 1
    return (attention(x, keep) - attention(other, keep))[0]


def test_without_attention_a_frame_changes_itself_alone():
    changed = difference_of_one_frame(NoAttention(**SIZES), None).abs().amax(-1) > 0
    assert changed.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize(("num_valid", "share"), [(6, 1 / 6), (5, 1 / 5)])
def test_in_the_mean_a_frame_changes_all_valid_frames_by_its_share(num_valid, share):
    attention, keep = Uniform(**SIZES), mask(6)
    keep[0, num_valid:] = False
    got = difference_of_one_frame(attention, keep)
    full = attention.output.weight @ attention.value.weight @ -torch.ones(8)
    torch.testing.assert_close(got[:num_valid], (share * full).expand(num_valid, -1), atol=1e-6, rtol=1e-5)
    assert not got[num_valid:].any()


@pytest.mark.parametrize("attention", [Uniform(**SIZES), NoAttention(**SIZES)], ids=["uniform", "no_attention"])
def test_no_map_is_made(attention):
    assert largest_result(attention, torch.randn(2, 1024, 8), mask(1024, 700)) <= 2 * 1024 * 8


def test_the_mean_projects_one_vector_an_utterance():
    attention, shapes = Uniform(**SIZES), []
    for layer in (attention.value, attention.output):
        layer.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    attention(torch.randn(3, 50, 8), None)
    assert shapes == [(3, 1, 8), (3, 1, 8)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mean_of_many_frames_in_half_precision_neither_overflows_nor_loses_digits(dtype):
    x = torch.full((1, 4096, 3), 100.0).to(dtype) + torch.arange(3).to(dtype)
    assert torch.equal(weighted_mean(x, torch.ones(1, 4096, dtype=torch.bool)), x[:, :1])


def test_a_mean_without_weight_is_zero():
    assert not weighted_mean(torch.randn(2, 5, 3), torch.zeros(2, 5)).any()


@pytest.mark.parametrize("name", ["uniform", "no_attention", "fixed_patterns"])
def test_dropout_of_weights_that_do_not_exist_is_refused_with_the_cure(name):
    with pytest.raises(
        ValueError, match=r"no n x n weights .* got dropout=0\.1: leave model\.attention_dropout at 0"
    ) as error:
        load(name, attention_dropout=0.1)
    assert "\n" not in str(error.value)
    load(name, attention_dropout=0.0)
