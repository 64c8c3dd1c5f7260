from __future__ import annotations

import itertools

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows
from torchjd.aggregation import PCGrad as Oracle

from lianhe.aggregation import PCGrad
from lianhe.aggregation.pcgrad import _of_few, _of_many, orders
from lianhe.linalg import gramian


def project(matrix, order):
    """The paper's algorithm on the vectors themselves."""
    total = torch.zeros_like(matrix[0])
    for i, others in enumerate(order):
        g = matrix[i].clone()
        for j in others:
            if j != i and g @ matrix[j] < 0:
                g -= (g @ matrix[j]) / (matrix[j] @ matrix[j]) * matrix[j]
        total += g
    return total


@pytest.mark.parametrize("m", [1, 2, 3, 8, 16, 17, 40])
def test_the_algorithm_on_vectors(m):
    matrix = rows(m, m + 4, seed=m)
    stack = as_rows(matrix, seed=1)
    order = orders(m, stack.generator()).tolist()
    torch.testing.assert_close(PCGrad()(stack), project(matrix, order), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("m", [2, 5, 30])
def test_plain_numbers_and_tensors_agree(m):
    matrix = rows(m, m + 4, seed=m)
    matrix[m // 2] = 0
    order = orders(m, torch.Generator().manual_seed(3))
    few = torch.tensor(_of_few(gramian(matrix).tolist(), order.tolist()), dtype=torch.float64)
    torch.testing.assert_close(_of_many(gramian(matrix), order), few, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_torchjd_takes_one_of_the_possible_orders(seed):
    matrix = rows(3, 4, seed) - 0.3
    torch.manual_seed(seed)
    theirs = Oracle()(matrix)
    both = [(1, 2), (2, 1)], [(0, 2), (2, 0)], [(0, 1), (1, 0)]
    possible = torch.stack([project(matrix, order) for order in itertools.product(*both)])
    assert torch.isclose(possible, theirs, rtol=1e-9, atol=1e-10).all(1).any()
    ours = PCGrad()(as_rows(matrix, seed=seed))
    assert torch.isclose(possible, ours, rtol=1e-9, atol=1e-10).all(1).any()


@pytest.mark.parametrize("seed", range(5))
def test_two_rows_as_torchjd_weighs_them(seed):
    matrix = rows(2, 4, seed)
    torch.testing.assert_close(PCGrad()(matrix), Oracle()(matrix), rtol=1e-9, atol=1e-10)


def test_orders_change_with_the_round():
    matrix = rows(6, 7) - 0.5
    assert PCGrad()(as_rows(matrix, seed=1)).equal(PCGrad()(as_rows(matrix, seed=1)))
    assert not torch.allclose(PCGrad()(as_rows(matrix, seed=1)), PCGrad()(as_rows(matrix, seed=2)))


def test_every_order_is_equally_likely():
    drawn = orders(4000, torch.Generator().manual_seed(0))[:, :3]  # of very many rows: nearly independent
    assert torch.equal(orders(50, torch.Generator()).sort(1).values, torch.arange(50).expand(50, 50))
    first_is_smaller = (drawn[:, 0] < drawn[:, 1]).double().mean()
    assert float(first_is_smaller) == pytest.approx(0.5, abs=0.03)
