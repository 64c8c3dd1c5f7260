"""All losses are to fall at the same rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import number
from lianhe.aggregation._losses import known_losses, require_finite
from lianhe.aggregation._memory import Remembering, adam, unlearnt
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack

#: what the authors' code adds to every loss, so that its logarithm exists
_EPS = 1e-8


class FAMO(Remembering, Weighting):
    """Convex combination of the rows that makes all losses fall at the same rate, from losses alone.

    With D_t = L_t - b_t + 1e-8 and z = softmax(ξ), w_t = (z_t / D_t) / Σ_s (z_s / D_s): the gradient of
    Σ_t z_t log D_t, rescaled. After the step the losses of the same batch are taken again, which costs one
    more forward pass; ξ moves by one step of Adam along z_t (δ_t - Σ_s z_s δ_s), with
    δ_t = log D_t(before) - log D_t(after): tasks that fell faster than the others lose weight.

    Args:
        lr: step of Adam on ξ.
        weight_decay: of Adam, which pulls weights towards equal ones. 1e-3 as in the paper and in LibMTL; the
            authors' package has 1e-2.
        minima: b, lower bounds of losses, by row name; 0 for all others.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is missing or below its bound.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows, method = Rows(torch.eye(2), losses=torch.tensor([1.0, 3.0])), FAMO()
        >>> method.weigh(rows).tolist()
        [0.75, 0.25]
        >>> method.review({"0": 1.0, "1": 3.0}, {"0": 0.5, "1": 2.9})  # the first fell faster
        >>> method.weigh(rows).tolist()
        [0.7405, 0.2595]

    Source:
        B. Liu et al., "FAMO: fast adaptive multitask optimization", NeurIPS 2023.
    """

    needs: ClassVar[Needs] = "losses"
    reviews: ClassVar[bool] = True

    def __init__(
        self, lr: float = 0.025, weight_decay: float = 1e-3, minima: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.lr = number("FAMO: lr", lr, 0, hint="0.025 is usual")
        self.weight_decay = number("FAMO: weight_decay", weight_decay, 0, hint="1e-3 is usual")
        if minima is not None and not isinstance(minima, Mapping):
            raise SpecError(f"FAMO: minima={minima!r} must map names to numbers")
        for name, bound in (minima or {}).items():
            number(f"FAMO: minima[{name!r}]", bound, -math.inf, hint="the least that this loss can be")
        self.minima = dict(minima or {})

    def weigh(self, stack: Stack) -> Tensor:
        losses = dict(zip(stack.names, known_losses("FAMO", stack), strict=True))
        shares = self._logits(stack.names).softmax(0) / self._above("", losses)
        return shares / shares.sum()

    def review(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        names = [name for name in before if name in after]
        old, new = ({name: losses[name] for name in names} for losses in (before, after))
        fell = self._above(", before the step", old).log() - self._above(", after the step", new).log()
        z = self._logits(names).softmax(0)
        gradient = z * (fell - z @ fell)
        learnt = self._memory.recall("", names, unlearnt(0.0))
        steps = zip(learnt, gradient.tolist(), strict=True)
        self._memory.keep("", names, [adam(x, g, self.lr, self.weight_decay) for x, g in steps])

    def _logits(self, names: Sequence[str]) -> Tensor:
        learnt = self._memory.recall("", names, unlearnt(0.0))
        return torch.tensor([x for x, *_ in learnt], dtype=torch.float64)

    def _above(self, when: str, losses: Mapping[str, float]) -> Tensor:
        """How far losses are above their lower bounds."""
        require_finite(f"FAMO{when}", losses)
        for name, loss in losses.items():
            bound = self.minima.get(name, 0.0)
            if loss < bound:
                raise AggregationError(
                    f"FAMO{when}: loss of {name!r} is {loss:g}, below its lower bound {bound:g}: give "
                    f"minima={{{name!r}: …}} with a number that this loss never falls below"
                )
        above = [loss - self.minima.get(name, 0.0) + _EPS for name, loss in losses.items()]
        return torch.tensor(above, dtype=torch.float64)
