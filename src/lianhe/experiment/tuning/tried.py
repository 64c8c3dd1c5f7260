"""One trial of a search, as a value that can be written down and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeAlias

from lianhe.experiment.tuning.measured import Measured, Value
from lianhe.experiment.tuning.setting import Setting

#: how a trial ended
State: TypeAlias = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class Tried:
    """A setting, and what came of it.

    Args:
        number: of the trial, from 0.
        name: "sum", "by_size", "by_difficulty", the name of a balancing method, or "fixed" for weights that
            the search has chosen; "as given" for the specification's own method.
        setting: method, weights and learning rate.
        state: "finished", "pruned" (stopped early, for being worse than the median), or "failed".
        gain: Δ on the validation rows, relative to the reference; of pruned ones, as far as they came; None
            where nothing was measured.
        reached: validation measures by task and name; empty unless finished.
        rounds: that were run, all seeds together.
        seconds: wall time of its fits.
        why: it failed.
    """

    number: int
    name: str
    setting: Setting
    state: State
    gain: float | None
    reached: Measured
    rounds: int
    seconds: float
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        reached = {
            task: {name: Value(**value) for name, value in of_task.items()}
            for task, of_task in values["reached"].items()
        }
        return cls(**{**values, "setting": Setting(**values["setting"]), "reached": reached})
