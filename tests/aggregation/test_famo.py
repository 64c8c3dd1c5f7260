from __future__ import annotations

import pytest
import torch
import torchjd.scalarization as oracle
from tests.aggregation.common import losses, names
from tests.aggregation.oracles import SIZES, assert_weights, spread_losses, weights_of, with_losses

from lianhe.aggregation import FAMO
from lianhe.core.errors import AggregationError, NonFiniteError


def named(values, called=None):
    return dict(zip(called or names(len(values)), values.tolist(), strict=True))


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.1])
def test_the_authors_algorithm_with_adam_of_torch(m, decay):
    method, xi = FAMO(weight_decay=decay), torch.zeros(m, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([xi], lr=0.025, weight_decay=decay)
    for i in range(40):
        before, after = (spread_losses(m) * losses(m, i + k) for k in (0, 1))
        z, above = xi.softmax(0).detach(), before + 1e-8
        c = (z / above).sum()
        expected = weights_of(lambda x, z=z, c=c: ((x + 1e-8).log() * z / c).sum(), before)
        assert_weights(method, before, expected, 1e-9)
        method.review(named(before), named(after))
        adam.zero_grad()
        xi.softmax(0).backward(above.log() - (after + 1e-8).log())
        adam.step()


def test_the_same_as_torchjd_with_lower_bounds():
    bounds = torch.tensor([-2.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    method, theirs = FAMO(minima=named(bounds)), oracle.FAMO(4, min_losses=bounds).double()
    for i in range(20):
        before, after = bounds + losses(4, i), bounds + losses(4, i + 1)
        assert_weights(method, before, weights_of(theirs, before), 1e-9)
        method.review(named(before), named(after))
        theirs.update(after)


def test_all_losses_fall_at_the_same_rate_in_the_end():
    """Two quadratics, each of a number of its own."""
    least, method = torch.tensor([0.0, 1.0], dtype=torch.float64), FAMO(weight_decay=0.0)
    x, gaps = torch.ones(2, dtype=torch.float64), []
    for _ in range(300):
        before = least + x**2
        x = x - 1e-3 * method.weigh(with_losses(before)) * 2 * x
        after = least + x**2
        method.review(named(before), named(after))
        fell = before.log() - after.log()
        gaps.append(float((fell[0] / fell[1]).log().abs()))
    assert gaps[0] > 0.5
    assert max(gaps[-50:]) < 0.1


def test_tasks_without_labels_in_a_batch_are_not_reviewed():
    method, both = FAMO(), torch.tensor([1.0, 3.0], dtype=torch.float64)
    method.review({"a": 1.0, "b": 3.0}, {"a": 0.5, "b": 3.0})
    state = dict(method.state_dict()["rows"][""])
    method.review({"b": 3.0}, {"b": 2.0})
    method.review({"a": 1.0}, {})
    assert method.state_dict()["rows"][""]["a"] == state["a"]
    assert method.weigh(with_losses(both, ("a", "b")))[0] < 0.75


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_below_its_bound_or_not_finite_is_named(bad):
    with pytest.raises(AggregationError, match="FAMO: loss of 'site1' is -1, below its lower bound 0"):
        FAMO().weigh(with_losses(torch.tensor([1.0, -1.0])))
    with pytest.raises(
        AggregationError, match="FAMO, after the step: loss of 'a' is -1, below its lower bound"
    ):
        FAMO().review({"a": 1.0}, {"a": -1.0})
    with pytest.raises(NonFiniteError, match=f"FAMO, after the step: loss of 'a' is {bad}"):
        FAMO().review({"a": 1.0}, {"a": bad})
