"""One point of the search: a balancing method, weights, and a learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lianhe.aggregation import Fixed
from lianhe.core.aggregator import Aggregator
from lianhe.core.spec import Spec

#: the method whose weights are searched
FIXED = "fixed"

#: the greatest ratio of two weights
SPAN = 1000.0

#: the learning rate is searched between 1 / 10 and 10 times that of the specification
LR_SPAN = 10.0


@dataclass(frozen=True)
class Setting:
    """What a trial fits with.

    Args:
        method: "fixed", or the name of another balancing method; "" for that of the specification.
        weights: of "fixed", by task; they sum to the number of tasks.
        lr: learning rate.
    """

    method: str
    weights: Mapping[str, float] | None
    lr: float


@dataclass(frozen=True)
class Space:
    """What is searched: log w_t is uniform before w is normalised to Σ_t w_t = T, and so is log lr.

    Args:
        tasks: their names.
        methods: to choose from; one alone is not searched.
        lr: learning rate of the specification.
        search_lr: whether others are tried.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    lr: float
    search_lr: bool

    def suggested(self, trial: Any) -> Setting:
        """The setting that an Optuna trial suggests."""
        method = self.methods[0]
        if len(self.methods) > 1:
            method = trial.suggest_categorical("method", self.methods)
        weights = None
        if method == FIXED:
            raw = {t: trial.suggest_float(f"weight {t}", 1 / SPAN, 1.0, log=True) for t in self.tasks}
            # Six digits are enough to be exact with, and can be read.
            weights = {task: float(f"{len(raw) * w / sum(raw.values()):.6g}") for task, w in raw.items()}
        lr = self.lr
        if self.search_lr:
            lr = trial.suggest_float("lr", self.lr / LR_SPAN, self.lr * LR_SPAN, log=True)
        return Setting(method, weights, lr)

    def parameters(self, setting: Setting) -> dict[str, Any]:
        """What Optuna must suggest to give this setting; weights too far apart are brought nearer."""
        found: dict[str, Any] = {"method": setting.method} if len(self.methods) > 1 else {}
        if setting.weights is not None:
            found |= {f"weight {task}": w for task, w in _centred(setting.weights).items()}
        return found | ({"lr": setting.lr} if self.search_lr else {})


def applied(setting: Setting, spec: Spec, methods: Mapping[str, Aggregator | None]) -> Spec:
    """The specification with a setting.

    Args:
        setting: to be applied.
        spec: whose aggregator and learning rate are replaced.
        methods: aggregators by name, but for "fixed".
    """
    aggregator = methods[setting.method] if setting.weights is None else Fixed(setting.weights)
    return spec.replace(aggregator=aggregator, lr=setting.lr)


def _centred(weights: Mapping[str, float]) -> dict[str, float]:
    """Raw weights with a geometric mean in the middle of the range, none of them outside."""
    mean = sum(math.log(w) for w in weights.values()) / len(weights)
    raw = {task: w / (math.exp(mean) * math.sqrt(SPAN)) for task, w in weights.items()}
    return {task: min(max(w, 1 / SPAN), 1.0) for task, w in raw.items()}
