"""Schedules: who contributes now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError
from lianhe.core.streams import Stream


class Schedule(ABC):
    """Interface: chooses the cohort of a round from its number and a stream alone, so it needs no state."""

    @abstractmethod
    def cohort(self, stream: Stream, names: Sequence[str]) -> Sequence[str]:
        """Names of those who contribute in round `stream.round`."""

    def check(self, names: Sequence[str]) -> None:  # noqa: B027  most schedules fit any cohort
        """Raise SpecError if this schedule cannot serve these participants."""


@dataclass(frozen=True)
class Together(Schedule):
    """Everybody, every round."""

    def cohort(self, stream: Stream, names: Sequence[str]) -> Sequence[str]:
        return names


@dataclass(frozen=True)
class Alternating(Schedule):
    """One participant after the other, in the order of the specification.

    Args:
        rounds_each: rounds before the turn passes on.

    Example:
        >>> [Alternating().cohort(Stream(0, r), ["a", "b"])[0] for r in range(4)]
        ['a', 'b', 'a', 'b']
    """

    rounds_each: int = 1

    def __post_init__(self) -> None:
        require_whole("rounds_each of Alternating", self.rounds_each, 1)

    def cohort(self, stream: Stream, names: Sequence[str]) -> Sequence[str]:
        return (names[stream.round // self.rounds_each % len(names)],)


@dataclass(frozen=True)
class Sampled(Schedule):
    """`count` participants, uniformly without replacement, drawn anew each round.

    Args:
        count: size of the cohort.

    Example:
        >>> len(Sampled(2).cohort(Stream(0, 7), ["a", "b", "c"]))
        2
    """

    count: int

    def __post_init__(self) -> None:
        require_whole("count of Sampled", self.count, 1)

    def check(self, names: Sequence[str]) -> None:
        if self.count > len(names):
            raise SpecError(
                f"Sampled({self.count}) asks for more than the {len(names)} participants there are"
            )

    def cohort(self, stream: Stream, names: Sequence[str]) -> Sequence[str]:
        keyed = Stream(stream.seed, stream.round, "", "cohort")
        chosen = torch.randperm(len(names), generator=keyed.generator())[: self.count]
        return tuple(names[i] for i in sorted(chosen.tolist()))
