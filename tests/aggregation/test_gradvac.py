from __future__ import annotations

import itertools
import math

import pytest
import torch
from tests.aggregation.common import as_rows, names
from tests.linalg.cases import nasty, rows
from torchjd.aggregation import GradVac as Oracle

from lianhe.aggregation import GradVac, PCGrad
from lianhe.aggregation.gradvac import _vaccinate
from lianhe.aggregation.pcgrad import orders
from lianhe.core.stack import Rows
from lianhe.core.streams import Stream
from lianhe.linalg import gramian


def vaccinate(matrix, usual, order, beta):
    """The paper's algorithm on the vectors themselves; changes `usual`."""
    total = torch.zeros_like(matrix[0])
    for i, others in enumerate(order):
        g = matrix[i].clone()
        for j in others:
            if i == j:
                continue
            other, aim = matrix[j], usual[i][j]
            cosine = float(g @ other / g.norm() / other.norm())
            if cosine < aim:
                sines = math.sqrt(1 - cosine**2), math.sqrt(1 - aim**2)
                share = g.norm() * (aim * sines[0] - cosine * sines[1]) / (other.norm() * sines[1])
                g = g + share * other
                assert float(g @ other / g.norm() / other.norm()) == pytest.approx(aim, abs=1e-9)
            usual[i][j] = (1 - beta) * aim + beta * cosine
        total += g
    return total


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0])
def test_the_algorithm_on_vectors_over_several_rounds(m, beta):
    method, usual = GradVac(beta), [[0.0] * m for _ in range(m)]
    for step in range(3):
        matrix = rows(m, m + 4, seed=step, shift=0.3)
        stack = as_rows(matrix, seed=step)
        order = orders(m, stack.generator()).tolist()
        torch.testing.assert_close(method(stack), vaccinate(matrix, usual, order, beta), rtol=1e-8, atol=1e-9)
    kept = method.state_dict()["rows"][""]
    for i, j in itertools.permutations(range(m), 2):
        assert kept[f"site{i}"][f"site{j}"] == pytest.approx(usual[i][j])


@pytest.mark.parametrize("seed", range(5))
def test_two_rows_as_torchjd_weighs_them(seed):
    ours, theirs = GradVac(), Oracle()
    for step in range(5):
        matrix = rows(2, 5, 10 * seed + step, shift=0.4)
        torch.testing.assert_close(ours(matrix), theirs(matrix), rtol=1e-6, atol=1e-7)


def test_at_first_it_is_pcgrad():
    stack = as_rows(rows(7, 9, seed=1) - 0.3, seed=2)
    torch.testing.assert_close(GradVac()(stack), PCGrad()(stack), rtol=1e-9, atol=1e-10)
    still = GradVac(beta=0)
    still(as_rows(rows(7, 9, seed=3), seed=1))
    torch.testing.assert_close(still(stack), PCGrad()(stack), rtol=1e-9, atol=1e-10)


def test_rows_that_disagree_more_than_usual_are_turned():
    agree = torch.tensor([[1.0, 0.2], [1.0, -0.2]], dtype=torch.float64)
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    method = GradVac(beta=1.0)
    assert method.weigh(as_rows(agree)).tolist() == [1, 1]
    assert (method.weigh(as_rows(apart)) > 3).all()


def test_orders_change_with_the_round():
    matrix = rows(6, 7) - 0.5
    first, second = (GradVac()(Rows(matrix, stream=Stream(0, round=i))) for i in (1, 2))
    assert GradVac()(Rows(matrix, stream=Stream(0, round=1))).equal(first)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("m", [2, 8, 40])
def test_singular_and_badly_scaled_rows_for_many_rounds(m):
    for case, matrix in nasty(m).items():
        method = GradVac()
        for step in range(12):
            weights = method.weigh(as_rows(matrix, seed=step))
            assert weights.isfinite().all(), case
        cosines = [c for of in method.state_dict()["rows"][""].values() for c in of.values()]
        assert max(map(abs, cosines)) <= 1, case


def test_sudden_conflict_of_parallel_rows_is_bounded():
    usual = torch.ones(2, 2, dtype=torch.float64)
    opposed = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    weights = _vaccinate(gramian(opposed), usual, torch.tensor([[0, 1], [0, 1]]), 0.5)
    assert weights.isfinite().all()


def test_pairs_with_an_absent_row_keep_their_cosine():
    method = GradVac()
    method(as_rows(rows(4, 6, shift=0.4), seed=0))
    before = method.state_dict()["rows"][""]
    method(Rows(rows(2, 6, 1), [names(4)[2], names(4)[0]], stream=Stream(0)))
    after = method.state_dict()["rows"][""]
    changed = {(a, b) for a in before for b in before[a] if before[a][b] != after[a][b]}
    assert changed == {("site0", "site2"), ("site2", "site0")}
