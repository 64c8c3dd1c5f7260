from __future__ import annotations

import sys

import pytest
import torch
from scipy.optimize import minimize
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import conflict_averse, gramian
from lianhe.linalg.conflict_averse import _newton
from lianhe.linalg.nonnegative import pivot


def dual(G, v, c):
    """F(v) = v'G1/m + c |g0| sqrt(v'Gv)."""
    mean = G.mean(1)
    return v @ mean + c * mean.mean().clamp(min=0).sqrt() * (v @ G @ v).clamp(min=0).sqrt()


#: without cases whose mean is zero, where there is no ball, and without those that have no common unit
PROPER = {
    name: matrix
    for name, matrix in (CASES | EASY).items()
    if not any(
        word in name
        for word in ("scaled", "zeros", "opposite rows, m=2", "opposite rows, m=8", "opposite rows, m=40")
    )
}


@pytest.mark.parametrize("c", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", PROPER)
def test_there_is_no_gap_between_primal_and_dual(name, c):
    G = gramian(PROPER[name])
    x = conflict_averse(G, c)
    radius = c * G.mean().sqrt()
    assert (x >= 0).all()
    assert float((x @ G @ x).clamp(min=0).sqrt()) <= radius * (1 + 1e-6)
    worst = (G.mean(1) + G @ x).min()
    size = float(radius * G.diagonal().max().sqrt() + G.mean(1).abs().max())
    singular = "opposite" in name
    assert float(dual(G, x / x.sum(), c) - worst) == pytest.approx(0, abs=size * (1e-7 if singular else 1e-9))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [2, 3, 6])
def test_no_worse_than_what_scipy_finds(m, seed):
    G, c = gramian(rows(m, m + 2, seed, shift=0.2)), 0.4
    found = minimize(
        lambda v: float(dual(G, torch.from_numpy(v), c)),
        [1 / m] * m,
        bounds=[(0, 1)] * m,
        constraints={"type": "eq", "fun": lambda v: v.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    x = conflict_averse(G, c)
    assert float(dual(G, x / x.sum(), c)) == pytest.approx(found.fun, rel=1e-7, abs=1e-9)
    torch.testing.assert_close(x / x.sum(), torch.from_numpy(found.x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_the_closed_form_for_two_is_newtons(seed, shift, c):
    G = gramian(
        rows(2, 3, seed, shift) * torch.tensor([[1.0], [10.0 ** (seed % 5 - 2)]], dtype=torch.float64)
    )
    for eps in (0.0, 1e-3):
        torch.testing.assert_close(
            conflict_averse(G, c, eps),
            _newton(G, c, eps, torch.full((2,), 0.5, dtype=torch.float64)),
            rtol=1e-6,
            atol=1e-9,
        )


@pytest.mark.parametrize("m", [2, 5])
def test_the_correction_is_as_long_as_the_ball_allows(m):
    G = gramian(rows(m, 9, seed=m))
    for c in (0.1, 0.8):
        x = conflict_averse(G, c)
        torch.testing.assert_close((x @ G @ x).sqrt(), c * G.mean().sqrt(), rtol=1e-9, atol=0)
    assert conflict_averse(G, 0.0).tolist() == [0] * m


@pytest.mark.parametrize("m", [3, 8, 40])
def test_newton_needs_few_steps(m, monkeypatch):
    calls = []
    module = sys.modules["lianhe.linalg.conflict_averse"]
    monkeypatch.setattr(module, "pivot", lambda *a: calls.append(a) or pivot(*a))
    for seed in range(10):
        conflict_averse(gramian(rows(m, m + 5, seed, shift=0.2)), 0.5)
    assert 10 < len(calls) <= 80


@pytest.mark.parametrize("m", [2, 4])
def test_rows_of_zeros_get_nothing(m):
    J = rows(m, 6, seed=3)
    J[1] = 0
    x = conflict_averse(gramian(J), 0.5)
    assert x[1] == 0
    assert x[0] > 0
    assert conflict_averse(torch.zeros(m, m, dtype=torch.float64), 0.5).tolist() == [0] * m


@pytest.mark.parametrize("m", [2, 3])
def test_a_ridge_bounds_the_correction_where_rows_cancel(m):
    J = torch.tensor([[1.0, 0.0], [-1.0, 1e-12], [0.0, 1.0]], dtype=torch.float64)[:m]
    assert conflict_averse(gramian(J), 0.5, eps=1e-8).max() <= 0.5 * 1e4
