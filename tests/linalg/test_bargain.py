from __future__ import annotations

import pytest
import torch
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
