"""The largest of the losses, smoothly."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, count, number, of_rows, per_row
from lianhe.aggregation._losses import positive_losses
from lianhe.aggregation._memory import Remembering
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import SpecError
from lianhe.core.stack import Stack


class STCH(Remembering, Weighting):
    """Gradient of a smooth maximum of the losses (smooth Tchebycheff), each relative to its own beginning.

    After a warm-up the objective is mu T log Σ_t exp(p_t log(L_t / n_t) / mu), with n_t the mean loss of task
    t over the last rounds of the warm-up. Hence w_t = T p_t π_t / L_t, π = softmax(p log(L / n) / mu). During
    the warm-up the objective is Σ_t log L_t, w_t = 1 / L_t. A task that appears only later has its first loss
    for n_t.

    Args:
        warmup: rounds of the warm-up. The authors' code warms up for 5 epochs.
        nadir: rounds at the end of the warm-up over which n_t is averaged; a fifth of it if None, as in the
            authors' code.
        mu: smoothness. The maximum is approached as mu goes to 0; all tasks count alike as it grows.
        preference: p, by row name, or in the order of the rows, > 0; 1 each if None, as in the authors' code.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is missing, zero or negative, or the preference does not fit the rows.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> method = STCH(warmup=1)
        >>> for losses in ([2.0, 8.0], [1.0, 8.0]):
        ...     weights = method.weigh(Rows(torch.eye(2), losses=torch.tensor(losses)))
        >>> (weights * torch.tensor(losses)).tolist()  # of relative losses, the second is twice the first
        [0.6667, 1.3333]

    Source:
        X. Lin et al., "Smooth Tchebycheff scalarization for multi-objective optimization", ICML 2024; warm-up
        and logarithms are those of its multi-task experiments.
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(
        self, warmup: int, nadir: int | None = None, mu: float = 1.0, preference: PerRow | None = None
    ) -> None:
        super().__init__()
        self.warmup = count("STCH: warmup", warmup, 1, hint="rounds, for example those of five epochs")
        self.nadir = max(1, warmup // 5) if nadir is None else count("STCH: nadir", nadir, 1, hint="rounds")
        if self.nadir > warmup:
            raise SpecError(f"STCH: nadir={nadir} must not exceed warmup={warmup}: it is the end of it")
        self.mu = number("STCH: mu", mu, 1e-12, hint="1 is usual; small values are close to the maximum")
        self.preference = None if preference is None else per_row("STCH: preference", preference, low=1e-12)

    def weigh(self, stack: Stack) -> Tensor:
        losses = positive_losses("STCH", stack)
        warm = self._memory.rounds(stack.key) - self.warmup
        seen = self._memory.recall(stack.key, stack.names, (0.0, 0))
        averaged = [
            (total + loss, n + 1) if -self.nadir <= warm < 0 or (warm >= 0 and n == 0) else (total, n)
            for (total, n), loss in zip(seen, losses, strict=True)
        ]
        self._memory.keep(stack.key, stack.names, averaged)
        now = torch.tensor(losses, dtype=torch.float64)
        if warm < 0:
            return now.reciprocal()
        return self._maximum(stack, now, torch.tensor([t / n for t, n in averaged], dtype=torch.float64))

    def _maximum(self, stack: Stack, losses: Tensor, nadir: Tensor) -> Tensor:
        """Weights once the nadir is known."""
        relative = (losses / nadir).log()
        if self.preference is None:
            return len(stack) * (relative / self.mu).softmax(0) / losses
        wanted = torch.tensor(of_rows("STCH: preference", self.preference, stack), dtype=torch.float64)
        return len(stack) * wanted * (wanted * relative / self.mu).softmax(0) / losses
