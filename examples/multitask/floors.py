"""What linear models and constants reach on the rows of the examples: numbers to read the tables by.

Logistic regression for classes, ridge regression for amounts (scikit-learn, both with their default
penalties), fitted to each task alone; the most frequent class or the median for a constant.

python examples/multitask/floors.py heart --seeds 10
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections import defaultdict
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score

import lianhe as lh
from lianhe.experiment.trial import trial
from lianhe.participants.data import observed

EXAMPLES = ("canvases", "fashion", "heart", "speakers")


def rows(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rows with a label."""
    there = observed(y)
    return x[there].flatten(1).numpy(), y[there].numpy()


def floors(part: lh.Part) -> tuple[str, float, float] | None:
    """Task and metric, linear model, constant; None for labels that are not one number a row."""
    (task,) = part.spec.participants
    data = task.data or (part.spec.data[0], part.spec.data[1][task.name])
    if data[1].ndim > 1:
        return None
    (x, y), (xt, yt) = rows(*data), rows(part.test[0], part.test[1][task.name])
    (metric,) = task.metrics
    label = f"{task.name} {metric}"
    if metric == "mae":
        found = Ridge().fit(x, y).predict(xt)
        return label, mean_absolute_error(yt, found), mean_absolute_error(yt, np.full_like(yt, np.median(y)))
    model = LogisticRegression(max_iter=200).fit(x, y)
    if metric == "auroc":
        return label, roc_auc_score(yt, model.predict_proba(xt)[:, 1]), 0.5
    return label, accuracy_score(yt, model.predict(xt)), float((yt == np.bincount(y).argmax()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    example = importlib.import_module(given.example)
    warnings.simplefilter("ignore", ConvergenceWarning)
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(given.seeds):
        for part in of_seed(example, seed).others["solo"]:
            if (found := floors(part)) is not None:
                values[found[0]].append(found[1:])
    for label, numbers in values.items():
        linear, constant = (fmean(column) for column in zip(*numbers, strict=True))
        print(f"{label:22} linear {linear:.3f}  constant {constant:.3f}")


def of_seed(example: Any, seed: int) -> lh.Trial:
    if hasattr(example, "trials"):
        return example.trials(1)(seed)
    return trial(example.spec(1), seed, example.TEST, getattr(example, "PREPARE", None))


if __name__ == "__main__":
    main()
