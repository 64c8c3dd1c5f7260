from __future__ import annotations

import math

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import NashMTL
from lianhe.linalg import gramian


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
def test_the_equation_of_the_bargain(m):
    matrix = rows(m, m + 10, seed=m)
    G = gramian(matrix)
    a = NashMTL(max_norm=None, eps=0).weigh(as_rows(matrix))
    torch.testing.assert_close((G / G.norm()) @ a, 1 / a, rtol=1e-8, atol=0)
    assert float(NashMTL(max_norm=None, eps=0)(matrix).norm()) == pytest.approx(
        math.sqrt(m * float(G.norm()))
    )


def test_relative_gains_are_equal_whatever_the_scales():
    matrix = rows(4, 9, seed=3)
    scales = torch.tensor([[1e-3], [1.0], [10.0], [1e4]], dtype=torch.float64)
    direction = torch.nn.functional.normalize(NashMTL()(matrix), dim=0)
    rescaled = torch.nn.functional.normalize(NashMTL()(matrix * scales), dim=0)
    torch.testing.assert_close(rescaled, direction, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 3.0])
def test_clipping_keeps_the_direction(max_norm):
    matrix = rows(5, 9, seed=1)
    free = NashMTL(max_norm=None)(matrix)
    clipped = NashMTL(max_norm=max_norm)(matrix)
    assert float(free.norm()) > 3
    assert float(clipped.norm()) == pytest.approx(max_norm)
    torch.testing.assert_close(clipped * free.norm(), free * max_norm)


def test_small_rows_are_not_clipped():
    matrix = rows(5, 9, seed=1) * 1e-3
    free = NashMTL(max_norm=None)(matrix)
    assert float(free.norm()) < 1
    assert NashMTL()(matrix).equal(free)
    assert NashMTL(max_norm=math.inf)(matrix).equal(free)


def test_a_ridge_bounds_weights_where_no_direction_helps_all():
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    a = NashMTL(max_norm=None, eps=1e-6).weigh(as_rows(matrix))
    assert a.max() < 1e3 * 3
    torch.testing.assert_close(
        NashMTL()(matrix), torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("m", [1, 2, 5, 40])
def test_a_preference_is_power_in_the_bargain(m):
    matrix, p = rows(m, m + 10, seed=m), torch.linspace(0.5, 2, m, dtype=torch.float64)
    G = gramian(matrix)
    a = NashMTL(max_norm=None, eps=0, preference=p.tolist()).weigh(as_rows(matrix))
    torch.testing.assert_close((G / G.norm()) @ a, p / a, rtol=1e-8, atol=0)
    assert float((a @ matrix).norm()) == pytest.approx(math.sqrt(float(p.sum() * G.norm())))
    equal = NashMTL(preference=[1.0] * m).weigh(as_rows(matrix))
    torch.testing.assert_close(equal, NashMTL().weigh(as_rows(matrix)), rtol=1e-7, atol=0)
    by_name = {f"site{i}": float(p[i]) for i in reversed(range(m))}
    named = NashMTL(max_norm=None, eps=0, preference=by_name).weigh(as_rows(matrix))
    assert named.equal(a)
