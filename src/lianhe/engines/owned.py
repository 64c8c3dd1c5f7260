"""Blocks that are not held by all tasks of a joint step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lianhe.core.stack import Combined, Rows, Stack, unflatten
from lianhe.linalg import gramian

if TYPE_CHECKING:
    from lianhe.engines.jointstep import SharedStack


class Shared(Rows):
    """A block that some tasks hold, but not all: a head that another one reads."""

    objectives = True

    def __init__(
        self,
        names: Sequence[str],
        block: str,
        gradients: Sequence[Mapping[str, Tensor]],
        losses: Tensor,
        whole: SharedStack,
    ) -> None:
        matrix = torch.stack([torch.cat([g.reshape(-1) for g in of.values()]) for of in gradients])
        weights = [whole.weights[whole.names.index(name)] for name in names]
        super().__init__(
            matrix,
            names,
            torch.stack(weights),
            losses,
            layout={block: gradients[0]},
            stream=whole.stream,
        )
        self.key = block


class Followed(Stack):
    """A block with one holder: there is nothing to reconcile, and nothing to flatten."""

    objectives = True

    def __init__(self, name: str, block: str, gradients: Mapping[str, Tensor], losses: Tensor) -> None:
        self.names, self.key = (name,), block
        self._gradients, self._losses = gradients, losses

    @property
    def losses(self) -> Tensor:
        return self._losses

    @property
    def weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    @property
    def values(self) -> Tensor:
        return torch.cat([g.reshape(-1) for g in self._gradients.values()])[None]

    def gramian(self) -> Tensor:
        return gramian(self.values)

    def combine(self, weights: Tensor) -> Combined:
        return {self.key: {n: g * weights[0].item() for n, g in self._gradients.items()}}

    def average(self) -> Combined:
        return {self.key: self._gradients}

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {self.key: self._gradients})
