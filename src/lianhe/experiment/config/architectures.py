"""How tasks share an encoder, as a specification file says it: `sharing = {name = "mmoe", experts = 6}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from lianhe.core.errors import SpecError
from lianhe.experiment.config.named import Registry
from lianhe.nets import CGC, MTAN, PLE, CrossStitch, DSelectK, LoRA, MMoE, Sharing


@dataclass(frozen=True, eq=False)
class Plan:
    """What an architecture is made of.

    Args:
        expert: makes one that reads the inputs: an expert, a column, or what is adapted.
        reading: makes one that reads vectors of a given size.
        numbers: that an example has.
        width: of what it gives.
        hidden: widths of its layers; None where only a factory knows them.
        tasks: names of all tasks.
    """

    expert: Callable[[], nn.Module]
    reading: Callable[[int], nn.Module]
    numbers: int
    width: int
    hidden: Sequence[int] | None
    tasks: Sequence[str]


Recipe: TypeAlias = Callable[[Plan], Sharing]


def mmoe(experts: int = 4) -> Recipe:
    """Experts that all tasks share, and a gate for each."""
    return lambda plan: MMoE(plan.expert, experts, plan.numbers)


def cgc(experts: int = 1, shared: int = 1) -> Recipe:
    """Experts of each task, and shared ones."""
    return lambda plan: CGC(plan.expert, experts, shared, plan.numbers)


def ple(experts: int = 1, shared: int = 1, levels: int = 2) -> Recipe:
    """Levels of experts of each task, and of shared ones."""
    return lambda plan: PLE(
        plan.reading, plan.tasks, plan.numbers, plan.width, levels, experts=experts, shared=shared
    )


def dselectk(experts: int = 4, k: int = 2, gamma: float = 1.0, entropy: float = 0.0) -> Recipe:
    """Experts that all tasks share, of which each chooses k."""
    return lambda plan: DSelectK(plan.expert, experts, k, gamma=gamma, entropy=entropy)


def crossstitch(keep: float = 0.9) -> Recipe:
    """A column for each task, and learned mixing between them."""
    return lambda plan: CrossStitch(plan.expert, plan.tasks, keep)


def mtan(norm: str = "batch") -> Recipe:
    """A shared backbone, which each task sees through masks of its own."""

    def recipe(plan: Plan) -> Sharing:
        if plan.hidden is None:
            raise SpecError("mtan must know the width of each layer: give hidden = […] instead of a factory")
        return MTAN(plan.expert, plan.tasks, plan.hidden, norm=norm)

    return recipe


def lora(rank: int = 4, alpha: float | None = None) -> Recipe:
    """One encoder, and a low-rank change of its weights for each task."""
    return lambda plan: LoRA(plan.expert, plan.tasks, rank, alpha)


SHARINGS: Registry = {
    "cgc": cgc,
    "crossstitch": crossstitch,
    "dselectk": dselectk,
    "lora": lora,
    "mmoe": mmoe,
    "mtan": mtan,
    "ple": ple,
}
