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


@pytest.mark.parametrize("m", [2, 3, 5])
def test_a_preference_moves_the_centre_of_the_ball(m):
    """A preference of k times the mean's, with rows k times as small, is the mean again."""
    matrix, u = rows(m, m + 4, seed=m, shift=0.2), torch.linspace(0.5, 2, m, dtype=torch.float64)
    equal = CAGrad(preference=[1 / m] * m)(matrix)
    torch.testing.assert_close(equal, CAGrad()(matrix), rtol=1e-12, atol=1e-12)
    centre = u @ matrix
    d = CAGrad(rescale=False, preference=u.tolist(), eps=0)(matrix)
    assert float((d - centre).norm()) == pytest.approx(0.5 * float(centre.norm()), rel=1e-6)
    worst = float((matrix @ d).min())
    for seed in range(300):
        other = d + 0.05 * rows(1, m + 4, seed)[0]
        inside = centre + (other - centre) * (0.5 * centre.norm() / (other - centre).norm()).clamp(max=1)
        assert float((matrix @ inside).min()) <= worst + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_two_rows_with_a_preference_as_many_are(seed):
    """The closed form for two, against the general solution with a third row of zeros."""
    matrix, u = rows(2, 4, seed), [0.2, 1.3]
    third = torch.cat([matrix, torch.zeros(1, 4, dtype=torch.float64)])
    torch.testing.assert_close(
        CAGrad(preference=u)(matrix), CAGrad(preference=[*u, 1.0])(third), rtol=1e-6, atol=1e-8
    )


def test_a_preference_by_name():
    stack = as_rows(rows(3, 5, seed=1))
    by_name = CAGrad(preference={"site2": 3.0, "site0": 1.0, "site1": 2.0}).weigh(stack)
    assert by_name.equal(CAGrad(preference=[1.0, 2.0, 3.0]).weigh(stack))
