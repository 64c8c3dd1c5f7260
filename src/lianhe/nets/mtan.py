"""Multi-task attention network: every task looks at a shared backbone through masks of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.nets.pick import Pick
from lianhe.nets.sharing import Makes, Sharing, as_tasks, as_tower, require_task
from lianhe.nets.stages import stages_of


@dataclass(frozen=True)
class MTAN(Sharing):
    """A shared backbone, and for every task and stage a mask on its features.

        a_t^s = h_t^s(g_t^s([u^s, f^s(â_t^{s-1})])),  â_t^s = a_t^s ⊙ p^s,  z_t = â_t^S

    with u and p what the first layer and the whole of a stage give (the same where a stage has one layer). g
    ends with ReLU, h with a sigmoid; f, which all tasks share, carries what a task has seen to the size of
    the next stage. On images g and h are 1 x 1 convolutions, f a 3 x 3 one; on vectors all are linear.

    The encoder holds everything, since f stands between parameters of tasks, and gives {task: z_t}; g and h
    are `private` to their task.

    Args:
        make_stages: makes the backbone: a list of modules, or a `nn.Sequential`, which is cut before every
            weight matrix (`stages_of`), as its stages are.
        tasks: names of all tasks.
        features: by stage, size of dimension 1 of u and of p.
        images: whether features are maps, [n, features, h, w]; else vectors.
        norm: "batch" normalisation before each activation of f, g and h, or "none".

    Raises:
        SpecError: if there are no tasks, or sizes do not fit the stages.

    Example:
        >>> sharing = MTAN(lambda: [nn.Linear(12, 8), nn.Linear(8, 6)], ["income", "age"], features=[8, 6])
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(6, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])

    Source:
        S. Liu, E. Johns and A. J. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.
    """

    make_stages: Callable[[], Sequence[nn.Module] | nn.Module]
    tasks: Sequence[str]
    features: Sequence[int]
    images: bool = False
    norm: str = "batch"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", as_tasks(self.tasks, "MTAN"))
        for size in self.features:
            require_whole("MTAN: features", size, 1)
        if self.norm not in ("batch", "none"):
            raise UnknownNameError("norm of MTAN", str(self.norm), ["batch", "none"])

    def encoder(self) -> nn.Module:
        return Attended(self, stages_of(self.make_stages()))

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        require_task(task, tuple(self.tasks), "MTAN")
        return Pick(task, as_tower(tower))

    def layer(self, inputs: int, outputs: int, size: int, activation: nn.Module) -> nn.Module:
        """A convolution or a linear layer, normalised, and an activation."""
        if not self.images:
            norm: list[nn.Module] = [nn.BatchNorm1d(outputs)] if self.norm == "batch" else []
            return nn.Sequential(nn.Linear(inputs, outputs), *norm, activation)
        norm = [nn.BatchNorm2d(outputs)] if self.norm == "batch" else []
        return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), *norm, activation)


class Attended(nn.Module):
    """A backbone with the masks of all tasks; gives {task: what it sees of the last stage}."""

    def __init__(self, sharing: MTAN, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(stages) != len(sharing.features):
            raise SpecError(f"MTAN: {len(sharing.features)} features for {len(stages)} stages: one for each")
        self.tasks, sizes = tuple(sharing.tasks), tuple(sharing.features)
        self.stages = nn.ModuleList(_Stage(stage) for stage in stages)
        self.carry = nn.ModuleList(sharing.layer(a, b, 3, nn.ReLU()) for a, b in pairwise(sizes))
        self.masks = nn.ModuleList(
            nn.ModuleList(_mask(sharing, size, first=s == 0) for s, size in enumerate(sizes))
            for _ in self.tasks
        )

    def forward(self, x: Any) -> dict[str, Tensor]:
        """Masked features of the last stage, by task."""
        seen: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            u, x = stage(x)
            if number:
                carried = [_sized_as(u, self.carry[number - 1](before)) for before in seen]
                reads = [torch.cat([u, before], 1) for before in carried]
            else:
                reads = [u] * len(self.tasks)
            masks = [list(own.children())[number] for own in self.masks]
            seen = [mask(read) * x for mask, read in zip(masks, reads, strict=True)]
        return dict(zip(self.tasks, seen, strict=True))

    def private(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Parameters of the masks, by task and by name."""
        return {
            task: dict(masks.named_parameters(f"masks.{number}"))
            for number, (task, masks) in enumerate(zip(self.tasks, self.masks, strict=True))
        }


class _Stage(nn.Module):
    """A stage that also shows what its first layer gives."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        first, *rest = stages_of(stage)
        self.first, self.rest = first, nn.Sequential(*rest)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        u = self.first(x)
        return u, self.rest(u)


def _mask(sharing: MTAN, features: int, first: bool) -> nn.Module:
    g = sharing.layer(features if first else 2 * features, features, 1, nn.ReLU())
    return nn.Sequential(g, sharing.layer(features, features, 1, nn.Sigmoid()))


def _sized_as(like: Tensor, x: Tensor) -> Tensor:
    """Pool maps to the size of others: where that halves them, as 2 x 2 pooling does."""
    return x if x.shape[2:] == like.shape[2:] else functional.adaptive_max_pool2d(x, like.shape[2:])
