"""Random shifts of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError
from lianhe.regularisation._inputs import change, is_image


@dataclass(frozen=True)
class RandomShift:
    """Shift images [n, channels, height, width] by up to `pixels` in both directions; 0 comes in.

    Labels stay as they are: not for tasks whose labels are positions.

    Args:
        pixels: greatest shift, uniform in −pixels .. pixels, for each image anew.

    Raises:
        SpecError: if the number is not whole and positive, or no input is an image larger than it.

    Example:
        >>> shifted = RandomShift(1)(torch.ones(9, 1, 4, 4))
        >>> shifted.shape, set(shifted.sum((1, 2, 3)).tolist()) <= {16.0, 12.0, 9.0}
        (torch.Size([9, 1, 4, 4]), True)
    """

    pixels: int

    def __post_init__(self) -> None:
        require_whole("pixels of RandomShift", self.pixels, 1)

    def __call__(self, x: Any) -> Any:
        """Inputs with images shifted."""
        return change(x, is_image, self._shift, self, "images, [n, channels, height, width]")

    def _shift(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        if min(height, width) <= self.pixels:
            raise SpecError(f"augment: {self!r} would shift images of {height} x {width} pixels out of sight")
        padded = F.pad(x, [self.pixels] * 4)
        start = torch.randint(0, 2 * self.pixels + 1, (2, n, 1), device=x.device)
        rows = start[0] + torch.arange(height, device=x.device)
        columns = start[1] + torch.arange(width, device=x.device)
        image = torch.arange(n, device=x.device)[:, None, None]
        return padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
