"""L1: the sum of absolute values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lianhe.core.checks import require_positive
from lianhe.core.contribution import Blocks, Joint
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.penalty import Penalty


class L1(Penalty):
    """Sum of absolute values: R(θ) = λ Σ |θ_i|, whose gradient is λ sign(θ), and 0 at 0.

    Steps along a subgradient bring parameters close to 0, not to 0 itself: to find which ones do not matter,
    compare with the learning rate times λ.

    Args:
        strength: λ.
        blocks: "encoder", "head.<task>", …; None for all.

    Raises:
        SpecError: if the strength is not positive, or the joint has no such block.

    Example:
        >>> import torch
        >>> L1(0.1).value({"encoder": {"weight": torch.tensor([1.0, -2.0])}}).item()
        0.30

    Source: Tibshirani, "Regression Shrinkage and Selection via the Lasso", J. R. Stat. Soc. B 58, 1996.
    """

    def __init__(self, strength: float, blocks: Sequence[str] | None = None) -> None:
        require_positive("strength of L1", strength)
        if isinstance(blocks, str) or (blocks is not None and not blocks):
            raise SpecError(f'blocks of L1 is {blocks!r}: give a list of names, such as ["encoder"], or None')
        self.strength = strength
        self.blocks = None if blocks is None else tuple(blocks)

    def bind(self, joint: Joint) -> None:
        valid = [block for block in joint.blocks if block not in joint.statistics]
        for block in self.blocks or ():
            if block not in valid:
                raise UnknownNameError("block of L1", block, valid)

    def among(self, tasks: Sequence[str]) -> Penalty | None:
        if self.blocks is None:
            return self
        blocks = [b for b in self.blocks if b == "encoder" or b.partition(".")[2] in tasks]
        return L1(self.strength, blocks) if blocks else None

    def value(self, blocks: Blocks) -> Tensor:
        chosen = [
            t for b, ts in blocks.items() if self.blocks is None or b in self.blocks for t in ts.values()
        ]
        first, *rest = (tensor.abs().sum() for tensor in chosen)
        return self.strength * sum(rest, start=first)
