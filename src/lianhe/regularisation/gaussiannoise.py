"""Gaussian noise on inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lianhe.core.checks import require_positive
from lianhe.regularisation._inputs import change, is_number


@dataclass(frozen=True)
class GaussianNoise:
    """Add noise to inputs: x + σ ε, ε ~ N(0, 1), on every tensor of floating point.

    Args:
        std: σ, in the unit of the inputs.

    Raises:
        SpecError: if σ is not positive, or no input is of floating point.

    Example:
        >>> noise = GaussianNoise(0.1)(torch.zeros(1000, 10))
        >>> 0.09 < noise.std().item() < 0.11
        True

    Source: Bishop, "Training with Noise is Equivalent to Tikhonov Regularization", Neural Computation 7,
        1995.
    """

    std: float

    def __post_init__(self) -> None:
        require_positive("std of GaussianNoise", self.std)

    def __call__(self, x: Any) -> Any:
        """Inputs with noise."""
        return change(
            x, is_number, lambda t: t + self.std * torch.randn_like(t), self, "inputs of floating point"
        )
