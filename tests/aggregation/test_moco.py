from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.aggregation.common import as_rows, losses
from tests.aggregation.oracles import SIZES, spread_losses
from tests.linalg.cases import rows

from lianhe.aggregation import MoCo
from lianhe.core.errors import AggregationError, NonFiniteError, UnknownNameError
from lianhe.core.stack import Rows


def nearest(point):
    """Projection onto the simplex, by bisection for the level that is cut off."""
    low, high = point.min() - 1, point.max()
    for _ in range(100):
        level = (low + high) / 2
        low, high = (level, high) if (point - level).clamp(min=0).sum() > 1 else (low, level)
    return (point - level).clamp(min=0)


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("projection", ["softmax", "simplex"])
@pytest.mark.parametrize("rescale", [True, False])
def test_the_recursion_of_the_paper(m, projection, rescale):
    method = MoCo(0.6, 0.5, 0.2, 0.3, rho=0.1, projection=projection, rescale=rescale)
    y, share = torch.zeros(m, m + 3, dtype=torch.float64), torch.full((m,), 1 / m, dtype=torch.float64)
    for k in range(1, 12):
        matrix, lost = rows(m, m + 3, seed=k) / (m + 3), losses(m, k)
        target = torch.stack([x / x.norm() * loss for x, loss in zip(matrix, lost, strict=True)])
        y = y - 0.6 / k**0.5 * (y - (target if rescale else matrix))
        moved = share - 0.2 / k**0.3 * (y @ y.T + 0.1 * torch.eye(m)) @ share
        share = moved.softmax(0) if projection == "softmax" else nearest(moved)
        result = method(as_rows(matrix, of_losses=lost if rescale else torch.full((m,), torch.nan)))
        torch.testing.assert_close(result, share @ y, rtol=1e-7, atol=1e-9)


def test_on_gradients_that_stay_it_finds_the_shortest_combination():
    matrix = rows(4, 6, seed=2, shift=0.3)
    method = MoCo(beta=1, beta_decay=0, gamma=0.02, gamma_decay=0, projection="simplex", rescale=False)
    for _ in range(1500):
        result = method(as_rows(matrix))
    found = minimize(
        lambda w: ((w @ matrix.numpy()) ** 2).sum(),
        [0.25] * 4,
        bounds=[(0, None)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    torch.testing.assert_close(result, torch.tensor(found.x) @ matrix, rtol=0, atol=1e-4)


def test_noise_is_averaged_out():
    method, truth = MoCo(beta=0.05, beta_decay=0, rescale=False), rows(2, 30, seed=1)
    for i in range(300):
        result = method(as_rows(truth + 2 * rows(2, 30, seed=10 + i)))
    assert (result - truth.mean(0)).norm() < 0.5 * (rows(2, 30, seed=5) * 2).mean(0).norm()


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_losses_of_any_size(size):
    m, lost = 8, size * spread_losses(8)
    for projection in ("softmax", "simplex"):
        method = MoCo(projection=projection)
        for i in range(4):
            assert method(as_rows(rows(m, 12, i), of_losses=lost)).isfinite().all()


def test_a_row_that_is_absent_keeps_its_track():
    method = MoCo(rescale=False)
    both = Rows(rows(2, 5), ("a", "b"))
    method(both)
    before = method.state_dict()["rows"][""]["b"]
    method(Rows(rows(1, 5, seed=1), ("a",)))
    after = method.state_dict()["rows"][""]["b"]
    assert after[0].equal(before[0])
    assert after[1] == before[1]


def test_what_it_cannot_use_is_named():
    method = MoCo()
    method(as_rows(rows(2, 5)))
    with pytest.raises(AggregationError, match="row of 5 numbers of 'site0', and now it has 6: call reset"):
        method(as_rows(rows(2, 6)))
    state = method.state_dict()
    broken = rows(2, 5)
    broken[1, 2] = torch.nan
    with pytest.raises(NonFiniteError, match="rows of site1 have"):
        method(as_rows(broken))
    assert method.state_dict()["rounds"] == state["rounds"]
    with pytest.raises(AggregationError, match="MoCo: loss of 'site0' is -1"):
        MoCo()(as_rows(rows(2, 5), of_losses=torch.tensor([-1.0, 1.0])))
    with pytest.raises(UnknownNameError, match="projection 'softmx': did you mean 'softmax'"):
        MoCo(projection="softmx")
