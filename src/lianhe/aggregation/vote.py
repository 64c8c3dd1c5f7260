"""One expert, one vote."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

from lianhe.aggregation._checks import count, shares
from lianhe.core.aggregator import Elementwise
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Stack


class Vote(Elementwise):
    """Shares of the votes: each row votes for its most probable class, example by example.

    A(P)_xc = Σ_i a_i [c = argmax_k P_ixk] / Σ_i a_i, with a_i the rows' weights. The lowest class wins a tie,
    among the probabilities of a row as in the argmax of the result.

    Args:
        classes: C. Rows are the probabilities (or scores) of C classes for N examples, flattened, [N*C].

    Raises:
        SpecError: if `classes` is not a whole number >= 2.
        AggregationError: if the length of the rows is not a multiple of C, or the weights cannot be used.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])  # three experts, one example
        >>> Vote(classes=2)(rows).tolist()
        [0.667, 0.333]

    Source:
        Plurality voting; L. Kuncheva, "Combining pattern classifiers", 2nd edition, 2014, chapter 4.
    """

    def __init__(self, classes: int) -> None:
        self.classes = count("Vote: classes", classes, 2, hint="the number of classes of the predictions")

    def reduce(self, stack: Stack) -> Tensor:
        values = stack.values
        if values.shape[1] % self.classes:
            raise AggregationError(
                f"Vote(classes={self.classes}): rows of {values.shape[1]} numbers are not predictions of "
                f"{self.classes} classes for a whole number of examples (rows: {', '.join(stack.names)})"
            )
        choices = values.view(len(values), -1, self.classes).argmax(2)
        votes = one_hot(choices, self.classes).to(values.dtype).view_as(values)
        return shares("Vote", stack).to(values) @ votes
