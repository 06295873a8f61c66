"""Hand-crafted maps in linear time: that they are those maps, at any length, to the last digit, and made by no map.

Legend: B batch, n frames, H heads, K head dim.
"""

from functools import partial

import pytest
import torch
from s3prl_attention.upstream import load
from s3prl_attention.upstream.fixed_patterns.attention import Attention
from s3prl_attention.upstream.fixed_patterns.reference import attend
from s3prl_attention.upstream.kernels.fixed_patterns import mix_patterns
from s3prl_attention.upstream.kernels.hand_crafted import NAMES, hand_crafted
from upstream_fixtures import largest_result, mask

LEFT, RIGHT = NAMES.index("left context"), NAMES.index("right context")


def built(num_heads=12, head_dim=4):
    return Attention(hidden_dim=num_heads * head_dim, num_heads=num_heads, max_frames=8)


def maps(num_frames, keep=None, num_heads=12):
    batch = 1 if keep is None else len(keep)
    return built(num_heads).weights(torch.randn(batch, num_frames, 4 * num_heads), keep)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 33, 101, 257])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_seven_heads_are_the_hand_crafted_maps(name, num_frames):
    head = NAMES.index(name)
    torch.testing.assert_close(maps(num_frames)[0, head], hand_crafted(num_frames)[head], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("lengths", [(9, 4, 1), (5, 33, 2)])
def test_the_maps_are_those_of_each_utterances_own_length(lengths):
    keep = mask(*lengths)
    for row, length in zip(maps(max(lengths), keep), lengths, strict=True):
        torch.testing.assert_close(row[:7, :length, :length], hand_crafted(length))
        assert not row[:, length:].any()
        assert not row[:, :, length:].any()


@pytest.mark.parametrize(
    ("head", "looks_at"),
    [
        (8, [2, 3, 4, 3, 4]),
        (9, [0, 1, 0, 1, 2]),
        (10, [3, 4, 2, 3, 4]),
        (11, [0, 1, 2, 0, 1]),
        (12, [4, 1, 2, 3, 4]),
        (13, [0, 1, 2, 3, 0]),
        (14, [0, 1, 2, 3, 4]),  # 5 frames on: outside everywhere
    ],
)
def test_the_other_heads_look_further_and_further(head, looks_at):
    """Heads counted from 1, as the README does."""
    weights = maps(5, num_heads=14)[0, head - 1]
    assert weights.argmax(-1).tolist() == looks_at
    assert torch.equal(weights.sort(-1).values[:, -2:], torch.tensor([[0.0, 1.0]]).expand(5, -1))


# The seven rules at n = 6 when frames 1 and 4 are not valid: rows 0, 2, 3, 5.
WITH_GAPS = {
    "identity": ["1 0 0 0 0 0", "0 0 1 0 0 0", "0 0 0 1 0 0", "0 0 0 0 0 1"],
    "next": ["1 0 0 0 0 0", "0 0 0 1 0 0", "0 0 0 1 0 0", "0 0 0 0 0 1"],
    "previous": ["1 0 0 0 0 0", "0 0 1 0 0 0", "0 0 1 0 0 0", "0 0 0 0 0 1"],
    "left context": ["1 0 0 0 0 0", "1 0 0 0 0 0", "1 0 0 0 0 0", "1 0 27 64 0 0"],
    "right context": ["0 0 64 27 0 1", "0 0 0 0 0 1", "0 0 0 0 0 1", "0 0 0 0 0 1"],
    "towards the end": ["1 0 27 64 0 216"] * 4,
    "towards the start": ["216 0 64 27 0 1"] * 4,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_padding", [0, 3])
def test_keys_in_gaps_are_left_out_and_rows_made_whole(name, num_padding):
    keep = torch.tensor([[1, 0, 1, 1, 0, 1] + num_padding * [0]]).bool()
    want = torch.tensor([[float(weight) for weight in text.split()] for text in WITH_GAPS[name]])
    got = maps(6 + num_padding, keep)[0, NAMES.index(name)][[0, 2, 3, 5]]
    torch.testing.assert_close(got[:, :6], want / want.sum(-1, keepdim=True))
    assert not got[:, 6:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_8192_frames_lose_no_digits(dtype):
    """Against sums in float64, row by row, of the values that the kernel gets."""
    torch.manual_seed(0)
    num_frames = 8192
    values = (3 + torch.randn(1, num_frames, 7, 2)).to(dtype)
    mixed, exact = mix_patterns(values, None)[0].double(), values[0].double()
    place = torch.arange(num_frames, dtype=torch.float64)
    rising, falling = (place + 1) ** 3, (num_frames - place) ** 3
    rows = {
        LEFT: lambda i: rising * (place <= i - 2),
        RIGHT: lambda i: falling * (place >= i + 2),
        NAMES.index("towards the end"): lambda i: rising,
        NAMES.index("towards the start"): lambda i: falling,
    }
    tolerance = 1e-4 if dtype == torch.float32 else 2**-8  # the rounding of the result itself
    for head, weights_of in rows.items():
        for index in (0, 2, 3, 50, 4096, 8000, num_frames - 4, num_frames - 3, num_frames - 1):
            weights = weights_of(index)
            want = weights @ exact[:, head] / weights.sum() if weights.any() else exact[index, head]
            torch.testing.assert_close(mixed[index, head], want, rtol=tolerance, atol=0)


def test_gradients_of_8192_frames_lose_no_digits():
    torch.manual_seed(0)
    values, weight = torch.randn(1, 8192, 7, 2), torch.randn(1, 8192, 7, 2)
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaf = values.to(dtype, copy=True).requires_grad_()
        (mix_patterns(leaf, None) * weight).sum().backward()
        grads.append(leaf.grad.double())
    for head in range(7):
        scale = float(grads[1][:, :, head].abs().max())
        torch.testing.assert_close(grads[0][:, :, head], grads[1][:, :, head], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("padded", [False, True])
def test_no_map_is_made_forward_or_backward(padded):
    attention, x = built(7), torch.randn(2, 1024, 28)
    keep = mask(1024, 700) if padded else None
    assert largest_result(attention, x, keep) <= 2 * 1024 * 28
    assert largest_result(partial(attend, attention), x, keep) >= 1024 * 1024, (
        "the watch must see what the plain form makes"
    )


def test_nothing_is_trained_but_two_projections():
    names = {name for name, _ in built().named_parameters()}
    assert names == {"value.weight", "value.bias", "output.weight", "output.bias"}
    assert not list(built().buffers())


def test_seven_heads_are_enough_and_six_are_an_error():
    load("fixed_patterns", hidden_dim=14, num_heads=7, num_layers=1)
    with pytest.raises(ValueError, match="needs at least 7 heads, got num_heads=6"):
        load("fixed_patterns", hidden_dim=12, num_heads=6, num_layers=1)
