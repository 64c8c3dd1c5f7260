"""Inputs as augmentations see them: a tensor, or a mapping, tuple or list of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lianhe.core.checks import require_positive
from lianhe.core.errors import SpecError


def change(
    x: Any, fits: Callable[[Tensor], bool], how: Callable[[Tensor], Tensor], who: object, what: str
) -> Any:
    """Change the tensors of an input that fit, and leave the others as they are.

    Args:
        x: the input.
        fits: which tensors are meant.
        how: what becomes of them.
        who: the augmentation, for messages.
        what: the tensors it is for, for messages.

    Raises:
        SpecError: if no tensor fits.
    """
    tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
    if not any(fits(tensor) for tensor in tensors):
        found = ", ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
        raise SpecError(f"augment: {who!r} is for {what}, but the inputs are {found}")
    return tree_map_only(Tensor, lambda tensor: how(tensor) if fits(tensor) else tensor, x)


def is_number(tensor: Tensor) -> bool:
    """Floating point."""
    return tensor.is_floating_point()


def is_image(tensor: Tensor) -> bool:
    """Floating point [n, channels, height, width]."""
    return tensor.is_floating_point() and tensor.ndim == 4


def is_text(tensor: Tensor) -> bool:
    """Numbers of words, [n, length]."""
    return not tensor.is_floating_point() and tensor.ndim == 2


def require_rate(who: str, rate: float) -> None:
    """Raise SpecError if a probability is not between 0 and 1."""
    require_positive(f"rate of {who}", rate)
    if rate >= 1:
        raise SpecError(f"rate of {who}={rate!r}: must be less than 1")
