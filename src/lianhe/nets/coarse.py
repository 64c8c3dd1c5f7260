"""A hierarchy of labels: coarse classes that are made of fine ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lianhe.core.errors import SpecError


class CoarseOf(nn.Module):
    """Logits of coarse classes, from those of the fine classes that a task reads.

    c_j = log Σ_{i in children_j} exp(f_i),  so that  softmax(c)_j = Σ_{i in children_j} softmax(f)_i

    It has no parameters: `Task("animal", CoarseOf(…), reads=("species",))` teaches the head of the fine task,
    also by examples that have a coarse label alone.

    Args:
        children: by coarse class, the numbers of its fine classes; each fine class is in one of them.

    Raises:
        SpecError: if a fine class is in none or in two, or a coarse class is empty; when called, if there are
            more fine classes.

    Example:
        >>> head = CoarseOf([[0, 2], [1]])
        >>> head(None, torch.zeros(1, 3)).exp().tolist()
        [[2.0, 1.0]]
    """

    def __init__(self, children: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.groups = tuple(tuple(group) for group in children)
        fine = sorted(i for group in self.groups for i in group)
        if not all(self.groups) or fine != list(range(len(fine))):
            raise SpecError(
                f"CoarseOf: children={children!r}: give every fine class, from 0, to exactly one coarse class"
            )

    def forward(self, z: Any, fine: Tensor) -> Tensor:
        """Logits [n, coarse, ...], from logits [n, fine, ...]; the representation is not read."""
        number = sum(map(len, self.groups))
        if fine.shape[1] != number:
            raise SpecError(f"CoarseOf: the task that is read has {fine.shape[1]} classes, children {number}")
        return torch.stack([fine[:, list(group)].logsumexp(1) for group in self.groups], 1)
