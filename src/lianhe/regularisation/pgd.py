"""PGD: several steps up the loss, back into the ball after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lianhe.core.adversary import Adversary, JointLoss
from lianhe.core.checks import require_positive, require_whole
from lianhe.core.errors import UnknownNameError
from lianhe.regularisation._budget import Range, inside, of_some, require_budget, slopes

_NORMS = ("inf", "2")


@dataclass(frozen=True)
class PGD(Adversary):
    """Projected gradient ascent: x ← P(x + α d(∇_x L)), several times, from a random point of the ball.

    L is the weighted mean loss of the tasks present, P the projection onto the ball of radius ε around the
    clean input. In the norm "inf", d(g) = sign g; in the norm "2", d(g) = g / ‖g‖₂, sample by sample (and
    tensor by tensor, where an input has several).

    Args:
        eps: radius ε, in the unit of the inputs.
        steps: how many; each costs a forward and a backward pass.
        step_size: α; None for 2.5 ε / steps, by which the edge of the ball can be reached from any start.
        norm: "inf" or "2".
        random_start: begin at a random point of the ball, else at the clean input.
        share: of the samples of a batch that are moved, drawn anew each round; the others stay clean.
        within: least and greatest value that inputs may have, such as (0.0, 1.0) for images; None for any.

    Raises:
        SpecError: for a number out of range.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> attack = PGD(0.5, steps=5, norm="2", random_start=False)
        >>> attack.perturb([x], lambda xs: xs[0].square().sum(), torch.Generator())[0].tolist()
        [[3.30, 4.40]]

    Source: Madry, Makelov, Schmidt, Tsipras & Vladu, "Towards Deep Learning Models Resistant to Adversarial
        Attacks", ICLR 2018.
    """

    eps: float
    steps: int = 7
    step_size: float | None = None
    norm: str = "inf"
    random_start: bool = True
    share: float = 1.0
    within: Range | None = None

    def __post_init__(self) -> None:
        require_budget("PGD", self.eps, self.share, self.within)
        require_whole("steps of PGD", self.steps, 1)
        if self.step_size is not None:
            require_positive("step_size of PGD", self.step_size)
        if self.norm not in _NORMS:
            raise UnknownNameError("norm of PGD", self.norm, _NORMS)

    def perturb(
        self, inputs: Sequence[Tensor], loss: JointLoss, generator: torch.Generator
    ) -> Sequence[Tensor]:
        size = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        moved = [self._start(x, generator) if self.random_start else x for x in inputs]
        for _ in range(self.steps):
            gradients = slopes(moved, loss)
            moved = [
                self._project(m + size * self._direction(slope), x)
                for m, slope, x in zip(moved, gradients, inputs, strict=True)
            ]
        return of_some(inputs, moved, self.share, generator)

    def _start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the ball."""
        if self.norm == "inf":
            offset = 2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1
        else:
            offset = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            radius = torch.rand(len(x), generator=generator, dtype=x.dtype) ** (1 / max(x[0].numel(), 1))
            offset = offset / _lengths(offset) * radius.reshape(-1, *[1] * (x.ndim - 1))
        return inside(x + self.eps * offset.to(x.device), x, self.within)

    def _direction(self, slope: Tensor) -> Tensor:
        return slope.sign() if self.norm == "inf" else slope / _lengths(slope)

    def _project(self, moved: Tensor, x: Tensor) -> Tensor:
        offset = moved - x
        if self.norm == "inf":
            offset = offset.clamp(-self.eps, self.eps)
        else:
            offset = offset * (self.eps / _lengths(offset)).clamp(max=1)
        return inside(x + offset, x, self.within)


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of every sample, in a shape that x can be divided by; never 0."""
    norms = torch.linalg.vector_norm(x.flatten(1), dim=1) if x.ndim > 1 else x.abs()
    return norms.clamp_min(torch.finfo(x.dtype).tiny).reshape(-1, *[1] * (x.ndim - 1))
