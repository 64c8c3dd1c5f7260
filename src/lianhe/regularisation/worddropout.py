"""Word dropout: single words are replaced by the unknown word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError
from lianhe.regularisation._inputs import change, is_text, require_rate


@dataclass(frozen=True)
class WordDropout:
    """Forget words: each word of a text [n, length] becomes the unknown word with probability `rate`.

    Args:
        rate: probability.
        unknown: number of the unknown word.
        padding: number of what fills texts up, which stays.

    Raises:
        SpecError: if a number is out of range, or no input is a text of whole numbers.

    Example:
        >>> words = WordDropout(0.2, unknown=1)(torch.full((1000, 10), 7))
        >>> sorted(words.unique().tolist()), 0.17 < (words == 1).float().mean().item() < 0.23
        ([1, 7], True)

    Source: Iyyer, Manjunatha, Boyd-Graber & Daumé, "Deep Unordered Composition Rivals Syntactic Methods for
        Text Classification", ACL 2015.
    """

    rate: float
    unknown: int
    padding: int = 0

    def __post_init__(self) -> None:
        require_rate("WordDropout", self.rate)
        require_whole("unknown of WordDropout", self.unknown, 0)
        require_whole("padding of WordDropout", self.padding, 0)
        if self.unknown == self.padding:
            raise SpecError(f"unknown and padding of WordDropout are both {self.unknown}: they must differ")

    def __call__(self, x: Any) -> Any:
        """Inputs with forgotten words."""
        return change(x, is_text, self._forget, self, "texts, whole numbers [n, length]")

    def _forget(self, x: Tensor) -> Tensor:
        forgotten = torch.rand(x.shape, device=x.device) < self.rate
        return x.masked_fill(forgotten & (x != self.padding), self.unknown)
