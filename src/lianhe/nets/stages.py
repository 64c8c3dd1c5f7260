"""Encoders as sequences of stages, and an encoder whose tasks sit at different depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError


class Stages(nn.Module):
    """An encoder that gives the outputs of all its stages, so that tasks may sit at different depths.

    z = (z_1, …, z_S),  z_s = stage_s(z_{s-1}),  z_0 = x

    A head picks its stage: `Pick(0, …)` the first, `Pick(-1, …)` the last. Where it is said at which depth
    each task sits, stages above which there is only one task are that task's own (`private`).

    Args:
        stages: modules, each of which reads the output of the one before; or a `nn.Sequential`, which is cut
            as `stages_of` says.
        depths: by task, number of the stage that its head picks; from 0, or from the end if negative.

    Raises:
        SpecError: if there is no such stage, or a stage that no task reaches.

    Example:
        >>> import torch
        >>> encoder = Stages([nn.Linear(4, 3), nn.Linear(3, 2)], depths={"words": 0, "phrases": 1})
        >>> [tuple(z.shape) for z in encoder(torch.zeros(5, 4))]
        [(5, 3), (5, 2)]
        >>> {task: list(parameters) for task, parameters in encoder.private().items()}
        {'phrases': ['stages.1.weight', 'stages.1.bias']}

    Source:
        A. Søgaard and Y. Goldberg, "Deep multi-task learning with low level tasks supervised at lower
        layers", ACL 2016.
    """

    def __init__(
        self, stages: Sequence[nn.Module] | nn.Sequential, depths: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages_of(stages))
        self.depths = {task: self._depth(task, depth) for task, depth in (depths or {}).items()}
        deepest = max(self.depths.values(), default=len(self.stages) - 1)
        if deepest < len(self.stages) - 1:
            raise SpecError(f"depths={self.depths}: no task reaches the last of {len(self.stages)} stages")

    def forward(self, x: Any) -> tuple[Any, ...]:
        """Outputs of all stages."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)

    def private(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Parameters that only one task's loss reaches, by task and by name."""
        own: dict[str, dict[str, Tensor]] = {}
        for number, stage in enumerate(self.stages):
            above = [task for task, depth in self.depths.items() if depth >= number]
            if len(above) == 1:
                names = stage.named_parameters(f"stages.{number}")
                own.setdefault(above[0], {}).update(names)
        return own

    def _depth(self, task: str, depth: int) -> int:
        from_start = depth + len(self.stages) if depth < 0 else depth
        require_whole(f"depths[{task!r}]", from_start, 0)
        if from_start >= len(self.stages):
            raise SpecError(f"depths[{task!r}]={depth}: there are {len(self.stages)} stages, from 0")
        return from_start


def stages_of(encoder: Sequence[nn.Module] | nn.Module) -> list[nn.Module]:
    """Stages of an encoder: those of a list as they are; a `nn.Sequential` is cut before every weight matrix.

    So activations, normalisation and pooling stay with the layer that they follow. A module of another kind
    is one stage.

    Example:
        >>> len(stages_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))))
        2
    """
    if isinstance(encoder, nn.ModuleList) or not isinstance(encoder, nn.Module):
        return list(encoder)
    if not isinstance(encoder, nn.Sequential):
        return [encoder]
    groups: list[list[nn.Module]] = [[]]
    for layer in encoder:
        if _weighs(layer) and any(_weighs(before) for before in groups[-1]):
            groups.append([])
        groups[-1].append(layer)
    return [group[0] if len(group) == 1 else nn.Sequential(*group) for group in groups]


def _weighs(layer: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in layer.parameters())
