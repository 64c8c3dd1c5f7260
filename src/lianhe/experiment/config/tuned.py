"""What a specification file asks `tune`, and the file that the answer makes of it."""

from __future__ import annotations

from typing import Any

from lianhe.core.errors import SpecError
from lianhe.experiment.balancing import ROW_AGGREGATORS
from lianhe.experiment.config.alternatives import label
from lianhe.experiment.config.kinds import AnyFile, TasksFile
from lianhe.experiment.config.named import make
from lianhe.experiment.config.tables import Tune
from lianhe.experiment.tuning import Tuning
from lianhe.experiment.tuning.options import seeds_of_fits

#: share of the training rows to measure on, where the file has no validation rows
_SHARE = 0.2


def tune_options(file: AnyFile) -> dict[str, Any]:
    """Arguments of `tune`.

    Raises:
        SpecError: if the file is of another kind than tasks.
    """
    asked = _tasks(file).tune or Tune()
    methods = None
    if asked.aggregators is not None:
        methods = {label(n): make("aggregator", ROW_AGGREGATORS, n) for n in asked.aggregators}
    return {
        "trials": asked.trials,
        "search": asked.search,
        "aggregators": methods,
        "metric": asked.metric,
        "validation": None if file.data.validation else _SHARE,
        "seed": file.training.seed,
        "seeds": seeds_of_fits(file.training.seed, asked.repeats),
    }


def with_best(file: AnyFile, tuning: Tuning) -> dict[str, Any]:
    """What changes in [training] by the best setting: aggregator and learning rate, as they are written."""
    asked = _tasks(file).tune or Tune()
    best = tuning.best_trial.setting
    written = {label(named): named.model_dump() for named in asked.aggregators or []}
    aggregator: Any = written.get(best.method, best.method)
    if best.weights is not None:
        aggregator = {"name": "fixed", "weights": dict(best.weights)}
    return {"lr": best.lr} | ({"aggregator": aggregator} if aggregator else {})


def _tasks(file: AnyFile) -> TasksFile:
    if not isinstance(file, TasksFile):
        raise SpecError(f'kind = "{file.kind}": weights are searched for tasks, in a file of kind = "tasks"')
    return file
