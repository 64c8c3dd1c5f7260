"""Who contributes when."""

from __future__ import annotations

from collections import Counter

import pytest

from lianhe.core.errors import SpecError
from lianhe.core.schedule import Alternating, Sampled, Together
from lianhe.core.streams import Stream

NAMES = ("a", "b", "c", "d", "e")


def cohorts(schedule, rounds, names=NAMES, seed=0):
    return [tuple(schedule.cohort(Stream(seed, r), names)) for r in range(rounds)]


def test_together_is_everybody():
    assert set(cohorts(Together(), 4)) == {NAMES}


def test_alternating_goes_round_and_stays_as_long_as_it_is_told():
    assert cohorts(Alternating(), 6) == [(n,) for n in ("a", "b", "c", "d", "e", "a")]
    assert cohorts(Alternating(2), 5, ("x", "y")) == [("x",), ("x",), ("y",), ("y",), ("x",)]


def test_sampled_draws_different_participants_in_their_order():
    drawn = cohorts(Sampled(3), 200)
    assert all(len(set(c)) == 3 and list(c) == sorted(c) for c in drawn)
    counts = Counter(name for c in drawn for name in c)
    assert set(counts) == set(NAMES)
    assert all(90 < count < 150 for count in counts.values())  # 120 expected
    assert len(set(drawn)) == 10  # all there are


def test_what_is_drawn_depends_on_seed_and_round_only():
    assert cohorts(Sampled(2), 20) == cohorts(Sampled(2), 20)
    assert cohorts(Sampled(2), 20) != cohorts(Sampled(2), 20, seed=1)
    assert Sampled(2).cohort(Stream(0, 13, "somebody", "something"), NAMES) == cohorts(Sampled(2), 14)[13]


def test_a_sample_of_all_is_all():
    assert set(cohorts(Sampled(5), 5)) == {NAMES}


@pytest.mark.parametrize("make", [Sampled, Alternating])
@pytest.mark.parametrize("number", [0, -1, 1.5, 2.0, True, None, "2", float("nan")])
def test_counts_must_be_whole_and_positive(make, number):
    with pytest.raises(
        SpecError, match=f"of {make.__name__}={number!r}: must be a whole number of at least 1"
    ):
        make(number)


def test_a_sample_larger_than_all_is_refused():
    Sampled(5).check(NAMES)
    with pytest.raises(SpecError, match=r"Sampled\(6\) asks for more than the 5 participants"):
        Sampled(6).check(NAMES)
