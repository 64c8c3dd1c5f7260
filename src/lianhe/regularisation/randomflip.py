"""Random flips of images, left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lianhe.regularisation._inputs import change, is_image, require_rate


@dataclass(frozen=True)
class RandomFlip:
    """Flip images [n, channels, height, width] left to right, each with probability `rate`.

    Labels stay as they are: not for tasks whose labels are positions, or whose classes differ by side.

    Args:
        rate: probability.

    Raises:
        SpecError: if the rate is not in (0, 1), or no input is an image.

    Example:
        >>> images = torch.arange(2.0).expand(1000, 1, 1, 2)
        >>> 0.45 < RandomFlip()(images)[:, 0, 0, 0].mean().item() < 0.55
        True
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        require_rate("RandomFlip", self.rate)

    def __call__(self, x: Any) -> Any:
        """Inputs with some images flipped."""
        return change(x, is_image, self._flip, self, "images, [n, channels, height, width]")

    def _flip(self, x: Tensor) -> Tensor:
        chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.rate
        return torch.where(chosen, x.flip(-1), x)
