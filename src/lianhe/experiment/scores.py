"""What a comparison is made of: test scores, validation curves and costs, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Unit(NamedTuple):
    """What a question is asked about: one metric of one task of one participant.

    Example:
        >>> Unit("va", "severity", "auroc").label, Unit("income", "income", "auroc").label
        ('va/severity', 'income')
    """

    participant: str
    task: str
    metric: str

    @property
    def label(self) -> str:
        """Participant and task, each said once; the metric if there is neither."""
        return "/".join(dict.fromkeys(filter(None, self[:2]))) or self.metric


@dataclass(frozen=True, slots=True)
class Score:
    """One test result.

    Args:
        seed: of the run; alternatives are paired by it.
        alternative: what was trained, such as "joint" or "solo".
        participant: whose result it is; may be "".
        task: of which task; may be "".
        metric: name of the metric.
        value: in the metric's unit; NaN if it could not be measured.
        higher_is_better: which way is up.

    Example:
        >>> Score(0, "joint", "va", "severity", "auroc", 0.81, higher_is_better=True).unit.label
        'va/severity'
    """

    seed: int
    alternative: str
    participant: str
    task: str
    metric: str
    value: float
    higher_is_better: bool

    @property
    def unit(self) -> Unit:
        """What it is a score of."""
        return Unit(self.participant, self.task, self.metric)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One validation result on the way.

    Args:
        seed: of the run.
        alternative: what was trained.
        participant: whose result it is; may be "".
        task: of which task; may be "".
        metric: name of the metric.
        round: after which it was measured.
        value: in the metric's unit.

    Example:
        >>> CurvePoint(0, "joint", "va", "severity", "auroc", round=10, value=0.7).round
        10
    """

    seed: int
    alternative: str
    participant: str
    task: str
    metric: str
    round: int
    value: float

    @property
    def unit(self) -> Unit:
        """What it is a result of."""
        return Unit(self.participant, self.task, self.metric)


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of one alternative.

    Args:
        alternative: its name.
        seconds: wall time of training, the mean over seeds, all its models together, and any search.
        rounds: rounds that were run, the mean over seeds.
        parameters: numbers that are trained, all its models together.

    Example:
        >>> Cost("joint", seconds=12.5, rounds=100, parameters=4321).rounds
        100
    """

    alternative: str
    seconds: float
    rounds: float
    parameters: int
