"""Sites that differ by chance only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lianhe.core.streams import Stream
from lianhe.datasets.dataset import Dataset
from lianhe.datasets.partition.partitioner import check_enough, site_names


@dataclass(frozen=True)
class IID:
    """Deal the shuffled rows out to sites of equal size, to within one row.

    Args:
        sites: how many (then named `site0`, `site1`, ...), or their names.

    Raises:
        DataError: if there is no site or a name comes twice; when called, if there are fewer rows than sites.

    Example:
        >>> {site: len(rows) for site, rows in IID(["north", "south"])(torch.rand(5, 2), seed=0).items()}
        {'north': 3, 'south': 2}
    """

    sites: int | Sequence[str]

    def __post_init__(self) -> None:
        """Check the names."""
        site_names(self.sites)

    def __call__(self, data: Dataset | Tensor, seed: int) -> dict[str, Tensor]:
        """Return the row numbers by site; see `Partitioner`."""
        names = site_names(self.sites)
        check_enough(len(data), names, 1)
        order = torch.randperm(len(data), generator=Stream(seed, step="iid").generator())
        parts = order.tensor_split(len(names))
        return {name: rows.sort().values for name, rows in zip(names, parts, strict=True)}
