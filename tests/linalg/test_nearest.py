from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.linalg.cases import rows

from lianhe.linalg import project_on_simplex


def assert_nearest(v, w):
    """w is in the simplex, and v - w is the same number wherever w > 0, and no larger elsewhere."""
    size = max(1.0, float(v.abs().max()))
    assert (w >= 0).all()
    assert float(w.sum()) == pytest.approx(1, abs=1e-14 * size + 1e-12)
    gap = v - w
    assert float((gap.max() - gap[w > 0]).max()) <= 1e-12 * size


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("scale", [1e-8, 0.1, 1.0, 1e8])
def test_the_nearest_point(m, scale):
    for seed in range(5):
        v = scale * rows(m, 1, seed)[:, 0]
        assert_nearest(v, project_on_simplex(v))


def test_as_near_as_what_scipy_finds():
    v = rows(5, 1, seed=3)[:, 0]
    found = minimize(
        lambda w: ((w - v.numpy()) ** 2).sum(),
        [0.2] * 5,
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    torch.testing.assert_close(project_on_simplex(v), torch.tensor(found.x), rtol=0, atol=1e-6)


def test_points_of_the_simplex_and_points_that_tie():
    w = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64)
    torch.testing.assert_close(project_on_simplex(w), w, rtol=0, atol=1e-15)
    torch.testing.assert_close(project_on_simplex(w + 7), w, rtol=0, atol=1e-14)
    equal = torch.full((4,), -1e9, dtype=torch.float64)
    torch.testing.assert_close(project_on_simplex(equal), torch.full_like(equal, 0.25), rtol=0, atol=1e-15)
