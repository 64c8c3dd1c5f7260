"""What server steps have in common: a memory of each tensor, touched only in rounds that move the tensor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lianhe.core.checks import require_not_negative, require_positive
from lianhe.core.contribution import Blocks, Joint
from lianhe.core.errors import SpecError
from lianhe.core.step import Step

#: what is remembered of one tensor: quantity -> values of its shape
Memory: TypeAlias = dict[str, Tensor]


class ServerStep(Step):
    """Interface: moves the joint along Δ, the aggregated update of sites, with a memory of earlier rounds.

    x ← x + η d(Δ, memory), tensor by tensor. A block that no site of the round holds keeps its value and its
    memory: nothing decays, nothing is counted. Running statistics are no parameters: their change is added
    as it is. The memory has at least the precision of float32, whatever the parameters have.

    Args:
        lr: server learning rate η.

    Raises:
        SpecError: if it is not a positive finite number.
    """

    def __init__(self, lr: float) -> None:
        require_positive(f"lr of {type(self).__name__}", lr)
        self.lr = lr
        self._memory: dict[str, dict[str, Memory]] = {}

    @torch.no_grad()
    def apply(self, joint: Joint, update: Blocks) -> Joint:
        """Move in place what the update holds, and leave alone what it does not hold."""
        for block, deltas in update.items():
            for name, delta in deltas.items():
                tensor = joint.blocks[block][name]
                if block in joint.statistics:
                    tensor.add_(delta)
                else:
                    memory = self._recall(block, name, tensor)
                    tensor.add_(self._direction(memory, delta.to(_precise(tensor))), alpha=self.lr)
        return joint

    def _recall(self, block: str, name: str, tensor: Tensor) -> Memory:
        """What is remembered of a tensor, on its device: a checkpoint is read where the processor is."""
        of_block = self._memory.setdefault(block, {})
        known = of_block.get(name) or self._begin(torch.zeros_like(tensor, dtype=_precise(tensor)))
        of_block[name] = {quantity: values.to(tensor.device) for quantity, values in known.items()}
        return of_block[name]

    @abstractmethod
    def _begin(self, zeros: Tensor) -> Memory:
        """Memory of a tensor that has not moved yet, from zeros of its shape."""

    @abstractmethod
    def _direction(self, memory: Memory, delta: Tensor) -> Tensor:
        """Write Δ into the memory of its tensor, and return d; Δ itself is not written into."""

    def state_dict(self) -> Mapping[str, Any]:
        """Memory by block, tensor and quantity."""
        return {"memory": self._memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of a memory that `state_dict` gave."""
        self._memory = {
            block: {
                name: {quantity: values.clone() for quantity, values in memory.items()}
                for name, memory in of_block.items()
            }
            for block, of_block in state["memory"].items()
        }

    def __repr__(self) -> str:
        told = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def require_decay(argument: str, value: object) -> None:
    """Raise SpecError if `value` is not a number of at least 0 and below 1."""
    require_not_negative(argument, value)
    if not value < 1:  # type: ignore[operator]  # a number by now
        raise SpecError(f"{argument}={value!r}: must be below 1, or earlier rounds would never fade")


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
