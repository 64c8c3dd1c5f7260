"""What an aggregator remembers of rows from round to round, and how it learns a number of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from lianhe.core.aggregator import Aggregator

T = TypeVar("T")

#: a number that Adam moves: value, first and second moment of its gradient, steps taken
Learnt = tuple[float, float, float, int]


class Memory:
    """One value a row, by name, and how many rounds there were; apart for stacks of different blocks.

    Values are numbers, tensors or tuples of them. They are replaced, never written into, so that a state that
    was given away stays as it is. Rows that are absent from a round keep theirs.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self._rounds: dict[str, int] = {}

    def rounds(self, key: str) -> int:
        """Rounds that were kept so far of the stack with this key."""
        return self._rounds.get(key, 0)

    def recall(self, key: str, names: Sequence[str], start: T) -> list[T]:
        """Values of some rows; `start` for those that are new."""
        rows = self._rows.get(key, {})
        return [rows.get(name, start) for name in names]

    def keep(self, key: str, names: Sequence[str], values: Iterable[object]) -> None:
        """Remember values of some rows; the end of a round."""
        self._rows.setdefault(key, {}).update(zip(names, values, strict=True))
        self._rounds[key] = self.rounds(key) + 1

    def state(self) -> dict[str, dict[str, Any]]:
        """All of it, as nested mappings."""
        return {"rounds": dict(self._rounds), "rows": {key: dict(rows) for key, rows in self._rows.items()}}

    def load(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what `state` gave."""
        self._rounds = dict(state["rounds"])
        self._rows = {key: dict(rows) for key, rows in state["rows"].items()}


class Remembering(Aggregator):
    """Interface: an aggregator whose whole state is a memory of rows."""

    def __init__(self) -> None:
        self._memory = Memory()

    def reset(self) -> None:
        self._memory = Memory()

    def state_dict(self) -> Mapping[str, Any]:
        return self._memory.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._memory.load(state)


def unlearnt(start: float) -> Learnt:
    """Return a number that was not moved yet."""
    return start, 0.0, 0.0, 0


def adam(learnt: Learnt, gradient: float, lr: float, weight_decay: float = 0.0) -> Learnt:
    """Move a number down its gradient by one step of Adam, with its usual constants.

    Every row counts its own steps. So rows that are absent stay as they are, which an optimiser over a vector
    of all rows would not allow.

    Example:
        >>> adam(unlearnt(1.0), 250.0, lr=0.1)[0]  # the first step has the length lr, whatever the gradient
        0.9

    Source:
        D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """
    value, first, second, steps = learnt
    gradient += weight_decay * value
    steps += 1
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient * gradient
    length = math.sqrt(second / (1 - 0.999**steps)) + 1e-8
    return value - lr * first / (1 - 0.9**steps) / length, first, second, steps
