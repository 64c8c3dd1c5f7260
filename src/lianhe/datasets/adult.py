"""Two tasks on one census: the pair on which multi-gate mixtures of experts were introduced."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lianhe.datasets._files import read_arrays, read_levels, tensor
from lianhe.datasets.dataset import Dataset

_LOGARITHMIC = ("capital_gain", "capital_loss")


def load_adult() -> Dataset:
    """Return the 48,842 people of UCI Adult with two targets: income and never married.

    x, float32 [48842, 95], has no missing value:

    - as recorded: `age` (years), `fnlwgt` (how many people the row stands for), `educational_num` (1 to 16),
      `hours_per_week`. Their scales differ by five orders of magnitude: prepare them with `Standardize`.
    - `capital_gain`, `capital_loss`: log(1 + dollars), for most are 0 and some 99,999.
    - one column for each value of `workclass`, `education`, `occupation`, `race`, `gender`, `native_country`;
      "?", the original's mark for unknown, is a value of its own.

    The columns marital status and relationship are left out, for they give the second target away.
    The targets, int64: `income` is 1 above 50,000 dollars a year, `never_married` is 1 if so.

    Source: Becker & Kohavi, Adult, UCI, doi:10.24432/C5XW20, CC BY 4.0. As a pair of tasks: Ma et al.,
    Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018.

    Example:
        >>> load_adult()
        Dataset('adult', rows=48842, x=[95], y={income: int64, never_married: int64})
    """
    arrays = read_arrays("adult_two_tasks.npz")
    numbers, number_names = _numbers(tensor(arrays["x_num"]), [str(name) for name in arrays["num_names"]])
    classes, class_names = _one_hot(tensor(arrays["x_cat"]), [str(name) for name in arrays["cat_names"]])
    y = {"income": tensor(arrays["y_income"]), "never_married": tensor(arrays["y_never_married"])}
    return Dataset(torch.cat([numbers, classes], 1), y, number_names + class_names, "adult", "CC BY 4.0")


def _numbers(x: Tensor, names: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    columns = [x[:, j].log1p() if name in _LOGARITHMIC else x[:, j] for j, name in enumerate(names)]
    return torch.stack(columns, 1), tuple(names)


def _one_hot(codes: Tensor, names: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    levels = read_levels("adult_levels.json")
    columns = [one_hot(codes[:, j].long(), len(levels[name])).float() for j, name in enumerate(names)]
    return torch.cat(columns, 1), tuple(f"{name}={level}" for name in names for level in levels[name])
