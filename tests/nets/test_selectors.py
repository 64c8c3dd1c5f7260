"""The smooth step; what selectors make of it is in test_dselectk."""

from __future__ import annotations

import torch
from tests.toys import F64

from lianhe.nets.selectors import smooth_step


def test_it_is_the_cubic_of_the_paper_and_flat_outside() -> None:
    for gamma in (0.5, 1.0, 3.0):
        t = torch.linspace(-gamma, gamma, 201, dtype=F64)
        cubic = -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 0.5
        expected = torch.where(t <= -gamma / 2, 0.0, torch.where(t >= gamma / 2, 1.0, cubic))
        torch.testing.assert_close(smooth_step(t, gamma), expected)


def test_it_is_symmetric_and_its_slope_is_continuous() -> None:
    t = torch.linspace(-1, 1, 2001, dtype=F64, requires_grad=True)
    step = smooth_step(t)
    torch.testing.assert_close(step + smooth_step(-t), torch.ones_like(t))
    (slope,) = torch.autograd.grad(step.sum(), t)
    assert slope.diff().abs().max() < 0.01
    assert torch.autograd.gradcheck(
        smooth_step, torch.tensor([-0.4, 0.0, 0.3], dtype=F64, requires_grad=True)
    )
