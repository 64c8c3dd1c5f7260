"""What is searched and how it is judged, and one trial of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lianhe.core.errors import NonFiniteError
from lianhe.core.spec import Spec
from lianhe.core.streams import untouched_global_state
from lianhe.experiment.tuning.measured import Measured, gain
from lianhe.experiment.tuning.options import Methods
from lianhe.experiment.tuning.setting import Space, applied
from lianhe.experiment.tuning.starts import starts
from lianhe.experiment.tuning.study import Search
from lianhe.experiment.tuning.tried import Tried
from lianhe.experiment.tuning.trying import Attempt, attempt

#: how often a fit is looked at on its way
_LOOKS = 10

#: looks before a fit can be stopped: who learns slowly need not learn less
_PATIENCE = 3


@dataclass(frozen=True)
class Question:
    """What is searched, and how it is judged.

    Args:
        specs: by seed of the fit, on its training rows, with validation rows beside them.
        space: of settings.
        methods: balancing methods by name.
        wanted: the measures that count, by task.
        labels: how many every task has.
        prune: stop fits that fall behind.
    """

    specs: Mapping[int, Spec]
    space: Space
    methods: Methods
    wanted: Mapping[str, Sequence[str]]
    labels: Mapping[str, int]
    prune: bool

    def told(self) -> dict[str, Any]:
        """What must be the same when a study goes on, as plain values."""
        spec, space = next(iter(self.specs.values())), self.space
        return {
            "tasks": {task: list(names) for task, names in self.wanted.items()},
            "labels": dict(self.labels),
            "aggregators": {name: repr(method) for name, method in self.methods.items()},
            "lr": [space.lr, space.search_lr],
            "training": [spec.rounds, spec.epochs, spec.batch_size, repr(spec.optimizer)],
            "seeds": list(self.specs),
            "prune": self.prune,
        }

    def attend(self, kept: Search, done: Sequence[Tried]) -> Tried:
        """Run the next trial: the next of those that come first, or what the search suggests.

        Raises:
            NonFiniteError: if that is the reference, and it fails.
        """
        reference = done[0].reached if done else None
        first = starts(self.space, self.labels, reference)
        name, setting = first[len(done)] if len(done) < len(first) else ("", None)
        trial = kept.ask(None if setting is None else self.space.parameters(setting))
        setting = self.space.suggested(trial)
        watch = _Watch(trial, self, reference)
        specs = {
            seed: applied(setting, self._watched(spec), self.methods) for seed, spec in self.specs.items()
        }
        found = attempt(specs, self.wanted, watch)
        name = name or setting.method or "as given"
        if reference is None and found.state != "finished":
            raise NonFiniteError(f"{name}, which gains are relative to, failed: {found.why}")
        tried = _tried(len(done), name, setting, found, watch.finish(found))
        kept.tell(trial, tried.to_dict())
        return tried

    def _watched(self, spec: Spec) -> Spec:
        """Measured often enough to see which way it goes; early stopping keeps the beat that it has."""
        if not self.prune or spec.evaluate_every:
            return spec
        with untouched_global_state():
            rounds = spec.problem(0).rounds
        return spec.replace(evaluate_every=max(1, rounds // _LOOKS))


def _tried(number: int, name: str, setting: Any, found: Attempt, value: float | None) -> Tried:
    state, reached, why = found.state, found.reached, found.why
    if state == "finished" and (value is None or not math.isfinite(value)):
        state, reached, why = "failed", {}, "a measure on the validation rows is not finite"
    return Tried(number, name, setting, state, value, reached, found.rounds, found.seconds, why)


class _Watch:
    """Tells Optuna how far a trial has come, and whether to go on.

    Args:
        trial: of Optuna.
        question: what is searched.
        reference: what gains are relative to; None while that itself is measured.
    """

    def __init__(self, trial: Any, question: Question, reference: Measured | None) -> None:
        self._trial, self._question, self._reference = trial, question, reference
        self._looks: list[tuple[int, Measured]] = []
        self._last: float | None = None
        self._looked = 0

    def __call__(self, step: int, so_far: Measured) -> bool:
        """Take note; True to go on."""
        if self._reference is None:
            self._looks.append((step, so_far))
            return True
        self._last = gain(so_far, self._reference, self._question.wanted)
        self._trial.report(self._last, step)
        self._looked += 1
        early = self._looked < _PATIENCE or not self._question.prune
        return early or not self._trial.should_prune()

    def finish(self, found: Attempt) -> float | None:
        """The gain in the end; of the reference, what it had on the way is reported now."""
        if found.state != "finished":
            return self._last
        reference = self._reference or found.reached
        for step, so_far in self._looks:
            self._trial.report(gain(so_far, reference, self._question.wanted), step)
        return gain(found.reached, reference, self._question.wanted)
