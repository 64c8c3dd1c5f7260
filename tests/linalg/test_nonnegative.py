from __future__ import annotations

import pytest
import torch
from scipy.optimize import nnls
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import gramian, nonnegative_qp
from lianhe.linalg.nonnegative import _descend, conditioned, pivot


def problem(m: int, n: int, k: int, seed: int):
    """Least squares |A'x - b|² over x >= 0, as a quadratic program, for k vectors b."""
    A, b = rows(m, n, seed), rows(k, n, seed + 1)
    return A, b, gramian(A), -b @ A.T


@pytest.mark.parametrize(("m", "n", "k"), [(1, 4, 3), (2, 3, 1), (8, 9, 5), (40, 60, 40), (40, 200, 3)])
def test_least_squares_as_scipy_solves_it(m, n, k):
    A, b, hessian, linear = problem(m, n, k, seed=m + n)
    expected = torch.stack([torch.from_numpy(nnls(A.T.numpy(), each.numpy())[0]) for each in b])
    torch.testing.assert_close(nonnegative_qp(hessian, linear), expected, rtol=1e-8, atol=1e-9)


def test_many_at_once_are_what_each_is_alone():
    _, _, hessian, linear = problem(12, 14, 30, seed=3)
    alone = torch.cat([nonnegative_qp(hessian, each[None]) for each in linear])
    torch.testing.assert_close(nonnegative_qp(hessian, linear), alone, rtol=1e-12, atol=1e-12)


def test_a_start_changes_the_way_but_not_the_end():
    _, _, hessian, linear = problem(20, 24, 4, seed=5)
    cold = nonnegative_qp(hessian, linear)
    for start in (torch.zeros_like(cold), torch.ones_like(cold), cold):
        torch.testing.assert_close(nonnegative_qp(hessian, linear, start > 0), cold, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_optimality_on_nasty_problems(name):
    matrix = CASES[name]
    hessian = gramian(matrix)
    linear = hessian / len(hessian)  # bounded, because it lies in the range of the Hessian
    x = nonnegative_qp(hessian, linear)
    assert (x >= 0).all()
    lengths = hessian.diagonal().sqrt()
    slope = x @ hessian + linear
    size = ((x + torch.eye(len(x))) * lengths).sum(1, keepdim=True) * lengths
    assert (slope >= -1e-12 * size).all()
    assert ((x * slope).abs() <= 1e-12 * size * x).all()


@pytest.mark.parametrize("m", [2, 8, 40])
def test_one_by_one_and_in_blocks_agree(m, monkeypatch):
    unit, _ = conditioned(gramian(rows(m, m + 2, seed=m)))
    linear = rows(6, m, seed=1)
    expected = torch.stack([_descend(unit, each) for each in linear])
    torch.testing.assert_close(pivot(unit, linear, linear < 0), expected, rtol=1e-9, atol=1e-10)
    monkeypatch.setattr("lianhe.linalg.nonnegative._LIMIT", 0)
    torch.testing.assert_close(pivot(unit, linear, linear < 0), expected, rtol=1e-9, atol=1e-10)


def test_one_exchange_at_a_time_still_arrives(monkeypatch):
    _, _, hessian, linear = problem(16, 18, 8, seed=9)
    expected = nonnegative_qp(hessian, linear)
    monkeypatch.setattr("lianhe.linalg.nonnegative._PATIENCE", 0)
    monkeypatch.setattr("lianhe.linalg.nonnegative._LIMIT", 2000)
    monkeypatch.setattr("lianhe.linalg.nonnegative._descend", None)
    torch.testing.assert_close(nonnegative_qp(hessian, linear), expected, rtol=1e-10, atol=1e-11)


def test_a_variable_without_curvature_is_zero():
    hessian = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    x = nonnegative_qp(hessian, torch.tensor([[-1.0, -1.0]], dtype=torch.float64))
    torch.testing.assert_close(x, torch.tensor([[0.0, 0.5]], dtype=torch.float64))


def test_inputs_are_left_as_they_were():
    _, _, hessian, linear = problem(6, 8, 3, seed=2)
    start = linear < 0
    before = hessian.clone(), linear.clone(), start.clone()
    nonnegative_qp(hessian, linear, start)
    assert all(map(torch.equal, before, (hessian, linear, start)))


@pytest.mark.parametrize("name", [*CASES, *EASY])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conditioned_is_positive_definite_and_close(name, dtype):
    matrix = (CASES | EASY)[name].to(dtype)
    G = gramian(matrix)
    unit, scale = conditioned(G)
    assert torch.linalg.cholesky_ex(unit).info == 0
    expected = G * scale * scale[:, None]
    expected.diagonal().fill_(1)
    precision = 1e-13 if dtype == torch.float64 else 3e-5
    torch.testing.assert_close(unit, expected, rtol=0, atol=precision)
