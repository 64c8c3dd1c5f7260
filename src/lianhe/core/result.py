"""What a fit gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from torch import nn

from lianhe.core.aggregator import Aggregator
from lianhe.core.contribution import Joint, Measure
from lianhe.core.errors import SpecError
from lianhe.core.penalty import Penalty
from lianhe.core.stopping import Stopping
from lianhe.core.streams import untouched_global_state


@dataclass(frozen=True, slots=True)
class Record:
    """One number of one run, with its weight.

    Args:
        round: round after which it was measured, from 0.
        participant: whose number it is.
        task: of which task, "" if there is only one.
        name: "loss", or the name of a metric.
        value: the average.
        weight: how many examples it is the average of.
        split: "train", "validation" or "test".
        higher_is_better: which way is up.
    """

    round: int
    participant: str
    task: str
    name: str
    value: float
    weight: float
    split: str = "train"
    higher_is_better: bool = False

    @classmethod
    def of(cls, round_: int, participant: str, measure: Measure, split: str) -> Self:
        """Enter a participant's measure."""
        m = measure
        return cls(round_, participant, m.task, m.name, m.value, m.weight, split, m.higher_is_better)

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for a line of JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Result:
    """What a fit gives back: models, the last joint, and every number on the way.

    Args:
        models: by name; the joint model, where there is one, under "".
        joint: the last joint.
        history: all records, in order.
        rounds: rounds that were run.
        seconds: wall time of the fit.
        seed: its seed.
        aggregator: the aggregator as the fit left it; the one of the specification is not changed.
        findings: what engine, aggregator, penalties and stopping have to tell: sentences for a report.
        penalties: as the fit left them, with what they have learned.
        stopping: as the fit left it, with what was best, and when; None where there was none.
    """

    models: Mapping[str, nn.Module]
    joint: Joint
    history: tuple[Record, ...]
    rounds: int
    seconds: float
    seed: int
    _evaluate: Callable[[Any], Sequence[tuple[str, Measure]]] = field(repr=False)
    aggregator: Aggregator | None = None
    findings: tuple[str, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    stopping: Stopping | None = None

    @property
    def model(self) -> nn.Module:
        """The joint model: shared by all tasks or sites, or the committee of all views.

        Raises:
            SpecError: if every participant has its own.
        """
        if "" not in self.models:
            raise SpecError(f"there is no joint model here; models has {sorted(self.models)}")
        return self.models[""]

    def evaluate(self, data: Any) -> tuple[Record, ...]:
        """Measure the models on data of the form that the specification's `validation` has."""
        with untouched_global_state():
            return tuple(Record.of(self.rounds - 1, who, m, "test") for who, m in self._evaluate(data))
