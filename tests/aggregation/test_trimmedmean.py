from __future__ import annotations

import pytest
import torch
from scipy.stats import trim_mean
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows
from torchjd.aggregation import TrimmedMean as Oracle

from lianhe.aggregation import Median, TrimmedMean
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize(("m", "trim"), [(1, 0), (5, 0), (5, 1), (5, 2), (40, 13)])
def test_torchjd(m, trim):
    matrix = rows(m, 30, seed=m)
    torch.testing.assert_close(TrimmedMean(trim)(matrix), Oracle(trim)(matrix))


@pytest.mark.parametrize(("m", "fraction"), [(10, 0.3), (10, 0.1), (20, 0.45), (4, 0.25)])
def test_a_fraction_as_scipy_takes_it(m, fraction):
    matrix = rows(m, 30, seed=m)
    expected = torch.from_numpy(trim_mean(matrix.numpy(), fraction + 1e-9))
    torch.testing.assert_close(TrimmedMean(fraction)(matrix), expected)


def test_a_fraction_is_rounded_up():
    matrix = rows(10, 30)
    assert TrimmedMean(0.11)(matrix).equal(TrimmedMean(2)(matrix))
    assert 0.28 * 25 > 7  # by a rounding error, which does not count
    assert TrimmedMean(0.28)(rows(25, 30)).equal(TrimmedMean(7)(rows(25, 30)))


def test_most_that_can_be_trimmed_is_the_median():
    for m in (5, 6):
        matrix = rows(m, 30)
        torch.testing.assert_close(TrimmedMean((m - 1) // 2)(matrix), Median()(matrix))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e30])
def test_hostile_rows_stay_without_effect(value):
    honest = rows(5, 20)
    result = TrimmedMean(2)(torch.cat([torch.full((2, 20), value, dtype=torch.float64), honest]))
    assert (result >= honest.min(0).values).all()
    assert (result <= honest.max(0).values).all()


@pytest.mark.parametrize(("m", "trim", "least"), [(4, 2, 5), (2, 0.3, 3), (1, 1, 3)])
def test_too_few_rows_are_named(m, trim, least):
    with pytest.raises(
        AggregationError, match=rf"leaves nothing of {m} rows \(site0.*at least {least} participants"
    ):
        TrimmedMean(trim)(as_rows(rows(m, 4)))
