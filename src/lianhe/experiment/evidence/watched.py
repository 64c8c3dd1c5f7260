"""An aggregator that is looked over its shoulder: the same fit, and a record of where rows disagreed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lianhe.core.aggregator import Aggregator, Needs
from lianhe.core.checks import require_whole
from lianhe.core.contribution import Blocks
from lianhe.core.errors import SpecError
from lianhe.core.stack import Combined, Stack

#: what a wrapper must say as the aggregator inside says it, for the fit to be the same
_FACES = ("needs", "linear", "whole", "scalarises", "samples", "reviews")


@dataclass(frozen=True, eq=False)
class Look:
    """The rows of one stack at one round, by their inner products.

    Args:
        round: its number.
        names: of the T rows.
        losses: [T], before the step; NaN where there are none.
        gramians: by layer, the rows' inner products there, [T, T], float64; their sum is the whole Gramian.
        products: by layer, inner products of each row with the update, [T], float64.
        update: squared length of the update.
    """

    round: int
    names: tuple[str, ...]
    losses: Tensor
    gramians: Mapping[str, Tensor]
    products: Mapping[str, Tensor]
    update: float

    @property
    def gramian(self) -> Tensor:
        """Inner products of the whole rows, [T, T]."""
        return torch.stack(list(self.gramians.values())).sum(0)

    @property
    def product(self) -> Tensor:
        """Inner products of the whole rows with the update, [T]."""
        return torch.stack(list(self.products.values())).sum(0)

    def state(self) -> dict[str, Any]:
        """As a checkpoint wants it."""
        names = {name: i for i, name in enumerate(self.names)}
        return {
            **vars(self),
            "names": names,
            "gramians": dict(self.gramians),
            "products": dict(self.products),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Look:
        """The inverse of `state`."""
        return cls(**{**state, "names": tuple(sorted(state["names"], key=state["names"].__getitem__))})


class Watched(Aggregator):
    """Another aggregator, unchanged, whose stacks are looked at every few rounds.

    The fit is the same, bit for bit, as without; `ConflictReport.of` tells what was seen. A look at a stack
    costs its rows, [T, P]: one backward pass for each task where the aggregator needs losses only.

    Args:
        aggregator: what reduces the stack; None for the weighted mean.
        every: rounds between looks.

    Raises:
        SpecError: if `every` is not a whole number of 1 or more, or the aggregator chooses pseudo-labels.

    Example:
        >>> from lianhe.aggregation import Sum
        >>> watched = Watched(Sum(), every=1)
        >>> watched(torch.tensor([[2.0, 0.0], [-1.0, 1.0]])).tolist()
        [1.0, 1.0]
        >>> watched.looks[0].product.tolist()
        [2.0, 0.0]
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(self, aggregator: Aggregator | None = None, every: int = 10) -> None:
        require_whole("every of Watched", every, 1)
        if aggregator is not None and aggregator.whole:
            raise SpecError(
                f"Watched({aggregator!r}): it chooses pseudo-labels, which have no inner products"
            )
        self.aggregator, self.every = aggregator, every
        self.looks: list[Look] = []
        self._calls = 0
        faces = {"linear": True} if aggregator is None else {f: getattr(aggregator, f) for f in _FACES}
        for face, value in faces.items():
            setattr(self, face, value)

    def aggregate(self, stack: Stack) -> Combined:
        """What the aggregator inside gives; looked at afterwards, so that nothing can depend on it."""
        combined = stack.average() if self.aggregator is None else self.aggregator.aggregate(stack)
        round_ = self._calls if stack.stream is None else stack.stream.round
        self._calls += 1
        if round_ % self.every == 0:
            self.looks.extend(_looks(round_, stack, combined))
        return combined

    def review(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        if self.aggregator is not None:
            self.aggregator.review(before, after)

    def findings(self) -> tuple[str, ...]:
        return () if self.aggregator is None else self.aggregator.findings()

    def reset(self) -> None:
        self.looks, self._calls = [], 0
        if self.aggregator is not None:
            self.aggregator.reset()

    def state_dict(self) -> Mapping[str, Any]:
        inside = {} if self.aggregator is None else self.aggregator.state_dict()
        looks = {str(i): look.state() for i, look in enumerate(self.looks)}
        return {"aggregator": inside, "calls": self._calls, "looks": looks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.aggregator is not None:
            self.aggregator.load_state_dict(state["aggregator"])
        self._calls = int(state["calls"])
        self.looks = [Look.of_state(state["looks"][str(i)]) for i in range(len(state["looks"]))]

    def __repr__(self) -> str:
        return f"Watched({self.aggregator!r}, every={self.every})"


def _looks(round_: int, stack: Stack, combined: Combined) -> Iterator[Look]:
    """One look at each owner set with several rows; running statistics are no gradients."""
    for group in stack.groups():
        if len(group) > 1 and not group.statistics:
            rows = [_layers(group.pack(row)) for row in group.values.detach()]
            update = _layers(combined)
            yield Look(
                round_,
                group.names,
                group.losses.detach().to("cpu", torch.float64),
                {layer: _products(rows, layer, rows) for layer in rows[0]},
                {layer: _products(rows, layer, [update]).flatten() for layer in rows[0]},
                sum(float(update[layer].square().sum()) for layer in rows[0]),
            )


def _products(rows: list[dict[str, Tensor]], layer: str, others: list[dict[str, Tensor]]) -> Tensor:
    left, right = (torch.stack([row[layer] for row in side]) for side in (rows, others))
    return left @ right.T


def _layers(combined: Combined) -> dict[str, Tensor]:
    """A row by layer: the tensors of each module in one vector, float64 on the CPU."""
    if isinstance(combined, Tensor):
        return {"": combined.detach().to("cpu", torch.float64)}
    return {
        layer: torch.cat([tensor.reshape(-1) for tensor in tensors])
        for layer, tensors in _by_layer(combined).items()
    }


def _by_layer(blocks: Blocks) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for block, tensors in blocks.items():
        for name, tensor in tensors.items():
            layer = ".".join(filter(None, (block, name.rpartition(".")[0])))
            found.setdefault(layer, []).append(tensor.detach().to("cpu", torch.float64))
    return found
