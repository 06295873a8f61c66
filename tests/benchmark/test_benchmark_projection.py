"""Projections keep what they promise: exact components, near points near, known groups found, the same for a seed."""

import numpy as np
import pytest
from s3prl_attention.benchmark.projection import clusters, default_perplexity, pca, tsne
from sklearn.metrics import silhouette_score


def blobs(num_groups=3, each=20, dims=6, spread=0.3, seed=0):
    """Points around far centres, shuffled, and the group of each."""
    generator = np.random.default_rng(seed)
    group = generator.permutation(np.repeat(np.arange(num_groups), each))
    centres = 10 * np.eye(num_groups, dims)
    return centres[group] + spread * generator.standard_normal((len(group), dims)), group


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("shape", [(12, 5000), (200, 7), (30, 30)])
def test_components_are_those_of_the_covariance_whatever_the_smaller_side(shape):
    points = np.random.default_rng(1).standard_normal(shape) * np.geomspace(9, 1, shape[1])
    coordinates, ratios = pca(points, 4)
    centred = points - points.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(ratios, (values**2 / (values**2).sum())[:4], rtol=1e-8)
    np.testing.assert_allclose((coordinates**2).sum(0), values[:4] ** 2, rtol=1e-8)
    gram = coordinates.T @ coordinates
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-6 * gram.max())


def test_all_components_keep_all_distances():
    points = np.random.default_rng(2).standard_normal((9, 400))
    coordinates, ratios = pca(points, 9)
    assert ratios.sum() == pytest.approx(1)
    for chosen in (points, coordinates):
        np.testing.assert_allclose(np.linalg.norm(chosen[0] - chosen[5]), np.linalg.norm(points[0] - points[5]))


def test_equal_points_have_no_components_and_too_many_are_refused():
    coordinates, ratios = pca(np.ones((4, 3)), 2)
    assert not coordinates.any()
    assert not ratios.any()
    with pytest.raises(ValueError, match="4 points of 3 dimensions have 1 to 3 principal components, not 4"):
        pca(np.eye(4, 3), 4)
    with pytest.raises(ValueError, match=r"finite numbers \(P, F\)"):
        pca(np.full((4, 3), np.nan), 1)
    with pytest.raises(ValueError, match="flatten each"):
        pca(np.ones((4, 3, 3)), 1)


@pytest.mark.parametrize("dims", [6, 300])
def test_tsne_keeps_groups_together_and_a_seed_repeats_it(dims):
    points, group = blobs(dims=dims, spread=0.3 * (6 / dims) ** 0.5)
    places = tsne(points, seed=3)
    assert places.shape == (60, 2)
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + np.diag(np.full(60, np.inf))
    assert (group[distances.argmin(1)] == group).all()
    np.testing.assert_array_equal(places, tsne(points, seed=3))


def test_tsne_takes_five_points_and_says_what_it_cannot_do():
    points = np.random.default_rng(0).standard_normal((5, 40))
    assert np.isfinite(tsne(points)).all()
    assert np.isfinite(tsne(points[:, :1])).all()
    with pytest.raises(ValueError, match="t-SNE needs 5 points, got 4: give more, or use PCA"):
        tsne(points[:4])
    with pytest.raises(ValueError, match="a perplexity of 5 does not go with 5 points"):
        tsne(points, perplexity=5)
    with pytest.raises(ValueError, match="all 6 are the same"):
        tsne(np.ones((6, 3)))


def test_the_perplexity_is_the_usual_one_or_a_third_of_the_others():
    assert default_perplexity(1000) == default_perplexity(91) == 30
    assert default_perplexity(31) == 10
    assert default_perplexity(5) == pytest.approx(4 / 3)


@pytest.mark.parametrize(("num_groups", "dims"), [(3, 6), (4, 6), (5, 2000)])
def test_the_true_number_of_groups_has_the_best_silhouette_and_the_true_members(num_groups, dims):
    points, group = blobs(num_groups, each=12, dims=dims, spread=0.3 * (6 / dims) ** 0.5)
    found = clusters(points, seed=0)
    assert [one.count for one in found] == list(range(2, 9))
    best = max(found, key=lambda one: one.silhouette)
    assert best.count == num_groups
    assert best.silhouette > 0.8
    assert same_partition(best.labels, group)
    assert best.silhouette == pytest.approx(silhouette_score(points, best.labels))  # of all dimensions


def test_the_silhouette_is_rousseeuws():
    points = np.array([[0.0], [1.0], [10.0], [12.0]])
    (two,) = clusters(points, [2])
    (turned,) = clusters(points * np.full((4, 9), 1 / 3), [2])  # the same distances in more dimensions than points
    assert turned.silhouette == pytest.approx(two.silhouette)
    expected = [1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5]
    assert two.silhouette == pytest.approx(np.mean(expected))


def test_labels_begin_with_the_largest_cluster_and_repeat_with_the_seed():
    points = np.concatenate([np.full((3, 2), 9.0), np.zeros((7, 2)), np.full((3, 2), -9.0)])
    points += np.random.default_rng(0).normal(0, 0.1, points.shape)
    (three,) = clusters(points, [3], seed=5)
    assert three.labels.tolist() == [1] * 3 + [0] * 7 + [2] * 3
    np.testing.assert_array_equal(three.labels, clusters(points, [3], seed=5)[0].labels)


def test_clusters_that_cannot_be_judged_are_refused():
    few = np.repeat(np.eye(4), 3, axis=0)  # twelve points, four places
    assert [one.count for one in clusters(few)] == [2, 3]
    with pytest.raises(ValueError, match=r"4 distinct points of 12: .*, not 1, 4: ask for fewer clusters"):
        clusters(few, [1, 3, 4])
    with pytest.raises(ValueError, match="and there are fewer"):
        clusters(few[:6])
