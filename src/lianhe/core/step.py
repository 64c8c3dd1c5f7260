"""Steps: how the aggregated direction moves the joint. A block that is absent is not touched at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lianhe.core.checks import require_positive
from lianhe.core.contribution import Blocks, Joint
from lianhe.core.errors import SpecError, UnknownNameError

MakeOptimizer: TypeAlias = Callable[..., Optimizer]
MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler]

OPTIMIZERS: Mapping[str, MakeOptimizer] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def make_optimizer(optimizer: str | MakeOptimizer, parameters: Iterable[Tensor], lr: float) -> Optimizer:
    """Make a torch optimiser from its name, or from anything callable as `f(parameters, lr=lr)`."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", optimizer, OPTIMIZERS)
        optimizer = OPTIMIZERS[optimizer]
    return optimizer(list(parameters), lr=lr)


class Step(ABC):
    """Interface: moves the joint along what was aggregated."""

    @abstractmethod
    def apply(self, joint: Joint, update: Blocks) -> Joint:
        """Return the next joint; in-process steps write into the live tensors of this one."""

    def state_dict(self) -> Mapping[str, Any]:
        """State of the step, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027  most steps have no state
        """Take over a state that `state_dict` gave."""


class Descend(Step):
    """Descend along gradients by any torch optimiser.

    Args:
        joint: whose floating tensors, statistics excepted, are optimised.
        optimizer: "sgd", "adam", "adamw", or a callable `f(parameters, lr=…)`.
        lr: learning rate.
        schedule: a callable that makes a torch learning-rate scheduler, stepped once a round.
        clip_norm: greatest norm of the whole update; None does not clip.
    """

    def __init__(
        self,
        joint: Joint,
        optimizer: str | MakeOptimizer = "adam",
        lr: float = 1e-3,
        schedule: MakeScheduler | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self._parameters = {b: dict(ts) for b, ts in joint.blocks.items() if b not in joint.statistics}
        flat = [t for ts in self._parameters.values() for t in ts.values()]
        if not flat:
            raise SpecError("the joint has no parameter to optimise: encoder and heads are empty or frozen")
        self.optimizer = make_optimizer(optimizer, flat, lr)
        self.scheduler = None if schedule is None else schedule(self.optimizer)
        self.clip_norm = clip_norm

    def apply(self, joint: Joint, update: Blocks) -> Joint:
        """Put the update where autograd would have put it, and let the optimiser step."""
        touched: list[Tensor] = []
        for block, gradients in update.items():
            for name, gradient in gradients.items():
                if block in joint.statistics:  # no parameters: they come as differences
                    joint.blocks[block][name].add_(gradient)
                else:
                    parameter = self._parameters[block][name]
                    parameter.grad = gradient
                    touched.append(parameter)
        if self.clip_norm is not None:
            self._clip(self.clip_norm)
        # torch skips parameters without gradient: an absent block keeps its value and its optimiser state.
        self.optimizer.step()
        for parameter in touched:
            parameter.grad = None
        if self.scheduler is not None:
            self.scheduler.step()
        return joint

    def _clip(self, largest: float) -> None:
        present = [t for ts in self._parameters.values() for t in ts.values() if t.grad is not None]
        norm = get_total_norm([t.grad for t in present if t.grad is not None])
        clip_grads_with_norm_(present, largest, norm)

    def state_dict(self) -> Mapping[str, Any]:
        scheduler = {} if self.scheduler is None else _plain(self.scheduler.state_dict())
        return {"optimizer": self.optimizer.state_dict(), "scheduler": scheduler}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(dict(state["scheduler"]))


class Add(Step):
    """Add the aggregated update, θ ← θ + η Δ (with η = 1 and a mean: FedAvg, McMahan et al., AISTATS 2017).

    Args:
        lr: server learning rate η.
    """

    def __init__(self, lr: float = 1.0) -> None:
        require_positive("lr of Add", lr)
        self.lr = lr

    @torch.no_grad()
    def apply(self, joint: Joint, update: Blocks) -> Joint:
        """Add in place, block by block."""
        for block, deltas in update.items():
            for name, delta in deltas.items():
                joint.blocks[block][name].add_(delta, alpha=self.lr)
        return joint


class Replace(Step):
    """The aggregate is the next joint: pseudo-labels, a fused model."""

    def apply(self, joint: Joint, update: Blocks) -> Joint:
        """Replace the blocks that were aggregated, keep the others."""
        return Joint({**joint.blocks, **update}, joint.statistics)


def _plain(state: Any) -> Any:
    """Leave out what is code: a checkpoint holds values only."""
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items() if not callable(value)}
    if isinstance(state, (list, tuple)):
        return [_plain(value) for value in state if not callable(value)]
    return state
