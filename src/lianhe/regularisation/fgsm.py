"""FGSM: one step along the sign of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lianhe.core.adversary import Adversary, JointLoss
from lianhe.regularisation._budget import Range, inside, of_some, require_budget, slopes


@dataclass(frozen=True)
class FGSM(Adversary):
    """Fast gradient sign method: x' = x + ε sign(∇_x L), L the weighted mean loss of the tasks present.

    Args:
        eps: ε, in the unit of the inputs.
        share: of the samples of a batch that are moved, drawn anew each round; the others stay clean. In
            expectation the loss is share · L(x') + (1 − share) · L(x).
        within: least and greatest value that inputs may have, such as (0.0, 1.0) for images; None for any.

    Raises:
        SpecError: for a number out of range.

    Example:
        >>> x = torch.tensor([[1.0, -2.0]])
        >>> FGSM(0.1).perturb([x], lambda xs: xs[0].square().sum(), torch.Generator())[0].tolist()
        [[1.10, -2.10]]

    Source: Goodfellow, Shlens & Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    """

    eps: float
    share: float = 1.0
    within: Range | None = None

    def __post_init__(self) -> None:
        require_budget("FGSM", self.eps, self.share, self.within)

    def perturb(
        self, inputs: Sequence[Tensor], loss: JointLoss, generator: torch.Generator
    ) -> Sequence[Tensor]:
        gradients = slopes(inputs, loss)
        moved = [
            inside(x + self.eps * slope.sign(), x, self.within)
            for x, slope in zip(inputs, gradients, strict=True)
        ]
        return of_some(inputs, moved, self.share, generator)
