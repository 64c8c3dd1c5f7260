from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import names
from tests.linalg.cases import nasty, rows
from tests.toys import table, task_spec
from torchjd.aggregation import SDMGradWeighting as Oracle

from lianhe.aggregation import MGDA, SDMGrad
from lianhe.core.errors import NonFiniteError
from lianhe.core.stack import Rows, Several
from lianhe.experiment.fit import fit


def three(m, seed=0, spread=0.3):
    """Three noisy estimates of the same rows."""
    mean = rows(m, m + 6, seed, shift=0.2)
    parts = [Rows(mean + spread * rows(m, m + 6, 100 * seed + i), names(m)) for i in range(3)]
    return parts, Several(parts)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("lambda_", [0.0, 0.3, 2.0])
def test_torchjd_over_several_rounds(m, lambda_):
    ours, theirs = SDMGrad(lambda_, lr=0.1), Oracle(lr=0.1, lambda_=lambda_)
    for seed in range(4):
        (first, second, _), stack = three(m, seed)
        expected = theirs(first.values @ second.values.T)
        torch.testing.assert_close(ours.weigh(stack), expected, rtol=1e-6, atol=1e-8)


def test_it_acts_by_the_third_estimate():
    (_, _, third), stack = three(4, seed=3)
    torch.testing.assert_close(SDMGrad()(stack), SDMGrad().weigh(stack) @ third.values)


def test_defaults_are_torchjds():
    _, stack = three(3, seed=5)
    torch.testing.assert_close(SDMGrad().weigh(stack), Oracle()(stack.cross()), rtol=1e-6, atol=1e-8)


def test_a_preference_by_name():
    _, stack = three(3, seed=2)
    u = torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64)
    weights = SDMGrad(preference={"site1": 0.7, "site0": 0.1, "site2": 0.2}, lr=0.1).weigh(stack)
    torch.testing.assert_close(weights, Oracle(lr=0.1, pref_vector=u)(stack.cross()), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("m", [2, 8])
def test_without_noise_and_pull_it_goes_to_the_shortest(m):
    matrix = rows(m, m + 10, seed=m, shift=0.2)
    method = SDMGrad(lambda_=0, steps=400, lr=0.2)
    result = [method(Rows(matrix)) for _ in range(10)][-1]
    assert float(result.norm()) == pytest.approx(float(MGDA()(matrix).norm()), rel=1e-6)


@pytest.mark.parametrize("m", [2, 8, 40])
def test_singular_and_badly_scaled_rows(m):
    for case, matrix in nasty(m).items():
        method = SDMGrad()
        for _ in range(3):
            weights = method.weigh(Several([Rows(matrix), Rows(matrix.flip(1)), Rows(matrix)]))
            assert float(weights.sum()) == pytest.approx(1), case
            assert (weights >= 0).all(), case


def test_a_fit_cuts_the_batch_in_three():
    result = fit(task_spec(table(), aggregator=SDMGrad(), batch_size=30, rounds=3), seed=1)
    kept = result.aggregator.state_dict()["rows"]
    assert set(kept["encoder"]) == {"size", "kind", "flag"}
    assert sum(kept["encoder"].values()) == pytest.approx(1)


def test_rows_that_are_not_finite_in_one_estimate():
    parts, stack = three(3)
    parts[0].values[1, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="SDMGrad: the rows of site1 have"):
        SDMGrad()(stack)
