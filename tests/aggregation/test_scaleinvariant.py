from __future__ import annotations

import pytest
import torch
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses

from lianhe.aggregation import ScaleInvariant
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize("m", SIZES)
def test_weights_are_the_gradient_of_the_logarithms(m):
    for seed in range(5):
        losses = spread_losses(m, seed)
        assert_weights(ScaleInvariant(), losses, weights_of(lambda x: x.log().sum(), losses))
        assert_weights(ScaleInvariant(mean=True), losses, weights_of(lambda x: x.log().mean(), losses))


def test_a_loss_in_another_unit_changes_nothing():
    """Its gradient is in that unit, too."""
    matrix = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    units = torch.tensor([1.0, 1e6, 1e-6], dtype=torch.float64)
    losses = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    results = []
    for unit in (torch.ones_like(units), units):
        stack = with_losses(losses * unit)
        results.append(ScaleInvariant().weigh(stack) @ (unit[:, None] * matrix))
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)


def test_a_loss_that_is_not_positive_is_named():
    with pytest.raises(AggregationError, match="ScaleInvariant: loss of 'site0' is 0, but must be positive"):
        ScaleInvariant().weigh(with_losses(torch.tensor([0.0, 1.0])))
