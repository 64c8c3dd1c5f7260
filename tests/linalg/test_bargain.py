from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import bargain, gramian
from lianhe.linalg.bargain import _newton


@pytest.mark.parametrize("name", [name for name in EASY if "m=1" not in name])
def test_the_equation_holds(name):
    G = gramian(EASY[name])
    a = bargain(G)
    assert (a > 0).all()
    torch.testing.assert_close(a * (G @ a), torch.ones_like(a), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_equation_holds_with_a_ridge_on_nasty_matrices(name):
    eps, G = 1e-6, gramian(CASES[name])
    a = bargain(G, eps)
    some = G.diagonal() > 0
    ridged = G + eps * G.diagonal().diag()
    torch.testing.assert_close((a * (ridged @ a))[some], torch.ones_like(a)[some], rtol=0, atol=1e-6)
    assert (a[some] > 0).all()
    assert (a[~some] == 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_closed_form_for_two_is_newtons(seed):
    G = gramian(rows(2, 2, seed) * torch.tensor([[1.0], [10.0 ** (seed % 5 - 2)]], dtype=torch.float64))
    for eps in (0.0, 1e-3):
        torch.testing.assert_close(
            bargain(G, eps), _newton(G, eps, torch.ones(2, dtype=torch.float64), 1.0), rtol=1e-9, atol=0
        )


def test_gains_do_not_depend_on_the_rows_scales():
    J, scales = rows(5, 9, seed=1), torch.tensor([1e-6, 1e-2, 1.0, 1e3, 1e7], dtype=torch.float64)
    torch.testing.assert_close(
        bargain(gramian(J * scales[:, None])) * scales, bargain(gramian(J)), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_ridge_bounds_the_weights_of_rows_that_cancel(m):
    J = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)[:m]
    assert bargain(gramian(J), 1e-6).max() <= 1e3 * (1 + 1e-9)


def test_rows_of_zeros_get_nothing_and_change_nothing():
    J = rows(4, 6, seed=5)
    J[1] = 0
    others = [0, 2, 3]
    a = bargain(gramian(J))
    assert a[1] == 0
    torch.testing.assert_close(a[others], bargain(gramian(J[others])))
    assert bargain(torch.diag(torch.tensor([0.0, 4.0], dtype=torch.float64))).tolist() == pytest.approx(
        [0, 0.5]
    )


POWERS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def backward_error(G, a, shares, power, eps=0.0):
    """How far G a is from s a^(-p), relative to the numbers that G a is added up from."""
    G = G + eps * G.diagonal().diag()
    wanted = shares * a**-power
    return float(((G @ a - wanted).abs() / (G.abs() @ a + wanted)).max())


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("name", EASY)
def test_the_equation_holds_for_any_power_and_shares(name, power):
    G = gramian(EASY[name])
    shares = torch.linspace(0.2, 3, len(G), dtype=torch.float64)
    a = bargain(G, shares=shares, power=power)
    assert (a > 0).all()
    assert backward_error(G, a, shares, power) < 1e-9


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("name", [name for name in CASES if "badly scaled" not in name])
def test_any_power_on_nasty_matrices(name, power):
    eps, J = 1e-6, CASES[name]
    J = J[J.norm(dim=1) > 0]
    if len(J):
        G = gramian(J)
        a = bargain(G, eps, power=power)
        assert (a > 0).all()
        assert backward_error(G, a, torch.ones_like(a), power, eps) < 1e-7


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", [name for name in CASES if "badly scaled" in name])
def test_usual_powers_on_scales_that_span_sixteen_orders(name, power):
    G = gramian(CASES[name])
    a = bargain(G, 1e-6, power=power)
    assert backward_error(G, a, torch.ones_like(a), power, 1e-6) < 1e-7


@pytest.mark.parametrize("power", POWERS)
def test_no_other_point_is_lower(power):
    """The convex function that the equation is the derivative of, against scipy's minimiser."""
    G = gramian(rows(4, 6, seed=2))
    shares = torch.tensor([0.5, 1.0, 2.0, 1.0], dtype=torch.float64)

    def value(x):
        x = torch.as_tensor(x).exp()
        gain = x.log() if power == 1 else x ** (1 - power) / (1 - power)
        return float(x @ G @ x / 2 - shares @ gain)

    a = bargain(G, shares=shares, power=power)
    found = minimize(value, a.log().numpy() + 0.1, method="Nelder-Mead", options={"xatol": 1e-9})
    assert value(a.log()) <= found.fun + 1e-10 * abs(found.fun)


def test_rows_without_a_share_are_as_if_they_were_not_there():
    G, others = gramian(rows(4, 6, seed=5)), [0, 2, 3]
    a = bargain(G, shares=torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    assert a[1] == 0
    torch.testing.assert_close(a[others], bargain(G[others][:, others]))
    assert bargain(G, shares=torch.zeros(4, dtype=torch.float64)).tolist() == [0] * 4


@pytest.mark.parametrize("seed", range(10))
def test_it_takes_few_steps(seed, monkeypatch):
    """Newton's method on the weights alone takes twice as many here."""
    solve, calls = torch.cholesky_solve, []
    monkeypatch.setattr(torch, "cholesky_solve", lambda *a: calls.append(1) or solve(*a))
    bargain(gramian(rows(40, 41, seed)))
    assert len(calls) <= 7
