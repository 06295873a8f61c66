"""The LSH family beyond the conformance suite: which keys are picked, by whom, and that a seed alone decides it."""

import pytest
import torch
from s3prl_attention import upstream
from s3prl_attention.upstream.contract import entry
from s3prl_attention.upstream.kernels.bucketed import bucketed
from s3prl_attention.upstream.kernels.exact_keys import TIES, exact, tie_order
from s3prl_attention.upstream.kernels.hashing import directions, signs
from s3prl_attention.upstream.kernels.transforms import NUM_POWERS, U, norm_powers
from upstream_fixtures import largest_result

FAMILY = ("sign_alsh", "sign_alsh_qnf", "xbox", "xbox_qnf", "simple_lsh", "simple_alsh")
HEADS, HEAD_DIM, FRAMES = 4, 16, 300


def build(name, **options):
    return entry(name).attention(hidden_dim=HEADS * HEAD_DIM, num_heads=HEADS, max_frames=FRAMES, **options)


@pytest.fixture
def queries():
    """(1, H, n, K) of very different norms, as a trained encoder has them."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(1, HEADS, FRAMES, HEAD_DIM, generator=generator)
    return drawn * torch.rand(1, HEADS, FRAMES, 1, generator=generator).add(0.2)


def picked(name, queries, **options):
    return build(name, **options).rule(queries[0], torch.arange(FRAMES), FRAMES)


@pytest.mark.parametrize("mode", ["exact", "bucketed"])
@pytest.mark.parametrize("twins", [("xbox", "xbox_qnf"), ("xbox", "simple_lsh"), ("sign_alsh", "sign_alsh_qnf")])
def test_a_positive_scale_changes_no_choice(twins, mode, queries):
    one, other = (picked(name, queries, mode=mode) for name in twins)
    assert torch.equal(one, other)
    assert not torch.equal(one, picked("simple_alsh", queries, mode=mode)), "all members pick the same"
    assert twins[1] in entry(twins[0]).info.note, "the leaderboard must say so"


@pytest.mark.parametrize("name", FAMILY)
def test_every_query_picks_itself_and_as_many_keys_as_it_may(name, queries):
    exact_keys = picked(name, queries)
    assert exact_keys.diagonal(dim1=1, dim2=2).all()
    assert (exact_keys.sum(-1) == 32).all()
    few = build(name).rule(queries[0, :, :20], torch.arange(20), 20)
    assert few.all(), "with fewer frames than num_keys everyone is picked"


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("mode", "at_least"), [("exact", 3.0), ("bucketed", 2.0)])
def test_recall_of_the_true_top_keys_is_far_above_chance(name, mode, at_least, queries):
    products = queries[0] @ queries[0].transpose(-1, -2)
    true = torch.zeros_like(products, dtype=torch.bool).scatter_(-1, products.topk(32).indices, True)
    found = (picked(name, queries, mode=mode, num_bits=256) & true).sum() / true.sum()
    by_chance = (entry("random_keys").attention(hidden_dim=64, num_heads=HEADS, max_frames=FRAMES)).rule(
        queries[0], torch.arange(FRAMES), FRAMES
    )
    chance = (by_chance & true).sum() / true.sum()
    assert found > at_least * chance, f"{name} finds {found:.2f} of the true keys, chance {chance:.2f}"


@pytest.mark.parametrize("name", FAMILY)
def test_more_bits_find_more_of_the_true_keys(name, queries):
    products = queries[0] @ queries[0].transpose(-1, -2)
    true = torch.zeros_like(products, dtype=torch.bool).scatter_(-1, products.topk(32).indices, True)
    few, many = ((picked(name, queries, num_bits=bits) & true).sum() for bits in (16, 256))
    assert many > few


@pytest.mark.parametrize("name", ["xbox", "simple_lsh"])
def test_the_transforms_keep_the_order_of_inner_products(name, queries):
    transforms = build(name).transforms
    largest = queries.norm(dim=-1, keepdim=True).amax(-2, keepdim=True)
    keys, asked = transforms.keys(queries, largest), transforms.queries(queries, largest)
    angles = torch.nn.functional.cosine_similarity(asked[..., :, None, :], keys[..., None, :, :], dim=-1)
    products = queries @ queries.transpose(-1, -2)
    assert torch.equal(angles.topk(8).indices, products.topk(8).indices)
    assert torch.allclose(keys.norm(dim=-1), keys.norm(dim=-1).amax(-1, keepdim=True).expand(-1, -1, FRAMES), rtol=1e-4)


def test_sign_alsh_appends_powers_of_the_scaled_norm():
    key = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])  # norms 5 and 1
    scaled = U / 5.0
    got = norm_powers(key, torch.tensor([[[5.0]]]))
    assert got.shape == (1, 2, 2 + NUM_POWERS)
    assert torch.allclose(got[0, 0], torch.tensor([scaled * 3, scaled * 4, 0.5 - U**2, 0.5 - U**4]))
    assert torch.allclose(got[0, 1], torch.tensor([0.0, scaled, 0.5 - scaled**2, 0.5 - scaled**4]))


def test_ties_are_told_apart_and_prefer_no_place():
    order = tie_order(torch.arange(0, TIES, 4096)[:, None], torch.arange(TIES))
    assert all(len(row.unique()) == TIES for row in order), "two keys share a place"
    assert (order < 1).all()
    best = order[:, :1000].topk(100).indices.float().mean()
    assert 400 < best < 600, f"ties prefer frames around {best:.0f} of 1000"
    assert (torch.tensor(256.0) + order[0]).unique().numel() == TIES, "float32 loses the order beside 256 equal bits"


@pytest.mark.parametrize("num_frames", [90, 128])
def test_a_window_over_all_keys_is_exact(num_frames, queries):
    query = queries[:, :, :num_frames]
    hashes = build("xbox").hashes(query, None)
    value = torch.randn_like(query)
    assert torch.allclose(
        bucketed(query, value, None, *hashes, 32, 0.0), exact(query, value, None, *hashes, 32, 0.0), atol=1e-5
    )


def test_the_gathered_and_the_masked_product_agree(queries, monkeypatch):
    hashes = build("xbox").hashes(queries, None)
    query, value = queries.clone().requires_grad_(), torch.randn_like(queries)
    results = []
    for below in (0, 10**6):
        monkeypatch.setattr("s3prl_attention.upstream.kernels.chosen_keys.DENSE_BELOW", below)
        monkeypatch.setattr("s3prl_attention.upstream.kernels.exact_keys.BLOCK_ENTRIES", 100_000)
        out = exact(query, value, None, *hashes, 32, 0.0)
        results.append((out, *torch.autograd.grad(out.square().sum(), query)))
    for gathered, masked in zip(*results, strict=True):
        assert torch.allclose(gathered, masked, atol=1e-5 * float(masked.detach().abs().max()))


def test_directions_come_from_the_seed_and_the_checkpoint(tmp_path):
    torch.manual_seed(5)
    one = upstream.load("xbox", hidden_dim=32, num_heads=4, num_layers=1, max_frames=50)
    torch.manual_seed(6)
    same, other = (
        upstream.load("xbox", hidden_dim=32, num_heads=4, num_layers=1, max_frames=50, hash_seed=seed)
        for seed in (0, 1)
    )
    hashes = [expert.encoder.layers[0].attention.directions for expert in (one, same, other)]
    assert torch.equal(hashes[0], hashes[1])
    assert not torch.equal(hashes[0], hashes[2])
    with torch.no_grad():
        hashes[0].neg_()
    one.save(tmp_path / "checkpoint")
    again = upstream.load("xbox", ckpt=tmp_path / "checkpoint")
    assert torch.equal(again.encoder.layers[0].attention.directions, hashes[0]), "the checkpoint does not hold them"


def test_directions_are_drawn_on_the_cpu_but_for_shapes_alone():
    drawn = torch.randn(HEADS, HEAD_DIM, 64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(directions(HEADS, HEAD_DIM, 64, 3), drawn)
    with torch.device("cpu"):
        assert torch.equal(directions(HEADS, HEAD_DIM, 64, 3), drawn)
    with torch.device("meta"):
        assert directions(HEADS, HEAD_DIM, 64, 3).is_meta, "a checkpoint's sizes are checked before there is memory"


def test_hashes_are_made_in_float32_under_autocast(queries):
    drawn = directions(HEADS, HEAD_DIM, 64, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = signs(queries, drawn)
    assert torch.equal(cast, signs(queries, drawn))
    assert set(cast.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", ["exact", "bucketed"])
def test_autocast_changes_no_choice(mode, dtype, queries):
    attention, kernel = build("xbox", mode=mode), {"exact": exact, "bucketed": bucketed}[mode]
    hashes, at = attention.hashes(queries, None), torch.arange(FRAMES)
    near = 0.1 * queries  # so that no weight is rounded to zero
    numbers = torch.eye(FRAMES, 19 * HEAD_DIM).expand(1, HEADS, -1, -1).split(HEAD_DIM, dim=-1)
    with torch.autocast("cpu", dtype=dtype):
        maps = torch.cat([kernel(near, part, None, *hashes, 32, 0.0) for part in numbers], dim=-1)
        plain = attention.rule(queries[0], at, FRAMES)
    want = attention.rule(queries[0], at, FRAMES)
    assert torch.equal(maps[0, :, :, :FRAMES] > 0, want)
    assert torch.equal(plain, want)


def test_memory_of_the_bucketed_mode_holds_no_square():
    attention = build("xbox", mode="bucketed")
    assert largest_result(attention, torch.randn(1, 2048, HEADS * HEAD_DIM), None) < HEADS * 2048**2 / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "bucket"}, "did you mean 'bucketed'"),
        ({"num_bits": 0}, "num_bits from 1 to 256, got 0"),
        ({"num_bits": 512}, "num_bits from 1 to 256, got 512"),
        ({"num_keys": 1}, "num_keys of at least 2, got 1"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        upstream.load("xbox", **options)


def test_input_too_long_for_the_exact_mode_is_told():
    query = torch.zeros(1, 1, TIES + 1, 2)
    with pytest.raises(ValueError, match="mode=bucketed"):
        exact(query, query, None, query, query, 32, 0.0)
