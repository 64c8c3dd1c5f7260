"""Adversaries: they move the inputs of a round's batch to where the joint loss is greater."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

#: the joint loss as a function of the inputs' tensors: one number
JointLoss: TypeAlias = Callable[[Sequence[Tensor]], Tensor]


class Adversary(ABC):
    """Interface: perturbs inputs within a budget; a value, all that it draws comes from a given generator."""

    @abstractmethod
    def perturb(
        self, inputs: Sequence[Tensor], loss: JointLoss, generator: torch.Generator
    ) -> Sequence[Tensor]:
        """Perturbed inputs.

        Args:
            inputs: tensors of floating point, samples first.
            loss: of the tasks present, to be raised; may be called, and differentiated, several times.
            generator: on the CPU, keyed by the round.
        """
