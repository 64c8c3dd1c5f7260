"""Stopping: when a fit ends before its last round, and which of its joints it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lianhe.core.contribution import Measure


class Stopping(ABC):
    """Interface: judges the measures on validation data that `evaluate_every` asks for.

    Attributes:
        restore: the fit gives back the best joint instead of the last.
        stopped: the fit is to end.
    """

    restore: bool = True
    stopped: bool = False

    @abstractmethod
    def check(self, measures: Mapping[str, Collection[str]]) -> None:
        """Raise SpecError if it needs a measure that will not be taken; names of measures by task."""

    def among(self, tasks: Sequence[str]) -> Stopping:
        """The same rule for these tasks, where there are no others."""
        return self

    @abstractmethod
    def judge(self, round_: int, measures: Sequence[tuple[str, Measure]]) -> bool:
        """Take in what was measured after a round, by participant; say whether this is the best joint."""

    def findings(self) -> tuple[str, ...]:
        """What it has decided: sentences for a report."""
        return ()

    def state_dict(self) -> Mapping[str, Any]:
        """State, for a checkpoint: numbers, strings, and mappings of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027  some decide by the round alone
        """Take over a state that `state_dict` gave."""

    def __repr__(self) -> str:
        told = {k: v for k, v in vars(self).items() if not k.startswith("_") and k not in _FOUND}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in told.items())})"


#: attributes that say what has been found, not what was asked for
_FOUND = ("stopped", "best", "best_round")
