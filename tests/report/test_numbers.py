import math

import pytest

from lianhe.report.numbers import decimals, interval, plain, signed


@pytest.mark.parametrize(
    ("spreads", "digits"),
    [
        ([0.012], 3),
        ([0.5], 2),
        ([7.0], 1),
        ([250.0], 0),
        ([1e-12], 6),
        ([0.1, 0.001, 0.01], 3),
        ([], 3),
        ([0.0], 3),
    ],
)
def test_decimals_keep_two_digits_of_the_usual_spread(spreads, digits):
    assert decimals(spreads) == digits
    assert decimals([*spreads, math.nan]) == digits


def test_zero_has_no_sign_of_its_own():
    assert signed(-0.0001, 2) == "+0.00"
    assert plain(-0.0001, 2) == "0.00"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_said_in_words(bad):
    assert (
        plain(bad, 2)
        == signed(bad, 2)
        == interval(bad, bad, bad, 2)
        == interval(0, bad, 0, 2)
        == "not finite"
    )
