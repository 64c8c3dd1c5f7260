from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows, losses
from tests.aggregation.oracles import SIZES, spread_losses
from tests.linalg.cases import rows

from lianhe.aggregation import GradNorm
from lianhe.core.aggregator import reconcile
from lianhe.core.contribution import Contribution, Joint
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Collected


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_weights_are_learnt_as_by_the_loss_of_the_paper(m, alpha):
    """By autograd through the lengths of the weighted gradients, under Adam of torch."""
    method, s = GradNorm(alpha, lr=0.05), torch.zeros(m, dtype=torch.float64, requires_grad=True)
    adam, scale = torch.optim.Adam([s], lr=0.05), spread_losses(m)
    first = scale * losses(m, 0)
    for i in range(30):
        matrix, lost = scale.flip(0)[:, None] * rows(m, m + 3, seed=i), scale * losses(m, i)
        weights = m * s.softmax(0)
        ours = method.weigh(as_rows(matrix, of_losses=lost))
        torch.testing.assert_close(ours, weights.detach(), rtol=1e-8, atol=0)
        lengths = (weights[:, None] * matrix).norm(dim=1)
        rate = (lost / first) / (lost / first).mean()
        adam.zero_grad()
        (lengths - (lengths.mean() * rate**alpha).detach()).abs().sum().backward()
        adam.step()


def test_with_alpha_0_lengths_become_equal():
    matrix, method = rows(4, 6, seed=1) * torch.tensor([[0.1], [1.0], [3.0], [20.0]]), GradNorm(alpha=0)
    for _ in range(600):
        weights = method.weigh(as_rows(matrix))
    lengths = weights * matrix.norm(dim=1)
    torch.testing.assert_close(lengths, lengths.mean().expand(4), rtol=0.1, atol=0)


def test_who_has_learnt_less_pulls_harder():
    matrix, method = torch.eye(2, dtype=torch.float64), GradNorm()
    method.weigh(as_rows(matrix, of_losses=torch.tensor([1.0, 50.0])))
    for _ in range(5):
        weights = method.weigh(as_rows(matrix, of_losses=torch.tensor([0.9, 20.0])))
    assert weights[0] > 1 > weights[1]


def tensor(*values):
    return {"w": torch.tensor(values, dtype=torch.float64)}


def of_tasks(second_holds_it=True):
    second = {"encoder": tensor(0, 6)} if second_holds_it else {}
    return Collected(
        [
            Contribution("a", {"encoder": tensor(3, 0), "head.a": tensor(5)}, loss=1.0, objective=True),
            Contribution("b", {**second, "head.b": tensor(7)}, loss=2.0, objective=True),
        ],
        Joint({"encoder": tensor(0, 0), "head.a": tensor(0), "head.b": tensor(0)}),
    )


def test_weights_are_found_on_what_is_shared_and_reach_heads():
    method, twin = GradNorm(), GradNorm()
    for _ in range(3):
        blocks = reconcile(of_tasks(), method)
        matrix = torch.tensor([[3.0, 0], [0, 6]], dtype=torch.float64)
        first, second = twin.weigh(as_rows(matrix, of_losses=torch.tensor([1.0, 2.0]))).tolist()
        assert blocks["encoder"]["w"].tolist() == [3 * first, 6 * second]
        assert blocks["head.a"]["w"].tolist() == [5 * first]
        assert blocks["head.b"]["w"].tolist() == [7 * second]
    assert first > 1 > second


def test_tasks_that_share_nothing_cannot_be_compared():
    with pytest.raises(AggregationError, match="GradNorm compares gradients on parameters that all of a, b"):
        reconcile(of_tasks(second_holds_it=False), GradNorm())


def test_a_loss_that_is_not_positive_is_named():
    with pytest.raises(AggregationError, match="GradNorm: loss of 'site1' is 0, but must be positive"):
        GradNorm().weigh(as_rows(torch.eye(2), of_losses=torch.tensor([1.0, 0.0])))
