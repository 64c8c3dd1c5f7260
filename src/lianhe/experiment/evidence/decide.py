"""From differences to a decision: every task gets the cheapest network that is not known to hurt it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from lianhe.experiment.comparison import Comparison
from lianhe.experiment.difference import Difference, Pair, differences
from lianhe.experiment.evidence.grouping import Grouping, best_grouping
from lianhe.experiment.scores import Unit
from lianhe.experiment.statistics import Interval, holm, verdict

#: "undecided": nothing was shown to gain or to lose, and the cheaper option is proposed
Choice = Literal["together", "in groups", "apart", "undecided"]

#: what a network costs a task, beside 0 for a network of its own: by verdict, and by what speaks against it
_HELP, _HURT, _SUSPECT, _LEANS = -1.0, 1.0, 0.5, 0.25

#: weight of a relative difference, so small that it only decides between choices that are otherwise equal
_TILT = 1e-4


def units_that_count(comparison: Comparison, tasks: Sequence[str]) -> dict[str, Unit]:
    """One unit a task: its first metric, in the order in which it was declared."""
    found: dict[str, Unit] = {}
    for unit in comparison.units:
        if unit.task in tasks or unit.participant in tasks:
            found.setdefault(unit.task or unit.participant, unit)
    return found


def judge(
    comparison: Comparison, names: Sequence[str], against: str, units: Sequence[Unit]
) -> dict[str, tuple[Difference, ...]]:
    """Compare several alternatives with one, on one unit a task; Holm's adjustment is over all of them.

    Where every seed gave the same difference, p is that of sign flips: a variance of zero on a few seeds is
    no evidence.

    Args:
        comparison: what was measured.
        names: of the alternatives.
        against: the other alternative.
        units: what counts.

    Returns:
        By alternative, one difference for each unit that it has; positive where it is better.
    """
    found = {
        name: differences(
            against, _pairs(comparison, name, against, units), test_to_train=comparison.test_to_train
        )
        for name in names
    }
    rows = [row for of in found.values() for row in of]
    ps = [max(row.p, row.p_flip) if row.low == row.high else row.p for row in rows]
    adjusted = iter(holm(ps))
    return {name: tuple(_adjusted(row, next(adjusted)) for row in of) for name, of in found.items()}


def _pairs(comparison: Comparison, name: str, against: str, units: Sequence[Unit]) -> list[Pair]:
    values, higher = comparison.values, comparison.higher_is_better
    return [
        Pair(unit, values[name, unit], values[against, unit], higher[unit.metric])
        for unit in units
        if {(name, unit), (against, unit)} <= values.keys()
    ]


def _adjusted(row: Difference, p_holm: float) -> Difference:
    return replace(row, p_holm=p_holm, verdict=verdict(Interval(row.mean, row.low, row.high, row.p), p_holm))


def choose(
    networks: Mapping[frozenset[str], Mapping[str, Difference]], tasks: Sequence[str], budget: int
) -> tuple[Choice, Grouping]:
    """Choose networks by what was shown, and not by what merely looked better.

    A task prefers a network that was shown to help it, and avoids one that was shown to hurt it. It also
    avoids one that hurt another task and helped none, or one that seems to hurt it, by an interval below zero
    that Holm's adjustment does not let pass: joining needs evidence, staying alone does not. All else is
    equal, and then fewer networks win. If something was shown to hurt and nothing to help, all stay alone, as
    far as the budget goes. Where two choices are equal in all this, the better means decide.

    Args:
        networks: of two tasks and more, what they did to each of theirs against training alone.
        tasks: all of them.
        budget: most networks.

    Returns:
        The choice in a word, and the networks; losses are verdicts in numbers, negative where a task gains.

    Example:
        >>> from lianhe.experiment.evidence.decide import choose
        >>> choose({}, ["a", "b"], budget=2)[1].label
        'a | b'
    """
    alone = {frozenset([task]): {task: 0.0} for task in tasks}
    if _verdicts(networks) >= {"hurt"} and "help" not in _verdicts(networks) and budget >= len(tasks):
        return "apart", best_grouping(alone, budget)
    table = alone | {s: {t: _cost(row, of) for t, row in of.items()} for s, of in networks.items()}
    fewest = best_grouping(table, budget)
    tilted = alone | {
        s: {t: table[s][t] - _TILT * _relative(row) for t, row in of.items()} for s, of in networks.items()
    }
    grouping = best_grouping(tilted, len(fewest.networks)).under(table)
    return _word(networks, grouping), grouping


def _cost(row: Difference, network: Mapping[str, Difference]) -> float:
    if row.verdict != "undecided":
        return _HELP if row.verdict == "help" else _HURT
    verdicts = _verdicts({frozenset(network): network})
    if "hurt" in verdicts and "help" not in verdicts:
        return _SUSPECT
    return _LEANS if row.high < 0 else 0.0


def _verdicts(networks: Mapping[frozenset[str], Mapping[str, Difference]]) -> set[str]:
    return {row.verdict for of in networks.values() for row in of.values()}


def _word(networks: Mapping[frozenset[str], Mapping[str, Difference]], chosen: Grouping) -> Choice:
    if _verdicts(networks) <= {"undecided"}:
        return "undecided"
    if chosen.apart:
        return "apart"
    return "together" if len(chosen.networks) == 1 else "in groups"


def _relative(row: Difference) -> float:
    """Difference relative to the other score, between -1 and 1; 0 where there is none."""
    if not row.measured or row.other_mean == 0:
        return 0.0
    return max(-1.0, min(1.0, row.mean / abs(row.other_mean)))
