from __future__ import annotations

import pytest
import torch
import torchjd.scalarization as oracle
from tests.aggregation.common import losses
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses

from lianhe.aggregation import STCH
from lianhe.core.errors import AggregationError


def smooth_maximum(nadir, mu, wanted):
    """As the authors' code writes it, with the weights of the paper."""

    def objective(x):
        relative = wanted * (x / nadir).log()
        top = relative.max().detach()
        return len(x) * mu * (((relative - top) / mu).exp().sum().log() + top / mu)

    return objective


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("mu", [0.05, 1.0, 20.0])
def test_weights_are_the_gradient_of_the_smooth_maximum_once_it_is_warm(m, mu):
    wanted = losses(m, 77)
    plain, preferring = STCH(warmup=10, mu=mu), STCH(warmup=10, mu=mu, preference=wanted.tolist())
    scale, seen = spread_losses(m), []
    for i in range(15):
        lost = scale * losses(m, i)
        seen.append(lost)
        nadir = torch.stack(seen[8:10]).mean(0) if i >= 10 else None
        for method, p in ((plain, torch.ones_like(wanted)), (preferring, wanted)):
            objective = (lambda x: x.log().sum()) if nadir is None else smooth_maximum(nadir, mu, p)
            assert_weights(method, lost, weights_of(objective, lost), 1e-9)


def test_the_same_as_torchjd_on_relative_log_losses():
    method, wanted = (
        STCH(warmup=1, mu=0.3, preference=[0.2, 0.5, 0.3]),
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
    )
    nadir, now = losses(3, 0), losses(3, 1)
    method.weigh(with_losses(nadir))
    theirs = oracle.STCH(mu=0.3, weights=wanted)
    assert_weights(method, now, weights_of(lambda x: 3 * theirs((x / nadir).log()), now))


def test_a_small_mu_looks_at_the_worst_alone_a_large_one_at_all():
    now = torch.tensor([2.0, 3.0], dtype=torch.float64)
    for mu, expected in ((1e-3, [0.0, 2 / 3]), (1e6, [1 / 2, 1 / 3])):
        method = STCH(warmup=1, mu=mu)
        method.weigh(with_losses(torch.ones(2, dtype=torch.float64)))
        torch.testing.assert_close(
            method.weigh(with_losses(now)), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-12
        )


def test_a_task_that_comes_late_is_measured_by_its_first_loss():
    method = STCH(warmup=1)
    for names, lost in ((("a",), [2.0]), (("a", "b"), [2.0, 5.0]), (("b", "a"), [10.0, 2.0])):
        weights = method.weigh(with_losses(torch.tensor(lost, dtype=torch.float64), names))
    torch.testing.assert_close(
        weights, torch.tensor([2 * (2 / 3) / 10, 2 * (1 / 3) / 2], dtype=torch.float64)
    )


def test_a_loss_that_is_not_positive_is_named():
    with pytest.raises(AggregationError, match="STCH: loss of 'site1' is 0, but must be positive"):
        STCH(warmup=2).weigh(with_losses(torch.tensor([1.0, 0.0])))
