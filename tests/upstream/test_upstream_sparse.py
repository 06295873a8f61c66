"""Sparse and routed attention, random keys: what the conformance suite cannot see of them."""

import pytest
import torch
from s3prl_attention import upstream
from s3prl_attention.upstream.contract import entry
from s3prl_attention.upstream.kernels.sparse import stride_of, with_own_stride
from s3prl_attention.upstream.random_keys.attention import others
from upstream_fixtures import largest_result


def build(name, heads=4, max_frames=200, **options):
    return entry(name).attention(hidden_dim=8 * heads, num_heads=heads, max_frames=max_frames, **options)


def seen(name, num_frames, head):
    """(n, n) bool: whom a head looks at."""
    return build(name).weights(torch.randn(1, num_frames, 32), None)[0, head] > 0


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 1), (3, 1), (4, 2), (63, 7), (64, 8), (4096, 64)])
def test_the_stride_is_the_root_of_the_length(length, stride):
    assert stride_of(length) == stride


@pytest.mark.parametrize("num_frames", [5, 17, 64, 70])
def test_the_patterns_are_those_of_the_paper(num_frames):
    stride = stride_of(num_frames)
    i, j = torch.arange(num_frames)[:, None], torch.arange(num_frames)[None]
    assert torch.equal(seen("sparse_strided", num_frames, 0), (i - j).abs() <= stride)
    assert torch.equal(seen("sparse_strided", num_frames, 3), (i - j) % stride == 0)
    assert torch.equal(seen("sparse_fixed", num_frames, 1), i // stride == j // stride)
    summaries = (j % stride == stride - 1).expand(num_frames, -1)
    assert torch.equal(seen("sparse_fixed", num_frames, 2), summaries)


def test_with_an_odd_number_of_heads_the_second_pattern_has_one_more():
    attention = build("sparse_strided", heads=3)
    maps = attention.weights(torch.randn(1, 36, 24), None)[0] > 0
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[1], maps[2])


def test_a_query_without_a_valid_summary_looks_at_itself():
    attention = build("sparse_fixed").eval()
    x = torch.randn(1, 10, 32)
    keep = torch.tensor([[True, True, False] * 3 + [True]])  # the summaries of 10 frames are 2, 5 and 8
    maps = attention.weights(x, keep)[0, 3]
    assert torch.equal(maps, torch.diag(keep[0].float()))
    assert torch.isfinite(attention(x, keep)).all()


def test_utterances_are_grouped_by_stride_and_put_back_in_their_places():
    lengths = (30, 100, 4, 99, 30)
    x = torch.arange(5.0)[:, None, None, None].expand(5, 2, 100, 3)
    keep = torch.arange(100) < torch.tensor(lengths)[:, None]
    calls = []

    def kernel(query, value, keep, stride, dropout):
        calls.append((stride, query.shape[2], query[:, 0, 0, 0].tolist()))
        return query + stride

    out = with_own_stride(x, x, keep, 0.0, kernel)
    assert calls == [(2, 4, [2.0]), (5, 30, [0.0, 4.0]), (9, 99, [3.0]), (10, 100, [1.0])]
    for row, length in enumerate(lengths):
        assert (out[row, :, :length] == row + stride_of(length)).all()


@pytest.mark.parametrize("name", ["sparse_strided", "sparse_fixed", "routing"])
def test_no_tensor_is_as_large_as_a_square(name):
    attention = build(name, max_frames=2048)
    assert largest_result(attention, torch.randn(1, 2048, 32), None) < 4 * 2048**2 / 4


@pytest.mark.parametrize("name", ["sparse_strided", "sparse_fixed", "shared_qk", "routing", "random_keys", "xbox"])
def test_dropout_acts_in_training_alone(name):
    attention, x, keep = build(name, dropout=0.5), torch.randn(1, 40, 32), None
    plain = build(name)
    plain.load_state_dict(attention.state_dict())
    with torch.no_grad():
        assert torch.allclose(attention.eval()(x, keep), plain.eval()(x, keep), atol=1e-6)
        assert not torch.allclose(attention.train()(x, keep), plain(x, keep), atol=1e-3)


@pytest.mark.parametrize(("num_valid", "num_others"), [(1, 31), (2, 31), (20, 31), (32, 31), (200, 31), (200, 1)])
def test_random_keys_are_distinct_others(num_valid, num_others):
    drawn = others(3, num_valid, num_others, 0)
    width = min(num_others, num_valid - 1)
    assert drawn.shape == (3, num_valid, width)
    for head in drawn:
        for frame, keys in enumerate(head.tolist()):
            assert len({*keys, frame}) == width + 1
            assert all(0 <= key < num_valid for key in keys)


def test_random_keys_are_uniform():
    counts = torch.zeros(50)
    for seed in range(60):
        drawn = others(4, 50, 10, seed)
        counts += torch.bincount((drawn - torch.arange(50)[:, None]).remainder(50).flatten(), minlength=50)
    assert counts[0] == 0
    expected = 60 * 4 * 50 * 10 / 49
    assert ((counts[1:] - expected).abs() < 6 * expected**0.5).all()


def test_random_keys_come_from_their_seed_alone():
    x = torch.randn(2, 60, 32)
    keep = torch.arange(60) < torch.tensor([[60], [41]])
    one, same, other = (build("random_keys", draw_seed=seed).weights(x, keep) > 0 for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_random_keys_are_drawn_on_the_cpu_whatever_the_default_device():
    want = others.__wrapped__(4, 50, 31, 0)
    with torch.device("meta"):
        assert torch.equal(others.__wrapped__(4, 50, 31, 0), want)


def test_random_keys_are_drawn_once_for_each_length_of_a_batch():
    attention, keep = build("random_keys", draw_seed=77), torch.arange(40) < torch.arange(20, 41)[:, None]
    for _ in range(2):  # as two layers do
        before = others.cache_info().misses
        attention(torch.randn(21, 40, 32), keep)
    assert others.cache_info().misses == before


def test_centroids_move_in_training_towards_their_frames():
    attention = build("routing", decay=0.5)
    x = torch.randn(3, 100, 32)

    def nearness():
        unit = torch.nn.functional.normalize(attention.shared(x)[0], dim=-1)
        return (unit @ attention.centroids.transpose(-1, -2)).amax(-1).mean()

    start, before = attention.centroids.clone(), nearness()
    attention.eval()(x, None)
    with torch.no_grad():
        attention.train()(x, None)
    assert torch.equal(attention.centroids, start), "centroids move where nothing is learned"
    for _ in range(5):
        attention.train()(x, None)
    assert nearness() > before + 0.05
    assert torch.allclose(attention.centroids.norm(dim=-1), torch.ones(4, 14), atol=1e-5)


def test_padding_moves_no_centroid():
    moved = []
    keep = torch.arange(100) < torch.tensor([[60], [100]])
    x = torch.randn(2, 100, 32)
    for padding in (0.0, 50.0):
        torch.manual_seed(0)
        attention = build("routing", decay=0.5).train()
        attention(torch.where(keep[..., None], x, padding + x), keep)
        moved.append(attention.centroids)
    assert torch.allclose(*moved)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_clusters_nor_centroids(dtype):
    unit = torch.nn.functional.normalize(torch.randn(2, 4, 100, 8), dim=-1).requires_grad_()
    results = []
    for enabled in (False, True):
        attention = build("routing", decay=0.5).train()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            members, _ = attention._route(unit, None)
        results.append((members, attention.centroids))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("routing", {"num_clusters": -1}, "num_clusters of at least 1"),
        ("routing", {"decay": 1.5}, "decay from 0 to 1, got 1.5"),
        ("random_keys", {"num_keys": 1}, "num_keys of at least 2, got 1"),
        ("sparse_fixed", {"num_heads": 1, "hidden_dim": 8}, "at least 2 heads"),
    ],
)
def test_wrong_options_are_told(name, options, message):
    with pytest.raises(ValueError, match=message):
        upstream.load(name, **options)
