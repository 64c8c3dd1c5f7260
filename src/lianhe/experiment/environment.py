"""With what a run was made."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch


def environment() -> dict[str, str]:
    """Versions of what results depend on.

    Example:
        >>> sorted(environment())
        ['lianhe', 'python', 'torch']
    """
    return {"lianhe": _version(), "torch": torch.__version__, "python": platform.python_version()}


def _version() -> str:
    try:
        return version("lianhe")
    except PackageNotFoundError:
        return "not installed"
