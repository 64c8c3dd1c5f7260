from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import CAGrad


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
def test_without_radius_it_is_the_mean(m):
    matrix = rows(m, m + 3, seed=m)
    for rescale in (True, False):
        torch.testing.assert_close(
            CAGrad(c=0, rescale=rescale)(matrix), matrix.mean(0), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_no_direction_in_the_ball_does_more_for_the_worst_off(m, c):
    """The primal problem, which the solver never looks at, by brute force in d itself."""
    matrix = rows(m, 4, seed=m, shift=0.2)
    mean = matrix.mean(0)
    d = CAGrad(c=c, rescale=False)(matrix)
    assert float((d - mean).norm()) <= c * float(mean.norm()) * (1 + 1e-6)
    found = minimize(
        lambda x: -x[-1],
        [*mean.tolist(), 0.0],
        constraints=[
            {"type": "ineq", "fun": lambda x: matrix.numpy() @ x[:-1] - x[-1]},
            {
                "type": "ineq",
                "fun": lambda x: c**2 * float(mean @ mean) - ((x[:-1] - mean.numpy()) ** 2).sum(),
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert float((matrix @ d).min()) == pytest.approx(-found.fun, rel=1e-5, abs=1e-7)


def test_rescaling_divides_by_one_plus_c_squared():
    matrix = rows(4, 6, seed=2)
    torch.testing.assert_close(CAGrad(0.7)(matrix) * 1.49, CAGrad(0.7, rescale=False)(matrix))


def test_a_larger_ball_helps_the_worst_off_more():
    matrix = rows(5, 6, seed=4, shift=0.1)
    worst = [float((matrix @ CAGrad(c, rescale=False)(matrix)).min()) for c in (0, 0.3, 0.6, 0.9)]
    assert worst == sorted(worst)
    assert worst[0] < worst[-1] - 0.1


def test_rows_that_cancel_do_not_blow_up():
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert CAGrad().weigh(as_rows(matrix)).max() < 1e4
    torch.testing.assert_close(CAGrad()(matrix[:2]), torch.zeros(2, dtype=torch.float64))
