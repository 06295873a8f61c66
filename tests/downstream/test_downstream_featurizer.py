"""The weighted sum and the standardisation of hidden states."""

import pytest
import torch
from s3prl_attention.downstream.featurizer import Standardizer, WeightedSum


def test_weights_start_equal_and_learn():
    mix = WeightedSum(3)
    states = torch.randn(3, 5, 4)
    torch.testing.assert_close(mix(states), states.mean(0))
    torch.testing.assert_close(mix(list(states.view(3, 1, 5, 4)))[0], states.mean(0))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    shares = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    torch.testing.assert_close(mix(states), (shares[:, None, None] * states).sum(0))
    mix(states).square().sum().backward()
    assert mix.weights.grad is not None
    assert bool((mix.weights.grad != 0).all())


def test_another_number_of_states_is_an_error():
    with pytest.raises(ValueError, match="made for 3 hidden states and got 2"):
        WeightedSum(3)(torch.zeros(2, 5, 4))


def test_batches_of_any_size_standardise_like_the_whole():
    scale, offset = torch.tensor([0.1, 1.0, 3.0, 0.0]), torch.tensor([100.0, 0.0, -3.0, 2.0])
    rows = torch.randn(2, 1000, 4) * scale + offset
    out = Standardizer(rows.split([1, 600, 399], dim=1))(rows.clone())
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 4), atol=2e-3, rtol=0)
    torch.testing.assert_close(out[:, :, :3].std(1, correction=0), torch.ones(2, 3), atol=2e-3, rtol=0)
    assert bool((out[:, :, 3] == 0).all()), "a constant dimension"
    torch.testing.assert_close(out, Standardizer([rows])(rows.clone()), atol=2e-3, rtol=0)


def test_a_dimension_of_rounding_noise_is_not_blown_up():
    rows = torch.randn(1, 1000, 3) * torch.tensor([1.0, 1.0, 1e-5])
    out = Standardizer([rows])(rows.clone())
    assert float(out[0, :, 0].std()) > 0.9
    assert float(out[0, :, 2].std()) < 0.01
    assert bool((Standardizer([torch.ones(1, 9, 3)])(torch.ones(1, 9, 3)) == 0).all())
