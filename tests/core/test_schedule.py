"""Who contributes when."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import pytest

from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.schedule import Alternating, Proportional, Sampled, Together
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


def test_turns_of_different_length_by_name():
    turns = cohorts(Alternating({"a": 2, "c": 3}), 12, ("a", "b", "c"))
    assert "".join(name for (name,) in turns) == "aabccc" * 2
    assert cohorts(Alternating({}), 4, ("x", "y")) == cohorts(Alternating(), 4, ("x", "y"))


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None, "2"])
def test_turns_by_name_must_be_whole_and_positive(number):
    with pytest.raises(SpecError, match=rf"rounds_each\['a'\] of Alternating={number!r}: must be a whole"):
        Alternating({"a": number})


def test_turns_of_somebody_else_are_refused():
    Alternating({"a": 2}).check(NAMES)
    with pytest.raises(UnknownNameError, match="unknown participant in rounds_each of Alternating 'f'"):
        Alternating({"f": 2}).check(NAMES)


SIZES = {"a": 100, "b": 10, "c": 1, "d": 50, "e": 0}


def bound(temperature, count=1, names=NAMES):
    return Proportional(temperature, count).bind(names, SIZES.__getitem__)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_draws_are_in_proportion_to_a_power_of_the_size(temperature):
    rounds = 4000
    counts = Counter(name for (name,) in cohorts(bound(temperature), rounds))
    assert counts["e"] == 0  # nobody without rows, at any temperature
    total = sum(n**temperature for n in SIZES.values() if n)
    for name in "abcd":
        p = SIZES[name] ** temperature / total
        spread = math.sqrt(rounds * p * (1 - p))
        assert abs(counts[name] - rounds * p) < 4.5 * spread + 1, name


def test_several_are_drawn_one_after_the_other_without_putting_back():
    """P({i, j}) = p_i p_j / (1 − p_i) + p_j p_i / (1 − p_j)."""
    rounds, names = 4000, ("a", "b", "d")
    schedule = Proportional(1.0, 2).bind(names, SIZES.__getitem__)
    counts = Counter(cohorts(schedule, rounds, names))
    p = {name: SIZES[name] / 160 for name in names}
    for i, j in combinations(names, 2):
        chance = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert abs(counts[i, j] - rounds * chance) < 4.5 * math.sqrt(rounds * chance * (1 - chance)) + 1


def test_proportional_draws_depend_on_seed_and_round_only():
    schedule = bound(0.5, 2)
    assert cohorts(schedule, 20) == cohorts(schedule, 20)
    assert cohorts(schedule, 20) != cohorts(schedule, 20, seed=1)
    assert schedule.cohort(Stream(0, 13, "somebody", "something"), NAMES) == cohorts(schedule, 14)[13]


def test_sizes_of_any_magnitude_at_any_temperature():
    huge = Proportional(50.0, sizes={"a": 1e300, "b": 1e-300})
    assert set(cohorts(huge, 20, ("a", "b"))) == {("a",)}
    both = Proportional(50.0, 2, sizes={"a": 1e300, "b": 1e-300})
    assert set(cohorts(both, 20, ("a", "b"))) == {("a", "b")}


def test_given_sizes_go_before_those_of_the_data():
    given = Proportional(sizes={"a": 1, "b": 3})
    assert given.bind(("a", "b"), lambda name: pytest.fail("asked for")) is given


def test_a_schedule_that_does_not_ask_for_sizes_costs_none():
    for schedule in (Together(), Alternating(), Sampled(1)):
        assert schedule.bind(NAMES, lambda name: pytest.fail("asked for")) is schedule


@pytest.mark.parametrize("temperature", [-1, float("nan"), float("inf"), "1", None, True])
def test_temperatures_out_of_range_are_refused(temperature):
    with pytest.raises(SpecError, match=f"temperature of Proportional={temperature!r}"):
        Proportional(temperature)


def test_proportional_draws_that_cannot_be_are_refused():
    with pytest.raises(SpecError, match="count of Proportional=0"):
        Proportional(count=0)
    with pytest.raises(SpecError, match=r"count=6\) asks for more than the 5 participants there are"):
        Proportional(count=6).check(NAMES)
    with pytest.raises(SpecError, match="asks for more than the 4 participants that have rows"):
        bound(1.0, 5)
    with pytest.raises(SpecError, match=r"sizes\['a'\] of Proportional=0: must be a positive"):
        Proportional(sizes={"a": 0})
    with pytest.raises(UnknownNameError, match="unknown participant in sizes of Proportional 'z'"):
        Proportional(sizes={"z": 1}).check(NAMES)
    with pytest.raises(SpecError, match="has no size of 'b': give all, or none"):
        Proportional(sizes={"a": 1}).check(NAMES)
    with pytest.raises(SpecError, match="knows no sizes"):
        Proportional().cohort(Stream(0), NAMES)
