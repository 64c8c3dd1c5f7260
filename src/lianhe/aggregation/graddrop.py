"""Coordinate by coordinate, one sign is drawn and the other dropped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, number, of_rows, per_row
from lianhe.aggregation._values import precise_rows
from lianhe.core.aggregator import Elementwise
from lianhe.core.stack import Stack


class GradDrop(Elementwise):
    """Sum of the entries of one sign, drawn coordinate by coordinate (gradient sign dropout).

    With P_k = (1 + Σ_i J_ik / Σ_i |J_ik|) / 2 the purity of the positive sign and U_k uniform on [0, 1), the
    positive entries of column k are kept if P_k > U_k, and the negative ones otherwise. Row i leaks: of each
    of its entries that is not kept, the share l_i stays. The draws come from the stack's random stream. In
    expectation the result is the sum of the rows.

    Args:
        leak: l, in [0, 1], one for all rows, or by row name, or in the order of the rows; 1 is the sum.

    Raises:
        SpecError: if a leak is out of range.
        AggregationError: if the leaks do not fit the rows.

    Example:
        >>> GradDrop()(torch.tensor([[1.0, 2.0, -3.0], [4.0, 0.0, -1.0]])).tolist()  # no signs in conflict
        [5.0, 2.0, -4.0]

    Source:
        Z. Chen et al., "Just pick a sign: optimizing deep multitask models with gradient sign dropout",
        NeurIPS 2020. There it is a layer that acts on gradients of activations; this acts, as TorchJD's does,
        on those of the shared parameters.
    """

    def __init__(self, leak: float | PerRow = 0.0) -> None:
        if isinstance(leak, (int, float)):
            self.leak: float | PerRow = number("GradDrop: leak", leak, 0, 1, hint="0 is usual; 1 is the sum")
            return
        self.leak = per_row("GradDrop: leak", leak, low=0)
        for key, value in leak.items() if isinstance(leak, Mapping) else enumerate(leak):
            number(f"GradDrop: leak[{key!r}]", value, 0, 1, hint="0 is usual; 1 is the sum")

    def reduce(self, stack: Stack) -> Tensor:
        rows = precise_rows(stack)
        positive, negative = rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)
        # Single precision, whatever the rows have: so the same signs are drawn for both.
        drawn = torch.rand(rows.shape[1], generator=stack.generator(), dtype=torch.float32).to(rows)
        up = positive > drawn * (positive - negative)  # P > U, without a division by zero
        kept = torch.where(up, positive, negative)
        return self._leaking(stack, rows, kept, up).to(stack.values.dtype)

    def _leaking(self, stack: Stack, rows: Tensor, kept: Tensor, up: Tensor) -> Tensor:
        """Add what leaks of the entries that were dropped."""
        leak = self.leak
        if not leak:
            return kept
        shares = [leak] * len(stack) if isinstance(leak, float) else of_rows("GradDrop: leak", leak, stack)
        dropped = torch.where(up, rows.clamp(max=0), rows.clamp(min=0))
        return kept + torch.tensor(shares, dtype=torch.float64).to(rows) @ dropped
