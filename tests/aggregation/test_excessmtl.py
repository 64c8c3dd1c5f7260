from __future__ import annotations

import pytest
import torch
import torchjd.aggregation as oracle
from tests.aggregation.common import as_rows
from tests.aggregation.oracles import SIZES, spread_losses
from tests.aggregation.test_gradnorm import of_tasks
from tests.linalg.cases import rows

from lianhe.aggregation import ExcessMTL
from lianhe.core.aggregator import reconcile
from lianhe.core.errors import AggregationError, NonFiniteError


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("lr", [0.01, 1.0])
def test_the_recursion_of_the_paper(m, lr):
    method = ExcessMTL(lr)
    scale, sums = spread_losses(m)[:, None], torch.zeros(m, 9, dtype=torch.float64)
    weights = torch.ones(m, dtype=torch.float64)
    for i in range(12):
        matrix = scale * rows(m, 9, seed=i)
        sums += matrix**2
        excess = torch.stack(
            [g @ torch.diag(1 / (s + 1e-7).sqrt()) @ g for g, s in zip(matrix, sums, strict=True)]
        )
        if i == 0:
            first = excess
        else:
            weights = weights * (lr * excess / first).exp()
            weights = weights / weights.sum() * m
        torch.testing.assert_close(method.weigh(as_rows(matrix)), weights, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("m", [2, 8, 40])
def test_the_same_as_torchjd_whose_weights_sum_to_one(m):
    method, theirs = ExcessMTL(0.3), oracle.ExcessMTL(0.3, n_warmup_steps=1).weighting
    for i in range(8):
        matrix = rows(m, 9, seed=i)
        torch.testing.assert_close(method.weigh(as_rows(matrix)), m * theirs(matrix), rtol=1e-5, atol=1e-8)


def test_a_task_that_comes_close_to_its_best_loses_weight_however_large_its_loss():
    method, shares = ExcessMTL(0.05), []
    for i in range(30):
        matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0]]) * torch.tensor([[1.0], [0.9**i]])
        shares.append(float(method.weigh(as_rows(matrix, of_losses=torch.tensor([0.1, 50.0])))[1]))
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.95


def test_the_weights_reach_heads():
    method = ExcessMTL(0.5)
    reconcile(of_tasks(), method)
    blocks = reconcile(of_tasks(), method)
    first, second = (blocks[f"head.{n}"]["w"].item() / size for n, size in (("a", 5), ("b", 7)))
    assert first + second == pytest.approx(2)
    assert blocks["encoder"]["w"].tolist() == pytest.approx([3 * first, 6 * second])
    with pytest.raises(AggregationError, match="ExcessMTL compares gradients on parameters that all of a, b"):
        reconcile(of_tasks(second_holds_it=False), ExcessMTL())


def test_a_task_that_takes_over_leaves_the_others_a_finite_past():
    method, matrix = ExcessMTL(1e3), torch.eye(2, dtype=torch.float64)
    for i in range(5):
        weights = method.weigh(as_rows(matrix * torch.tensor([[1.0], [0.1 if i else 1.0]])))
    assert weights.tolist() == [2.0, 0.0]
    assert all(torch.isfinite(torch.tensor(log)) for *_, log in method.state_dict()["rows"][""].values())


def test_a_row_that_is_not_finite_is_named_and_not_remembered():
    method = ExcessMTL()
    method.weigh(as_rows(rows(2, 5)))
    broken = rows(2, 5)
    broken[1, 2] = torch.inf
    with pytest.raises(NonFiniteError, match="rows of site1 have"):
        method.weigh(as_rows(broken))
    assert all(kept[0].isfinite().all() for kept in method.state_dict()["rows"][""].values())
