"""Near the mean, but with the worst-off row in mind."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import SpecError
from lianhe.core.stack import Stack
from lianhe.linalg import conflict_averse


class CAGrad(Weighting):
    """The direction within a ball around the mean that improves the worst-off row most.

    d = argmax min_i g_i·d over ||d - g0|| <= c ||g0||, g0 = Jᵀu the mean row. Hence
    w = u + c ||g0|| v / ||Jᵀv||, with v the minimiser of vᵀGu + c ||g0|| sqrt(vᵀGv) over the simplex. A row
    of zeros has no say but in the mean.

    Args:
        c: radius of the ball relative to ||g0||, in [0, 1); 0 is the mean.
        rescale: divide by 1 + c², as the authors' code and LibMTL do; TorchJD does not.
        eps: ridge relative to each row's squared length; bounds the weights at about c/sqrt(eps) where rows
            cancel.
        preference: u, by row name, or in the order of the rows, >= 0; 1/m each if None. An extension: with
            the authors, g0 is the plain mean.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> import torch
        >>> CAGrad(c=0.5, rescale=False)(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [0.75, 0.75]

    Source:
        B. Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(
        self, c: float = 0.5, rescale: bool = True, eps: float = 1e-8, preference: PerRow | None = None
    ) -> None:
        self.c = number("CAGrad: c", c, 0, 1, hint="0.2 to 0.8 are usual; 0 is the mean")
        if self.c == 1:
            raise SpecError("CAGrad: c=1 must be below 1: there the best direction may be none at all")
        if not isinstance(rescale, bool):
            raise SpecError(f"CAGrad: rescale={rescale!r} must be True or False")
        self.rescale = rescale
        self.eps = number("CAGrad: eps", eps, 0, hint="1e-8 is usual")
        self.preference = preference_of("CAGrad", preference)

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("CAGrad", stack)
        base = torch.tensor(preferred("CAGrad", self.preference, stack), dtype=torch.float64)
        weights = base + conflict_averse(gramian, self.c, self.eps, base)
        return weights / (1 + self.c**2) if self.rescale else weights
