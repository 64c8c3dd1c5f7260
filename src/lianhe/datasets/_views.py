"""One tensor or several views of the same rows, treated alike."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def views(x: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return x by view; a lone tensor is the view ""."""
    return {"": x} if isinstance(x, Tensor) else x
