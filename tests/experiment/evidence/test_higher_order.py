"""The higher-order approximation: means of pair losses, direction by direction."""

from __future__ import annotations

import pytest

from lianhe.core.errors import DataError
from lianhe.datasets import load_taskonomy_results
from lianhe.experiment.evidence import higher_order, relative


def test_sign_of_transfer_on_taskonomy() -> None:
    """39 of 55 losses in sets of three and more lie on the side of 1 that is predicted."""
    truth = relative(load_taskonomy_results())
    predicted = higher_order(truth)
    right = [(predicted[s][t] > 1) == (truth[s][t] > 1) for s in truth if len(s) > 2 for t in s]
    assert (sum(right), len(right)) == (39, 55)


def test_each_direction_keeps_its_own_number() -> None:
    table = {frozenset(t): {t: 1.0} for t in "abc"}
    table |= {frozenset("ab"): {"a": 0.5, "b": 2.0}, frozenset("ac"): {"a": 0.7, "c": 1.1}}
    table |= {frozenset("bc"): {"b": 1.0, "c": 1.3}}
    assert higher_order(table)[frozenset("abc")] == pytest.approx({"a": 0.6, "b": 1.5, "c": 1.2})
    assert higher_order(table)[frozenset("ab")] == table[frozenset("ab")]


def test_a_missing_pair_is_named() -> None:
    with pytest.raises(DataError, match=r"\['a', 'b'\]"):
        higher_order({frozenset("a"): {"a": 1.0}, frozenset("b"): {"b": 1.0}})
