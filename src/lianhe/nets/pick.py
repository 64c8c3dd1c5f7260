"""One part of a representation that has several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lianhe.core.errors import SpecError


class Pick(nn.Module):
    """A head's part of a representation, and what the head does with it: z ↦ body(z[key]).

    Encoders that give a mapping or a tuple (`TextEncoder`, `Pyramid`, `Stages`, `Adapters`) are read by it.
    A head that reads other tasks passes their predictions on: body(z[key], *others).

    Args:
        key: of a mapping, or position in a tuple or list; negative ones count from the end.
        body: what comes after; None gives the part as it is.

    Raises:
        SpecError: when called, if the representation has no such part.

    Example:
        >>> import torch
        >>> z = {"tokens": torch.zeros(2, 7, 4), "pooled": torch.zeros(2, 4)}
        >>> Pick("pooled", nn.Linear(4, 3))(z).shape
        torch.Size([2, 3])
    """

    def __init__(self, key: str | int, body: nn.Module | None = None) -> None:
        super().__init__()
        self.key, self.body = key, body

    def forward(self, z: Any, *others: Any) -> Any:
        """The part, or what the body makes of it."""
        part = _part(z, self.key)
        return part if self.body is None else self.body(part, *others)

    def extra_repr(self) -> str:
        """Show the key."""
        return repr(self.key)


def _part(z: Any, key: str | int) -> Any:
    if isinstance(z, Mapping):
        if key in z:
            return z[key]
        has = f"only {sorted(map(str, z))}"
    elif isinstance(z, (tuple, list)):
        if isinstance(key, int) and -len(z) <= key < len(z):
            return z[key]
        has = f"{len(z)} parts, from 0"
    else:
        has = f"none: it is a {type(z).__name__}"
    raise SpecError(f"Pick({key!r}): the representation has no such part ({has})")
