from __future__ import annotations

import pytest
import torch
import torchjd.scalarization as oracle
from tests.aggregation.common import losses
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses

from lianhe.aggregation import IMTLL
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize("m", SIZES)
def test_weights_and_scales_are_learnt_as_by_the_loss_of_the_paper(m):
    method, s = IMTLL(lr=0.03), torch.zeros(m, dtype=torch.float64, requires_grad=True)
    adam, theirs = torch.optim.Adam([s], lr=0.03), oracle.IMTLL(m).double()
    for i in range(60):
        lost = spread_losses(m) * losses(m, i)

        def objective(x):
            return (s.exp() * x - s).sum()

        theirs.log_scale.data.copy_(s.data)
        torch.testing.assert_close(theirs(lost), objective(lost))
        assert_weights(method, lost, weights_of(objective, lost), 1e-10)
        adam.zero_grad()
        objective(lost).backward()
        adam.step()


def test_it_comes_to_rest_where_all_scaled_losses_are_one():
    lost = torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64)
    method = IMTLL(lr=0.02)
    for _ in range(1500):
        weights = method.weigh(with_losses(lost))
    torch.testing.assert_close(weights * lost, torch.ones(3, dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_loss_may_be_zero_but_not_negative():
    IMTLL().weigh(with_losses(torch.tensor([0.0, 1.0])))
    with pytest.raises(AggregationError, match="IMTLL: loss of 'site0' is -2, but must not be negative"):
        IMTLL().weigh(with_losses(torch.tensor([-2.0, 1.0])))
