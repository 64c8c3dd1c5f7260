"""Standardised inputs without a missing value, the same at every site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets._views import views
from lianhe.datasets.fitted import Fitted, Scale
from lianhe.datasets.moments import Moments, add_up


@dataclass(frozen=True)
class Standardize:
    """Bring every column to mean 0 and standard deviation 1, put 0 where a value is missing, and say so.

    Mean and standard deviation are over the observed entries of all the tensors given, and come from sums
    that add: sites need only give their `measure`, and `finish` of these equals `fit` of the pooled rows. A
    constant column is only centred. Fit on training rows only.

    Args:
        indicators: append a column, 1 where the value is missing and else 0, for every column with a missing
            value in any of the tensors given; so all sites get the same columns, whatever is missing at each.

    Example:
        >>> north, south = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, float("nan")]])
        >>> prepare = Standardize().fit(north, south)
        >>> prepare(south).tolist()
        [[1.0, 0.0, 1.0]]
        >>> one = Standardize()
        >>> again = one.finish(one.measure(north), one.measure(south))
        >>> bool((again(north) == prepare(north)).all())
        True
    """

    indicators: bool = True

    def fit(self, *xs: Tensor | Mapping[str, Tensor]) -> Fitted:
        """Return the function that prepares x.

        Args:
            xs: training inputs, one for each site: all floating [n_i, d], or all views of that kind by name.

        Raises:
            DataError: if none is given, or one has other columns or views than the first, or inf.
        """
        return self.finish(*(self.measure(x) for x in xs))

    def measure(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Moments]:
        """Return the moments by view (a lone tensor is the view ""): all that a site has to give."""
        return {view: Moments.of(columns) for view, columns in views(x).items()}

    def finish(self, *measured: Mapping[str, Moments]) -> Fitted:
        """Return the function that prepares x, from the moments of one or more sites."""
        if not measured:
            raise DataError("xs is empty: fit on at least one tensor")
        different = [list(site) for site in measured if site.keys() != measured[0].keys()]
        if different:
            raise DataError(f"xs has the views {list(measured[0])} and {different[0]}: give the same to all")
        sums = {view: add_up([site[view] for site in measured]) for view in measured[0]}
        return Fitted({view: self._scale(moments) for view, moments in sums.items()})

    def _scale(self, moments: Moments) -> Scale:
        marked = moments.missing if self.indicators else torch.zeros_like(moments.missing)
        return Scale(moments.mean, moments.std, tuple(marked.nonzero()[:, 0].tolist()))
