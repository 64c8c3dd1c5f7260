from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import names
from tests.aggregation.test_sdmgrad import three
from tests.linalg.cases import nasty, rows
from tests.toys import table, task_spec
from torchjd.aggregation import MoDoWeighting as Oracle

from lianhe.aggregation import MGDA, MoDo
from lianhe.core.stack import Rows, Several
from lianhe.experiment.fit import fit


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (1e-3, 0.0), (0.01, 2.0)])
def test_torchjd_over_several_rounds(m, gamma, rho):
    ours, theirs = MoDo(gamma, rho), Oracle(gamma, rho)
    for seed in range(5):
        (first, second, _), stack = three(m, seed)
        expected = theirs(first.values @ second.values.T)
        torch.testing.assert_close(ours.weigh(stack), expected, rtol=1e-8, atol=1e-10)


def test_it_acts_by_the_third_estimate():
    (_, _, third), stack = three(4, seed=3)
    weights = MoDo(1e-3).weigh(stack)
    torch.testing.assert_close(MoDo(1e-3)(stack), weights @ third.values)


@pytest.mark.parametrize("m", [2, 8])
def test_without_noise_it_creeps_to_the_shortest(m):
    matrix = rows(m, m + 10, seed=m, shift=0.2)
    method = MoDo(gamma=0.01, rho=0)
    result = [method(Rows(matrix)) for _ in range(3000)][-1]
    assert float(result.norm()) == pytest.approx(float(MGDA()(matrix).norm()), rel=1e-6)


def test_absent_rows_keep_their_weight():
    method = MoDo(gamma=1e-3)
    _, stack = three(4, seed=1)
    method(stack)
    before = dict(method.state_dict()["rows"][""])
    fewer = [Rows(part.values[:2], names(2)) for part in three(4, seed=2)[0]]
    weights = method.weigh(Several(fewer))
    assert float(weights.sum()) == pytest.approx(1)
    after = method.state_dict()["rows"][""]
    assert [after[n] == before[n] for n in names(4)] == [False, False, True, True]


@pytest.mark.parametrize("m", [2, 8, 40])
def test_singular_and_badly_scaled_rows(m):
    for case, matrix in nasty(m).items():
        method = MoDo()
        for _ in range(3):
            weights = method.weigh(Several([Rows(matrix), Rows(matrix.flip(1)), Rows(matrix)]))
            assert float(weights.sum()) == pytest.approx(1), case
            assert (weights >= 0).all(), case


def test_a_fit_cuts_the_batch_in_three():
    result = fit(task_spec(table(), aggregator=MoDo(), batch_size=30, rounds=3), seed=1)
    kept = result.aggregator.state_dict()["rows"]
    assert set(kept["encoder"]) == {"size", "kind", "flag"}
    assert sum(kept["encoder"].values()) == pytest.approx(1)
