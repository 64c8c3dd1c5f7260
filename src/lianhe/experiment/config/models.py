"""The models that a specification file describes, as functions that make them under the seed of a fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lianhe.core.errors import DataError, SpecError
from lianhe.core.streams import untouched_global_state
from lianhe.experiment.config.factories import Made
from lianhe.experiment.config.faults import wrong
from lianhe.experiment.config.tables import Encoder, Network
from lianhe.nets import MLP

MakeModel = Callable[[], nn.Module]


def make_encoder(table: Encoder | None, x: Tensor) -> tuple[MakeModel | None, int]:
    """What makes the encoder, and the width of what it gives.

    Args:
        table: [encoder], if there is one.
        x: a few rows as they reach the encoder, [n, …].

    Raises:
        FaultsError: if a factory fails, or its model refuses the rows, or gives no vector for each.
    """
    if table is None:
        return None, _columns(x, "heads")
    if table.factory is None:
        widths = table.hidden or []
        return partial(MLP, _columns(x, "hidden"), widths, dropout=table.dropout), widths[-1]
    make = Made(table.factory, {"inputs": _inputs(x)})
    try:
        return make, _width(make, x)
    except SpecError as error:
        raise wrong(("encoder", "factory"), str(error)) from error


def make_network(table: Network, inputs: Tensor | int, outputs: int) -> MakeModel:
    """What makes a head, or the model of a view: linear, unless the table says otherwise."""
    if table.factory is not None:
        sizes = inputs if isinstance(inputs, int) else _inputs(inputs)
        return Made(table.factory, {"inputs": sizes, "outputs": outputs})
    width = inputs if isinstance(inputs, int) else _columns(inputs, "hidden")
    if not table.hidden:
        return partial(nn.Linear, width, outputs)
    return partial(MLP, width, table.hidden, outputs, table.dropout)


def _inputs(x: Tensor) -> int | list[int]:
    """What a factory is told: the number of columns, or the shape of a row that is no vector."""
    return x.shape[1] if x.ndim == 2 else list(x.shape[1:])


def _columns(x: Tensor, reader: str) -> int:
    if x.ndim != 2:
        shape = list(x.shape[1:])
        raise DataError(f"rows of shape {shape} are no vectors, which {reader} would need: give a factory")
    return int(x.shape[1])


@torch.no_grad()
def _width(make: Made, x: Tensor) -> int:
    with untouched_global_state():
        encoder = make().eval()
        try:
            z = encoder(x[:2])
        except Exception as error:
            raise SpecError(f"{make} refuses rows of shape {list(x.shape[1:])}: {error}") from error
    if not isinstance(z, Tensor) or z.ndim != 2:
        shape = f"shape {list(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise SpecError(f"{make} gives {shape} for two rows: an encoder gives vectors, [2, width]")
    return int(z.shape[1])
