"""Rows count as far as they agree with one that is trusted."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack


class FLTrust(Weighting):
    """Weighted mean of the rows, each as long as a trusted one and weighted by its agreement with that.

    A(J) = Σ_i c_i ||g_0|| g_i / ||g_i|| / Σ_i c_i with c_i = max(0, cos(g_i, g_0)), over all rows but the
    trusted g_0: the update of a site with a small, clean data set, such as the server's own. Any number of
    the others may be hostile, as nothing that turns against g_0 counts, and nothing is longer. Where no row
    agrees, the result is 0. Weights of the rows are not used; rows that are not finite weigh nothing.

    Args:
        root: name of the trusted row; the site must hold every block and take part in every round.

    Raises:
        SpecError: if `root` is no name.
        AggregationError: if the trusted row is missing, or there is no other.
        NonFiniteError: if the trusted row is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows = Rows(torch.tensor([[2.0, 0.0], [3.0, 0.0], [-900.0, 0.0]]), ["server", "a", "b"])
        >>> FLTrust(root="server")(rows).tolist()
        [2.0, 0.0]

    Source:
        X. Cao et al., "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS 2021.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, root: str) -> None:
        if not isinstance(root, str) or not root:
            raise SpecError(f"FLTrust: root={root!r} must be the name of the participant that is trusted")
        self.root = root

    def weigh(self, stack: Stack) -> Tensor:
        root = self._trusted(stack)
        gramian = stack.gramian().detach()
        squares = gramian.diagonal()
        if not bool(squares[root].isfinite()):
            finite_gramian("FLTrust", stack)  # names it
        usable = squares.isfinite() & (squares > 0)
        usable[root] = False
        lengths = squares.clamp(min=0).sqrt()
        agreement = torch.zeros_like(squares)
        agreement[usable] = (gramian[root][usable] / lengths[usable]).clamp(min=0)  # c_i ||g_0||
        weights = torch.zeros_like(squares)
        if float(agreement.sum()) > 0:
            shares = agreement / agreement.sum()
            weights[usable] = shares[usable] * lengths[root] / lengths[usable]
        return weights

    def _trusted(self, stack: Stack) -> int:
        """Place of the trusted row."""
        if self.root not in stack.names or len(stack) < 2:
            raise AggregationError(
                f"FLTrust(root={self.root!r}) needs the row of {self.root!r} and at least one other, got "
                f"{', '.join(stack.names)}: let that site hold every block and take part in every round"
            )
        return stack.names.index(self.root)
