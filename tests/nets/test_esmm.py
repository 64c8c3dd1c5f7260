"""Two events of which the second needs the first, learned on the entire space."""

from __future__ import annotations

from math import exp, log, log1p

import pytest
import torch
from tests.toys import F64, assert_close, net, seeded, weights_of
from torch import nn

from lianhe.core.engine import LoopEngine
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import ESMM
from lianhe.participants import Task


class _Given(nn.Module):
    """A tower that gives what it is given."""

    def forward(self, z):
        return z


@pytest.mark.parametrize("a", [-3.0, 0.0, 0.7, 4.0])
@pytest.mark.parametrize("b", [-2.0, 0.1, 5.0])
def test_the_logit_is_that_of_the_product(a, b) -> None:
    p = 1 / (1 + exp(-a)) / (1 + exp(-b))
    logit = ESMM(_Given())(torch.tensor([[b]], dtype=F64), torch.tensor([[a]], dtype=F64))
    assert logit.item() == pytest.approx(log(p) - log1p(-p), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (400.0, 400.0, 400 - log(2)),  # p rounds to 1
        (-400.0, -400.0, -800.0),  # p is below the smallest number of single precision
        (-400.0, 400.0, -400.0),
        (400.0, 3.0, 3.0),
    ],
)
def test_it_is_exact_where_probabilities_are_not(a, b, expected) -> None:
    z = torch.tensor([b], requires_grad=True)
    click = torch.tensor([a], requires_grad=True)
    logit = ESMM(_Given())(z, click)
    assert logit.item() == pytest.approx(expected, rel=1e-6)
    logit.sum().backward()
    assert z.grad.isfinite().all()
    assert click.grad.isfinite().all()


def test_gradients_of_both_towers() -> None:
    head = ESMM(_Given())
    pair = [torch.randn(5, 1, dtype=F64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(head, pair)


def test_shapes_of_the_towers_need_not_agree() -> None:
    assert ESMM(nn.Linear(3, 1))(torch.zeros(4, 3), torch.zeros(4)).shape == (4, 1)
    assert ESMM(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)))(
        torch.zeros(4, 3), torch.zeros(4, 1)
    ).shape == (4,)


def test_it_learns_rates_after_a_click_from_the_entire_space() -> None:
    """Constant rates: the optimum is known."""
    n, clicks, sales = 200, 80, 20
    y = {"click": torch.zeros(n, dtype=F64), "buy": torch.zeros(n, dtype=F64)}
    y["click"][:clicks], y["buy"][:sales] = 1, 1
    tasks = [
        Task("click", seeded(lambda: nn.Linear(1, 1), 0), "binary_cross_entropy"),
        Task("buy", ESMM(seeded(lambda: nn.Linear(1, 1), 1)), "binary_cross_entropy", reads=("click",)),
    ]
    x = torch.ones(n, 1, dtype=F64)
    spec = Spec(tasks, data=(x, y), rounds=400, batch_size=None, lr=0.1)
    model = fit(spec).model
    rate = model.head("buy").conversion(x[:1]).sigmoid()
    assert rate.item() == pytest.approx(sales / clicks, abs=1e-3)
    both = model(x[:1])
    assert both["buy"].sigmoid().item() == pytest.approx(sales / n, abs=1e-3)
    assert both["click"].sigmoid().item() == pytest.approx(clicks / n, abs=1e-3)


def test_both_engines_agree() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=g, dtype=F64)
    click = (x[:, 0] > 0).to(F64)
    y = {"click": click, "buy": click * (x[:, 1] > 0).to(F64)}
    tasks = [
        Task("click", seeded(lambda: nn.Linear(5, 1), 0), "binary_cross_entropy"),
        Task("buy", ESMM(seeded(lambda: nn.Linear(5, 1), 1)), "binary_cross_entropy", reads=("click",)),
    ]
    spec = Spec(tasks, encoder=net(), data=(x, y), rounds=6, batch_size=16)
    shared, loop = (weights_of(fit(spec, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(shared, loop)
