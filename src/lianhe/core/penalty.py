"""Penalties: what a joint step pays for the joint itself, beside the losses of the participants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lianhe.core.contribution import Blocks, Joint


class Penalty(ABC):
    """Interface: a differentiable function R(θ) of the joint's blocks.

    It is no task: its gradient is added to the update that the aggregator gave, as it is, and only to blocks
    that the update moves. So it is weighed against that update: twice the sum of losses wants twice the
    strength.
    """

    def bind(self, joint: Joint) -> None:  # noqa: B027  many penalties fit any joint
        """Take note of the joint; raise SpecError if the penalty does not fit it."""

    def among(self, tasks: Sequence[str]) -> Penalty | None:
        """What of it is about these tasks, where there are no others; None if nothing is."""
        return self

    @abstractmethod
    def value(self, blocks: Blocks) -> Tensor:
        """R(θ), a number that can be differentiated; `blocks` are the parameters, without statistics."""

    def learn(self, blocks: Blocks) -> None:  # noqa: B027  most penalties learn nothing
        """Look at the parameters after a step, for a penalty that adapts to them."""

    def findings(self) -> tuple[str, ...]:
        """What it has learned: sentences for a report."""
        return ()

    def state_dict(self) -> Mapping[str, Any]:
        """State, for a checkpoint: tensors, numbers, strings, and mappings of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027  most penalties have no state
        """Take over a state that `state_dict` gave."""

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({options})"
