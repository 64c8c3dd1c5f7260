from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import gramian, min_norm_in_simplex
from lianhe.linalg.simplex import _active_set


def assert_optimal(G, w, tolerance=1e-12):
    """The conditions of Karush, Kuhn and Tucker, each relative to the lengths of the rows concerned."""
    assert (w >= 0).all()
    assert float(w.sum()) == pytest.approx(1, abs=1e-12)
    lengths = G.diagonal().clamp(min=0).sqrt()
    size = (w * lengths).sum()
    excess = G @ w - w @ G @ w
    assert (excess >= -tolerance * size * torch.maximum(lengths, size)).all()
    assert ((w * excess).abs() <= tolerance * size * torch.maximum(w * lengths, size)).all()


@pytest.mark.parametrize("name", [*CASES, *EASY])
def test_optimality(name):
    G = gramian((CASES | EASY)[name])
    assert_optimal(G, min_norm_in_simplex(G))


@pytest.mark.parametrize("name", CASES)
def test_optimality_for_a_gramian_in_single_precision(name):
    G = gramian(CASES[name].float())
    assert_optimal(G, min_norm_in_simplex(G), tolerance=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [2, 3, 6])
def test_as_short_as_what_scipy_finds(m, seed):
    G = gramian(rows(m, m + 1, seed, shift=0.3))
    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    found = minimize(
        lambda w: w @ G.numpy() @ w,
        [1 / m] * m,
        jac=lambda w: 2 * G.numpy() @ w,
        bounds=[(0, 1)] * m,
        constraints=simplex,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    w = min_norm_in_simplex(G)
    assert float(w @ G @ w) == pytest.approx(found.fun, rel=1e-8, abs=1e-12)
    torch.testing.assert_close(w, torch.from_numpy(found.x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_closed_form_for_two_is_the_general_solution(seed, shift):
    G = gramian(rows(2, 3, seed, shift) * torch.tensor([[1.0], [10.0 ** (seed % 3)]], dtype=torch.float64))
    torch.testing.assert_close(min_norm_in_simplex(G), _active_set(G, None), rtol=1e-9, atol=1e-12)


def test_a_start_right_or_wrong_ends_in_the_same_place():
    G = gramian(rows(20, 24, seed=4, shift=0.3))
    cold = min_norm_in_simplex(G)
    assert 1 < int((cold > 0).sum()) < 20
    for start in (cold, torch.eye(20, dtype=torch.float64)[0], torch.zeros(20)):
        torch.testing.assert_close(min_norm_in_simplex(G, start), cold, rtol=1e-10, atol=1e-12)


def test_a_right_start_is_not_given_up(monkeypatch):
    G = gramian(rows(20, 24, seed=4, shift=0.3))
    cold = min_norm_in_simplex(G)
    monkeypatch.setattr("lianhe.linalg.nonnegative._LIMIT", 0)
    monkeypatch.setattr("lianhe.linalg.nonnegative._descend", None)
    torch.testing.assert_close(min_norm_in_simplex(G, cold), cold, rtol=1e-12, atol=1e-14)
    with pytest.raises(TypeError):
        min_norm_in_simplex(G)  # from a cold start it takes more than one factorisation


def test_rows_of_zeros_share_the_weight():
    zeros = torch.diag(torch.tensor([0.0, 1.0, 0.0, 2.0], dtype=torch.float64))
    assert min_norm_in_simplex(zeros).tolist() == [0.5, 0, 0.5, 0]
    assert min_norm_in_simplex(zeros[:2, :2]).tolist() == [1, 0]
    assert min_norm_in_simplex(torch.zeros(2, 2, dtype=torch.float64)).tolist() == [0.5, 0.5]
