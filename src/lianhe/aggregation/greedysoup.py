"""Average models as long as it helps on held-out data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack


class GreedySoup(Weighting):
    """Mean of the models that, best first, do not lower the score of the mean.

    Rows are the flattened weights of models that started from the same weights. In descending order of
    score, a row joins the soup S if score(mean(S ∪ {row})) >= score(mean(S)). So the result never scores
    below the best row, and equals it where nothing mixes. Weights of the rows are not used.

    Args:
        score: gives the score, higher is better, of a model with the weights [n], on held-out data. It is
            called 2m - 1 times; NaN is worse than any number.

    Raises:
        SpecError: if `score` cannot be called.
        AggregationError: if no row has a score.

    Example:
        >>> closeness = lambda weights: -float((weights - 1).abs().sum())
        >>> GreedySoup(closeness)(torch.tensor([[7.0], [0.0], [1.5], [0.5]])).tolist()
        [1.0]

    Source:
        M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
        without increasing inference time", ICML 2022, recipe 1.
    """

    needs: ClassVar[Needs] = "values"

    def __init__(self, score: Callable[[Tensor], float]) -> None:
        if not callable(score):
            raise SpecError(f"GreedySoup: score={score!r} must be a function of a vector of weights")
        self.score = score

    def weigh(self, stack: Stack) -> Tensor:
        values = stack.values.detach()
        scores = [self._score(row) for row in values]
        first, *others = sorted(range(len(stack)), key=lambda i: -scores[i])
        if scores[first] == -math.inf:
            raise AggregationError(f"GreedySoup: score gave no number for any of {', '.join(stack.names)}")
        soup, best, total = [first], scores[first], values[first]
        for i in others:
            reached = self._score((total + values[i]) / (len(soup) + 1))
            if reached >= best:
                soup, best, total = [*soup, i], reached, total + values[i]
        return torch.zeros(len(stack), dtype=torch.float64).index_fill_(0, torch.tensor(soup), 1 / len(soup))

    def _score(self, weights: Tensor) -> float:
        score = float(self.score(weights))
        return -math.inf if math.isnan(score) else score
