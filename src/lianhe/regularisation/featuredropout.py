"""Feature dropout: single inputs are blanked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lianhe.regularisation._inputs import change, is_number, require_rate


@dataclass(frozen=True)
class FeatureDropout:
    """Blank features: each number of each sample is set to `value` with probability `rate`.

    Other than `nn.Dropout` it does not scale up what stays: a feature is missing, as it may be in use. In
    standardised columns, 0 is the mean.

    Args:
        rate: probability.
        value: of a blank feature.

    Raises:
        SpecError: if the rate is not in (0, 1), or no input is of floating point.

    Example:
        >>> blanked = FeatureDropout(0.25)(torch.ones(1000, 10))
        >>> 0.22 < (blanked == 0).float().mean().item() < 0.28
        True

    Source: Vincent, Larochelle, Bengio & Manzagol, "Extracting and Composing Robust Features with Denoising
        Autoencoders", ICML 2008.
    """

    rate: float
    value: float = 0.0

    def __post_init__(self) -> None:
        require_rate("FeatureDropout", self.rate)

    def __call__(self, x: Any) -> Any:
        """Inputs with blanks."""
        return change(x, is_number, self._blank, self, "inputs of floating point")

    def _blank(self, x: Tensor) -> Tensor:
        return x.masked_fill(torch.rand(x.shape, device=x.device) < self.rate, self.value)
