"""Conflicts are looked for at a price that does not grow with the rows, and only those found are mended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_products, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import nonnegative_qp


class Certified(Weighting):
    """Mean of the rows with the least correction such that no row gets worse, without the Gramian.

    w = u + λ, where λ minimises ½ λᵀGλ + λᵀr over λ >= 0 and r = G u: the same direction as `DualProj`. By an
    active set that asks only for what it touches. r is one product; where no entry of it is negative, Jᵀu
    worsens no row, and is the result. Otherwise the row with the most negative entry joins the active set,
    its column of G is asked for as the product with e_j, the small problem is solved, and r + Gλ is looked at
    again. So a step without conflict costs one product, and every other as many more as there are rows that
    have to be defended: not as many as there are rows.

    What counts as negative: a product with row i carries a rounding error of about
    ε n_i (||Jᵀu|| + Σ λ_j n_j). Here n_i = ||g_i|| is not known before column i is, but it is bounded from
    below by what is known, |r_i| / ||Jᵀu|| and |G_ij| / n_j (Cauchy and Schwarz). A negative entry is excused
    only if it is within the tolerance even for that bound. So no conflict above rounding is passed over, and
    a row that only seems to be in conflict costs a column, which then settles it.

    Args:
        preference: u, by row name, or in the order of the rows, >= 0; 1/m each if None.
        tolerance: ε, relative error of a product; 1e-6 suits float32, and 1e-2 products under bfloat16.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a product is not finite.

    Example:
        >>> certified = Certified()
        >>> certified(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])).round(decimals=4).tolist()
        [0.5556, 1.1111, 1.1111]
        >>> certified.findings()
        ('certified 1 step: 100 % needed surgery, 1.00 columns a step on average, at most 1, most for 0',)

    Source:
        The problem is that of D. Lopez-Paz and M. Ranzato, "Gradient episodic memory for continual learning",
        NIPS 2017. Columns are generated where they are violated, as in R. Gomory's and J. Kelley's
        cutting-plane methods, 1958 and 1960.
    """

    needs: ClassVar[Needs] = "products"

    def __init__(self, preference: PerRow | None = None, tolerance: float = 1e-6) -> None:
        self.preference = preference_of("Certified", preference)
        self.tolerance = number("Certified: tolerance", tolerance, 0, 1, hint="1e-6 suits float32")
        self._counts: dict[str, _Counts] = {}

    def weigh(self, stack: Stack) -> Tensor:
        wanted = torch.tensor(preferred("Certified", self.preference, stack), dtype=torch.float64)
        known = _Known(finite_products("Certified", stack, wanted), wanted)
        while (worst := known.worst(self.tolerance)) is not None:
            one = torch.zeros_like(wanted)
            one[worst] = 1
            known = known.with_column(worst, finite_products("Certified", stack, one))
        so_far = self._counts.get(stack.key, _Counts())
        self._counts[stack.key] = so_far.after(stack.names, known.asked, bool((known.correction > 0).any()))
        weights = wanted.clone()
        weights[list(known.asked)] += known.correction
        return weights

    def findings(self) -> tuple[str, ...]:
        """How often there was conflict; of each set of blocks, where rounds bring several."""
        several = len(self._counts) > 1
        return tuple(counts.sentence(f" of {of}" if several else "") for of, counts in self._counts.items())

    def reset(self) -> None:
        self._counts = {}

    def state_dict(self) -> Mapping[str, Any]:
        return {key: counts.state() for key, counts in self._counts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts = {key: _Counts(**{**of, "rows": dict(of["rows"])}) for key, of in state.items()}


@dataclass(frozen=True)
class _Known:
    """What is known of the Gramian, and the correction that follows from it.

    Args:
        products: r = G u, [m].
        wanted: u, [m].
        asked: the rows whose columns were asked for, k of them.
        columns: these columns, [k, m].
        correction: λ of these rows, [k].
    """

    products: Tensor
    wanted: Tensor
    asked: tuple[int, ...] = ()
    columns: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    correction: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def worst(self, tolerance: float) -> int | None:
        """The row that the direction worsens most, of those that are not defended yet."""
        gains = self.products + self.correction @ self.columns if self.asked else self.products
        if float(gains.min()) >= 0:
            return None
        excess = gains + tolerance * self._least_lengths() * self._size()
        excess[list(self.asked)] = 0  # the small problem has seen to these
        j = int(excess.argmin())
        return j if float(excess[j]) < 0 else None

    def with_column(self, j: int, column: Tensor) -> _Known:
        """Learn one column, and solve the small problem again."""
        asked, columns = (*self.asked, j), torch.cat([self.columns.view(-1, len(column)), column[None]])
        active = list(asked)
        square = columns[:, active]
        correction = nonnegative_qp((square + square.T) / 2, self.products[None, active])[0]
        return replace(self, asked=asked, columns=columns, correction=correction)

    def _size(self) -> float:
        """||Jᵀu|| + Σ λ_j n_j: the lengths that the direction is added up from."""
        return self._length() + float(self.correction @ self._lengths())

    def _length(self) -> float:
        return math.sqrt(max(float(self.wanted @ self.products), 0.0))

    def _lengths(self) -> Tensor:
        """Lengths of the rows whose columns are known, [k]."""
        own = [float(column[j]) for j, column in zip(self.asked, self.columns, strict=True)]
        return torch.tensor(own, dtype=torch.float64).clamp(min=0).sqrt()

    def _least_lengths(self) -> Tensor:
        """What all rows' lengths are at least, [m]."""
        length = self._length()
        least = self.products.abs() / length if length > 0 else torch.zeros_like(self.products)
        for own, column in zip(self._lengths().tolist(), self.columns, strict=True):
            least = torch.maximum(least, column.abs() / own) if own > 0 else least
        return least


@dataclass(frozen=True)
class _Counts:
    """How many steps there were, how many of them needed surgery, and how many columns they asked for.

    Args:
        steps: steps so far.
        surgeries: those that had a correction.
        columns: columns in all.
        most: columns in the step that asked for most.
        rows: by row name, the steps it was in, and those in which its column was asked for.
    """

    steps: int = 0
    surgeries: int = 0
    columns: int = 0
    most: int = 0
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def after(self, names: tuple[str, ...], asked: tuple[int, ...], corrected: bool) -> _Counts:
        """One step more."""
        rows = dict(self.rows)
        for i, name in enumerate(names):
            there, defended = rows.get(name, (0, 0))
            rows[name] = (there + 1, defended + (i in asked))
        return _Counts(
            self.steps + 1,
            self.surgeries + corrected,
            self.columns + len(asked),
            max(self.most, len(asked)),
            rows,
        )

    def state(self) -> dict[str, Any]:
        return {**vars(self), "rows": dict(self.rows)}

    def sentence(self, of: str) -> str:
        steps = f"{self.steps} step" + ("s" if self.steps > 1 else "")
        text = (
            f"certified {steps}{of}: {self.surgeries / self.steps:.0%} needed surgery, "
            f"{self.columns / self.steps:.2f} columns a step on average, at most {self.most}"
        ).replace("%", " %")
        if not self.columns:
            return text
        return f"{text}, most for {max(self.rows, key=lambda name: self.rows[name][1])}"
