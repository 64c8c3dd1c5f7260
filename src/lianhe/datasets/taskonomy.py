"""Measured losses of task sets: a ground truth for deciding which tasks to train together."""

from __future__ import annotations

from typing import Literal

from lianhe.core.errors import UnknownNameError
from lianhe.datasets._files import read_rows

_EDITIONS = ("large_test", "test")


def load_taskonomy_results(
    edition: Literal["large_test", "test"] = "large_test",
) -> dict[frozenset[str], dict[str, float]]:
    """Return test losses of five Taskonomy tasks, for each of the 31 sets of them trained together.

    A set of one task is that task alone, with the full budget. The losses of different tasks have different
    units: divide by those of training alone before they are averaged.

    Args:
        edition: "large_test", of larger networks, or "test".

    Raises:
        UnknownNameError: if there is no such edition.

    Source: Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning?, ICML 2020; MIT.

    Example:
        >>> losses = load_taskonomy_results()
        >>> losses[frozenset({"normals", "keypoints"})]
        {'normals': 0.08941, 'keypoints': 0.04209}
    """
    if edition not in _EDITIONS:
        raise UnknownNameError("edition", edition, _EDITIONS)
    rows = read_rows(f"taskonomy_results_{edition}.csv")
    found = [{task: float(loss) for task, loss in row.items() if loss} for row in rows]
    return {frozenset(losses): losses for losses in found}
