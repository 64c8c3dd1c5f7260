"""What `tune` is asked to search, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lianhe.core.aggregator import Aggregator
from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.spec import Spec
from lianhe.experiment.balancing import aggregator_named
from lianhe.experiment.tuning.setting import FIXED

#: what can be searched
SEARCHABLE = ("weights", "lr", "aggregator")

#: balancing methods that are tried where nobody says which
DEFAULT_METHODS = ("uncertainty", "famo", "imtlg", "cagrad", "upgrad")

#: balancing methods by name; None for fixed weights, and for the specification's own under ""
Methods: TypeAlias = Mapping[str, Aggregator | None]


def require_search(search: Sequence[str], seeds: Sequence[int]) -> None:
    """Refuse what cannot be searched.

    Raises:
        SpecError: if there is nothing to search, or seeds are missing or twice.
    """
    if isinstance(search, str) or not search:
        raise SpecError(f"search={search!r}: give a sequence of one or more of {', '.join(SEARCHABLE)}")
    for name in search:
        if name not in SEARCHABLE:
            raise UnknownNameError("search", name, SEARCHABLE)
    if not seeds or len(set(seeds)) < len(seeds):
        raise SpecError(f"seeds={tuple(seeds)!r}: give one or more, all different")
    for seed in seeds:
        require_whole("a member of seeds", seed, 0)


def seeds_of_fits(seed: int, repeats: int) -> list[int]:
    """Seeds for repeated fits, so far apart that the next seeds of a comparison do not share them.

    Example:
        >>> seeds_of_fits(3, 2)
        [3, 10003]
    """
    return [seed + 10_000 * i for i in range(repeats)]


def chosen_methods(
    spec: Spec, search: Sequence[str], aggregators: Sequence[str] | Mapping[str, Aggregator] | None
) -> Methods:
    """Balancing methods to choose from; the first one is what gains are relative to.

    Raises:
        SpecError: if aggregators are given but not searched, or are none.
        UnknownNameError: if there is none of a name.
    """
    fixed: dict[str, Aggregator | None] = {FIXED: None} if "weights" in search else {}
    if "aggregator" not in search:
        if aggregators is not None:
            raise SpecError(f'aggregators={aggregators!r}: add "aggregator" to search, or leave them out')
        return fixed or {"": spec.aggregator}
    given = DEFAULT_METHODS if aggregators is None else aggregators
    if isinstance(given, str) or not given:
        raise SpecError(f"aggregators={given!r}: give one or more names, or aggregators by name")
    named = given if isinstance(given, Mapping) else {name: aggregator_named(name) for name in given}
    # The plain sum is fixed weights of one, and comes first in any case.
    first = fixed or {"sum": aggregator_named("sum")}
    return {**first, **{name: method for name, method in named.items() if name not in {FIXED, "sum"}}}
