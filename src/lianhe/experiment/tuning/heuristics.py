"""Fixed weights without a search: by how much data a task has, and by how hard it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lianhe.aggregation import Fixed
from lianhe.core.errors import DataError, SpecError
from lianhe.core.spec import Spec
from lianhe.experiment.tuning.amounts import Difficulty, losses, sizes


def by_size(spec: Spec, power: float = -1.0) -> Fixed:
    """Weights by the number of labels: w_t = T n_t^power / Σ_s n_s^power.

    With power = -1, a label of a rare task counts for more than one of a frequent task: all tasks together
    have the same say in an epoch. With a positive power, frequent tasks get more.

    Args:
        spec: of tasks.
        power: of the number of labels n_t.

    Raises:
        SpecError: if the participants are not tasks, or `power` is not finite.
        DataError: if a task has no label.

    Example:
        >>> import torch
        >>> from lianhe.participants import Task
        >>> labels = {"often": torch.tensor([0, 1, 0, 1]), "rare": torch.tensor([1, -100, -100, -100])}
        >>> tasks = [Task(name, torch.nn.Linear(2, 2)) for name in labels]
        >>> by_size(Spec(tasks, data=(torch.rand(4, 2), labels), rounds=1)).weights
        {'often': 0.4, 'rare': 1.6}
    """
    return Fixed(normalised({task: float(n) for task, n in sizes(spec).items()}, power, "labels"))


def by_difficulty(spec: Spec, power: float = -1.0, *, of: Difficulty = "initial", seed: int = 0) -> Fixed:
    """Weights by the loss on the training rows: w_t = T L_t^power / Σ_s L_s^power.

    With power = -1, losses of different scales are brought to the same size.

    Args:
        spec: of tasks.
        power: of the loss L_t.
        of: which loss: "initial" (before training, which costs nothing), "sum" (after one fit by the plain
            sum), "solo" (after a fit of every task alone).
        seed: of the initial weights and of the fits.

    Raises:
        SpecError: if the participants are not tasks, or `power` is not finite.
        DataError: if a loss is not a positive number.

    Example:
        >>> import torch
        >>> from lianhe.participants import Task
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> tasks = [Task(name, torch.nn.Linear(1, 1), "mse") for name in ("near", "far")]
        >>> spec = Spec(tasks, data=(x, {"near": x[:, 0], "far": 100 * x[:, 0]}), rounds=1)
        >>> weights = by_difficulty(spec).weights
        >>> weights["near"] > 1000 * weights["far"]
        True

    Source:
        Z. Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask
        networks", ICML 2018, divide losses by the initial ones; there at every step, here once.
    """
    return Fixed(normalised(losses(spec, of, seed), power, f"loss ({of})"))


def normalised(amounts: Mapping[str, float], power: float, what: str) -> dict[str, float]:
    """Weights w_t = T a_t^power / Σ_s a_s^power, which sum to the number of tasks.

    Raises:
        SpecError: if `power` is not finite.
        DataError: if an amount is not a positive number.

    Example:
        >>> normalised({"a": 1.0, "b": 3.0}, 1.0, "labels")
        {'a': 0.5, 'b': 1.5}
    """
    if not math.isfinite(power):
        raise SpecError(f"power={power}: must be a finite number, such as -1")
    for task, amount in amounts.items():
        if not (math.isfinite(amount) and amount > 0):
            raise DataError(f"task {task!r} has {what} {amount:g}: no weight follows from it; give Fixed(…)")
    logs = {task: power * math.log(amount) for task, amount in amounts.items()}
    raw = {task: math.exp(log - max(logs.values())) for task, log in logs.items()}
    return {task: len(raw) * value / sum(raw.values()) for task, value in raw.items()}
