"""Weights of objectives that are found in one block of theirs and applied to all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lianhe.core.errors import AggregationError
from lianhe.core.stack import Combined, Stack


def owner_sets(stack: Stack) -> list[Stack]:
    """Return the parts of a stack by owner set; running statistics, which are always averaged, left out."""
    return [group for group in stack.groups() if not group.statistics]


def held_by_all(aggregator: str, stack: Stack, parts: list[Stack]) -> Stack:
    """Return the part of a stack in which every row has a share, such as an encoder."""
    for part in parts:
        if len(part) == len(stack):
            return part
    raise AggregationError(
        f"{aggregator} compares gradients on parameters that all of {', '.join(stack.names)} share, and "
        "there are none: give them a common encoder, or choose an aggregator that needs losses only"
    )


def combine_parts(stack: Stack, parts: list[Stack], weights: Tensor) -> Combined:
    """Weighted sum of whole rows, part by part: the same as `stack.combine`, from what is known already.

    Args:
        stack: the whole.
        parts: its owner sets.
        weights: of the rows of the whole, [m].
    """
    row = {name: i for i, name in enumerate(stack.names)}
    return merge([part.combine(weights[[row[name] for name in part.names]]) for part in parts])


def merge(combined: list[Combined]) -> Combined:
    """Put combined blocks side by side; a plain vector, of which there is only one, stays what it is."""
    if isinstance(combined[0], torch.Tensor):
        return combined[0]
    blocks: dict[str, Mapping[str, Tensor]] = {}
    for part in combined:
        assert not isinstance(part, torch.Tensor)  # of one stack, either all are blocks or none is
        blocks.update(part)
    return blocks
