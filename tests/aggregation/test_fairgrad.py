from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from tests.aggregation.common import as_rows
from tests.linalg.cases import nasty, rows
from torchjd.aggregation import FairGrad as Oracle

from lianhe.aggregation import FairGrad, NashMTL
from lianhe.linalg import gramian

ALPHAS = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_equation(m, alpha):
    matrix = rows(m, m + 10, seed=m)
    w = FairGrad(alpha, eps=0).weigh(as_rows(matrix))
    assert (w > 0).all()
    torch.testing.assert_close(gramian(matrix) @ w, w ** (-1 / alpha), rtol=1e-7, atol=0)


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_torchjd(m, alpha):
    """Least squares stop early: TorchJD's residual is larger, and its weights are near."""
    matrix = rows(m, m + 10, seed=m)
    ours, theirs = FairGrad(alpha, eps=0)(matrix), Oracle(alpha)(matrix)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(ours.norm()))


@pytest.mark.parametrize("alpha", [0.5, 2.0, 4.0])
def test_gains_in_a_ball_are_fair(alpha):
    """The definition by which it goes: no direction has fairer gains."""
    matrix = rows(3, 5, seed=1)
    d = torch.nn.functional.normalize(FairGrad(alpha, eps=0)(matrix), dim=0)

    def unfairness(x):
        x = torch.as_tensor(x)
        gains = (matrix @ x / x.norm()).clamp(min=1e-12)
        return -float((gains ** (1 - alpha) / (1 - alpha)).sum())

    found = minimize(
        unfairness, d.numpy() + 0.05, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    assert unfairness(d) <= found.fun + 1e-7 * abs(found.fun)


def test_alpha_one_is_the_bargain():
    matrix = rows(6, 9, seed=4)
    nash = NashMTL(max_norm=None)(matrix)
    fair = FairGrad(1.0)(matrix)
    assert float(torch.cosine_similarity(nash, fair, 0)) == pytest.approx(1, abs=1e-12)


def test_a_larger_alpha_helps_the_worst_off_more():
    matrix = rows(5, 8, seed=2, shift=0.3) * torch.tensor([[1.0], [2.0], [4.0], [0.5], [8.0]])
    directions = [torch.nn.functional.normalize(FairGrad(alpha)(matrix), dim=0) for alpha in ALPHAS]
    worst = [float((matrix @ d).min()) for d in directions]
    assert worst == sorted(worst)


def test_length_follows_the_gradients_as_documented():
    matrix = rows(4, 7, seed=3)
    for alpha in ALPHAS:
        power = (1 - alpha) / (1 + alpha)
        expected = 10**power * FairGrad(alpha)(matrix)
        torch.testing.assert_close(FairGrad(alpha)(10 * matrix), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("m", [2, 8, 40])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_singular_and_badly_scaled_rows(alpha, m):
    for case, matrix in nasty(m).items():
        G = gramian(matrix)
        w = FairGrad(alpha, eps=1e-6).weigh(as_rows(matrix))
        some = G.diagonal() > 0
        assert (w[~some] == 0).all()
        wanted, gains = w[some] ** (-1 / alpha), ((G + 1e-6 * G.diagonal().diag()) @ w)[some]
        size = (G.abs() @ w)[some] + wanted
        assert ((gains - wanted).abs() <= 1e-7 * size).all(), case
