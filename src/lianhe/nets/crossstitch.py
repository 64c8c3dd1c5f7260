"""Cross-stitch networks: a column for each task, and learned mixing between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lianhe.core.errors import SpecError
from lianhe.nets.sharing import Makes, Sharing, as_tasks, as_tower, require_task
from lianhe.nets.stages import stages_of


@dataclass(frozen=True)
class CrossStitch(Sharing):
    """Every task has a column of stages of its own; after each stage all columns are mixed.

    x_t ← Σ_u A_tu x_u, with A_tt = keep and A_tu = (1 - keep) / (T - 1) to begin with; A is learned.

    After the last stage only a task's own row of A reaches its loss: that row and the tower are its head. All
    columns and the other mixings are in the encoder.

    Args:
        make_stages: makes a column: a list of modules, or a `nn.Sequential`, which is cut before every weight
            matrix (`stages_of`). It is called once a task.
        tasks: names of all tasks.
        keep: how much a column keeps of itself to begin with; 1 starts with separate columns.
        channels: by stage, size of dimension 1 of its output, for a mixing of every channel; None mixes whole
            outputs.

    Raises:
        SpecError: if there are no tasks, or sizes do not fit the stages.

    Example:
        >>> sharing = CrossStitch(lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU()), ["income", "age"])
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(8, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])

    Source:
        I. Misra, A. Shrivastava, A. Gupta and M. Hebert, "Cross-Stitch Networks for Multi-Task Learning",
        CVPR 2016.
    """

    make_stages: Callable[[], Sequence[nn.Module] | nn.Module]
    tasks: Sequence[str]
    keep: float = 0.9
    channels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", as_tasks(self.tasks, "CrossStitch"))
        if not 0 <= self.keep <= 1:
            raise SpecError(f"CrossStitch: keep={self.keep!r}: must be between 0 and 1")

    def encoder(self) -> nn.Module:
        columns = [stages_of(self.make_stages()) for _ in self.tasks]
        if self.channels is not None and len(self.channels) != len(columns[0]):
            raise SpecError(f"CrossStitch: {len(self.channels)} channels for {len(columns[0])} stages")
        own = range(len(self.tasks))
        return Columns(columns, [self._stitch(own, stage) for stage in range(len(columns[0]) - 1)])

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        require_task(task, tuple(self.tasks), "CrossStitch")
        return StitchedHead(self._stitch([self.tasks.index(task)], -1), as_tower(tower))

    def _stitch(self, own: Sequence[int], stage: int) -> Stitch:
        channels = None if self.channels is None else self.channels[stage]
        return Stitch(own, len(self.tasks), self.keep, channels)


class Stitch(nn.Module):
    """Mixes columns [n, T, ...] into as many as there are rows."""

    def __init__(self, own: Sequence[int], columns: int, keep: float, channels: int | None) -> None:
        super().__init__()
        self.own, self.keep = tuple(own), keep
        self.weight = nn.Parameter(torch.empty(len(self.own), columns, *([channels] if channels else [])))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Give each row what it keeps of its own column, and the others the rest in equal parts."""
        columns = self.weight.shape[1]
        self.weight.fill_((1 - self.keep) / max(columns - 1, 1))
        for row, column in enumerate(self.own):
            self.weight[row, column] = self.keep if columns > 1 else 1.0

    def forward(self, columns: Tensor) -> Tensor:
        """The mixtures, [n, rows, ...]."""
        index = "tuc,nuc...->ntc..." if self.weight.ndim == 3 else "tu,nu...->nt..."
        return torch.einsum(index, self.weight, columns)


class Columns(nn.Module):
    """Columns of stages, stitched after every stage but the last; outputs [n, T, ...]."""

    def __init__(self, columns: Sequence[Sequence[nn.Module]], stitches: Sequence[Stitch]) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.ModuleList(column) for column in columns)
        self.stitches = nn.ModuleList(stitches)

    def forward(self, x: Any) -> Tensor:
        """Outputs of the last stage of every column."""
        inputs: Sequence[Any] = [x] * len(self.columns)
        for number in range(len(self.stitches) + 1):
            stages = [list(column.children())[number] for column in self.columns]
            outputs = torch.stack([stage(x) for stage, x in zip(stages, inputs, strict=True)], 1)
            if number < len(self.stitches):
                inputs = self.stitches[number](outputs).unbind(1)
        return outputs


class StitchedHead(nn.Module):
    """The last mixing of a task, and its tower."""

    def __init__(self, stitch: Stitch, tower: nn.Module | None) -> None:
        super().__init__()
        self.stitch, self.tower = stitch, tower

    def forward(self, columns: Tensor, *others: Any) -> Any:
        """Prediction of the task."""
        z = self.stitch(columns).squeeze(1)
        return z if self.tower is None else self.tower(z, *others)
