"""Sums of blocks, part by part, and over processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lianhe.core.contribution import Blocks

#: adds tensors up over all processes
Reduce: TypeAlias = Callable[[list[Tensor]], list[Tensor]]


def alone(tensors: list[Tensor]) -> list[Tensor]:
    """Add up over one process."""
    return tensors


class Sums:
    """Adds blocks up, in tensors of its own."""

    def __init__(self, layout: Blocks) -> None:
        self._totals = {b: {n: torch.zeros_like(p) for n, p in ps.items()} for b, ps in layout.items()}

    def add(self, blocks: Any) -> None:
        """Add some of the blocks."""
        for block, tensors in blocks.items():
            for name, tensor in tensors.items():
                self._totals[block][name] += tensor

    def flat(self) -> list[Tensor]:
        """The sums, one after the other."""
        return [t.detach() for tensors in self._totals.values() for t in tensors.values()]

    def named(self, flat: Sequence[Tensor]) -> dict[str, dict[str, Tensor]]:
        """Tensors in the order of `flat`, by block and name."""
        each = iter(flat)
        return {b: {n: next(each) for n in ts} for b, ts in self._totals.items()}
