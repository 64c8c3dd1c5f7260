from __future__ import annotations

import pytest
import torch
import torchjd.scalarization as oracle
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses

from lianhe.aggregation import GeometricMean
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize("m", SIZES)
def test_weights_are_the_gradient_of_the_geometric_mean(m):
    for seed in range(5):
        losses = spread_losses(m, seed)
        assert_weights(GeometricMean(), losses, weights_of(lambda x: x.log().mean().exp(), losses))
        assert_weights(GeometricMean(), losses, weights_of(oracle.GeometricMean(), losses))


def test_of_two_it_is_the_root_of_their_product():
    losses = torch.tensor([0.3, 5.0], dtype=torch.float64)
    assert_weights(GeometricMean(), losses, weights_of(lambda x: (x[0] * x[1]).sqrt(), losses))


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_a_loss_that_is_not_positive_is_named(value):
    losses = torch.tensor([1.0, value, 2.0], dtype=torch.float64)
    with pytest.raises(
        AggregationError, match=f"GeometricMean: loss of 'site1' is {value:g}, but must be pos"
    ):
        GeometricMean().weigh(with_losses(losses))
