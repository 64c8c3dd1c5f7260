"""The mean, rid of its conflicts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import project_on_dual_cone


class DualProj(Weighting):
    """Mean of the rows, projected onto the cone of directions that worsen no row.

    w = argmin {vᵀGv : v >= u}, u the preference: Jᵀw is the direction nearest to Jᵀu with J Jᵀw >= 0, and
    only rows that the mean conflicts with, or that its correction would hurt, get more weight than u. It is
    nearer to the mean than UPGrad, which lets every row give way on its own. `Certified` finds the same
    direction without the Gramian.

    Args:
        preference: u, by row name, or in the order of the rows, >= 0; 1/m each if None.
        reg_eps: ridge on the Gramian relative to its trace; 0 for exact freedom from conflict. TorchJD's
            default is 1e-4.

    Raises:
        SpecError: if an argument is negative or not finite.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> DualProj()(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])).round(decimals=4).tolist()
        [0.5556, 1.1111, 1.1111]

    Source:
        D. Lopez-Paz and M. Ranzato, "Gradient episodic memory for continual learning", NIPS 2017, eq. 11.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, preference: PerRow | None = None, reg_eps: float = 0.0) -> None:
        self.preference = preference_of("DualProj", preference)
        self.reg_eps = number("DualProj: reg_eps", reg_eps, 0, hint="0 is exact, 1e-4 is cautious")

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("DualProj", stack)
        wanted = torch.tensor(preferred("DualProj", self.preference, stack), dtype=torch.float64)
        if self.reg_eps:
            gramian = gramian + self.reg_eps * gramian.trace() * torch.eye(len(wanted), dtype=torch.float64)
        if bool((gramian @ wanted >= 0).all()):
            return wanted
        return project_on_dual_cone(gramian, wanted)
