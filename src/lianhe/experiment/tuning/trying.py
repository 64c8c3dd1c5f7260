"""One trial: fits with one setting, watched on the validation rows, and stopped where they are hopeless."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lianhe.core.errors import AggregationError, NonFiniteError
from lianhe.core.ledger import Observer
from lianhe.core.result import Record, Result
from lianhe.core.spec import Spec
from lianhe.experiment.fit import fit
from lianhe.experiment.tuning.amounts import each_once
from lianhe.experiment.tuning.measured import Measured, average, measured
from lianhe.experiment.tuning.tried import State

#: told of what has been reached so far, at a step; says whether to go on
Watch = Callable[[int, Measured], bool]


class Hopeless(Exception):  # noqa: N818  no error: it leaves a fit that is not worth its time
    """Raised by the observer of a fit to end it between two rounds."""


@dataclass(frozen=True)
class Attempt:
    """How the fits of one setting went.

    Args:
        state: "finished", "pruned" (stopped for being worse than others), or "failed".
        reached: validation measures, the mean over seeds; empty unless finished.
        rounds: that were run, all fits together.
        seconds: that they took.
        why: it failed.
    """

    state: State
    reached: Measured
    rounds: int
    seconds: float
    why: str = ""


def attempt(specs: Mapping[int, Spec], wanted: Mapping[str, Sequence[str]], watch: Watch) -> Attempt:
    """Fit the specification of each seed, as long as it is worth it."""
    started = time.perf_counter()
    done: list[Measured] = []
    clock = _Clock()
    state: State = "finished"
    why = ""
    try:
        for seed, spec in specs.items():
            result = fit(spec, seed=seed, observer=_observer(clock, done, wanted, watch))
            done.append(_reached(result, spec, wanted))
            clock.next_fit()
    except Hopeless:
        state = "pruned"
    except (NonFiniteError, AggregationError) as error:
        state, why = "failed", str(error)
    reached = average(done) if state == "finished" else {}
    return Attempt(state, reached, clock.rounds, time.perf_counter() - started, why)


class _Clock:
    """Rounds over several fits in a row."""

    def __init__(self) -> None:
        self._before, self._now = 0, 0

    @property
    def rounds(self) -> int:
        """Rounds so far."""
        return self._before + self._now

    def set(self, done: int) -> None:
        """Rounds of the present fit."""
        self._now = done

    def next_fit(self) -> None:
        """The present fit has ended."""
        self._before, self._now = self.rounds, 0


def _observer(
    clock: _Clock, done: Sequence[Measured], wanted: Mapping[str, Sequence[str]], watch: Watch
) -> Observer:
    def observe(rounds: int, total: int, records: Sequence[Record]) -> None:
        clock.set(rounds)
        on_the_way = [record for record in records if record.split == "validation"]
        if on_the_way and rounds < total:
            so_far = average([*done, measured(on_the_way, wanted)])
            if not watch(clock.rounds, so_far):
                raise Hopeless

    return observe


def _reached(result: Result, spec: Spec, wanted: Mapping[str, Sequence[str]]) -> Measured:
    """Measures of the models as the fit left them, which need not be those of the last round."""
    records: list[Any] = [r for data in each_once(spec, "validation") for r in result.evaluate(data)]
    return measured(records, wanted)
