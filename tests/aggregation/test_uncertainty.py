from __future__ import annotations

import pytest
import torch
import torchjd.scalarization as oracle
from tests.aggregation.common import losses
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses
from tests.toys import all_weights, assert_same, resumed, site_spec

from lianhe.aggregation import Uncertainty
from lianhe.core.errors import AggregationError
from lianhe.experiment.fit import fit


@pytest.mark.parametrize("m", SIZES)
def test_weights_and_noise_are_learnt_as_by_the_loss_of_the_paper(m):
    """Losses and the logarithms of the variances under one Adam, by autograd."""
    method, s = Uncertainty(lr=0.03, start=-0.5), torch.full((m,), -0.5, dtype=torch.float64)
    s.requires_grad_()
    adam = torch.optim.Adam([s], lr=0.03)
    for i in range(60):
        lost = spread_losses(m) * losses(m, i)

        def objective(x):
            return (x / (2 * s.exp()) + s / 2).sum()

        assert_weights(method, lost, weights_of(objective, lost), 1e-10)
        adam.zero_grad()
        objective(lost).backward()
        adam.step()


def test_the_same_as_torchjd():
    method, theirs = Uncertainty(lr=0.01), oracle.UW(5).double()
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01)
    for i in range(30):
        lost = losses(5, i)
        assert_weights(method, lost, weights_of(theirs, lost), 1e-10)
        adam.zero_grad()
        theirs(lost).backward()
        adam.step()


def test_it_comes_to_rest_where_every_task_counts_the_same():
    lost = torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64)
    method = Uncertainty(lr=0.02)
    for _ in range(1500):
        weights = method.weigh(with_losses(lost))
    torch.testing.assert_close(weights * lost, torch.full((3,), 0.5, dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_loss_may_be_zero_but_not_negative():
    Uncertainty().weigh(with_losses(torch.tensor([0.0, 1.0])))
    with pytest.raises(
        AggregationError, match="Uncertainty: loss of 'site1' is -1, but must not be negative"
    ):
        Uncertainty().weigh(with_losses(torch.tensor([0.0, -1.0])))


def test_sites_that_hold_different_tasks_have_a_noise_for_each_stack_that_they_are_in(tmp_path):
    spec = site_spec(aggregator=Uncertainty(lr=0.1), rounds=6)
    whole, again = fit(spec, seed=1), resumed(spec, 3, tmp_path, seed=1)
    assert_same(all_weights(whole), all_weights(again))
    assert whole.aggregator is not None
    rows = whole.aggregator.state_dict()["rows"]
    assert {key: tuple(of) for key, of in rows.items()} == {
        "encoder+head.size": ("north", "east", "south"),
        "head.kind": ("north", "east"),
        "head.flag": ("east",),
    }
