"""Encoders and heads that share as [encoder] says, and heads that read other tasks as [[tasks]] says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from lianhe.core.errors import LianheError
from lianhe.experiment.config.architectures import SHARINGS, Plan
from lianhe.experiment.config.factories import Made
from lianhe.experiment.config.faults import wrong
from lianhe.experiment.config.models import MakeModel, make_network
from lianhe.experiment.config.named import make
from lianhe.experiment.config.tables import Encoder, TaskTable
from lianhe.nets import ESMM, MLP, Cascade, Sharing

#: how a prediction is read, by the loss that it is made for
_READINGS: Mapping[str, str] = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "mse": "none"}


def make_sharing(
    table: Encoder | None, expert: MakeModel | None, x: Tensor, width: int, tasks: Sequence[str]
) -> Sharing | None:
    """The architecture that [encoder] asks for, known to make an encoder and heads; None for a plain encoder.

    Args:
        table: [encoder], if there is one.
        expert: what it makes without any sharing.
        x: a few rows as they reach the encoder, [n, …].
        width: of what an expert gives.
        tasks: names of all tasks.

    Raises:
        FaultsError: if its options do not fit.
    """
    if table is None or table.sharing is None or expert is None:
        return None
    plan = Plan(expert, partial(_reading, table), x[0].numel(), width, table.hidden, tasks)
    try:
        sharing: Sharing = make("sharing", SHARINGS, table.sharing)(plan)
        sharing.encoder()
        sharing.head(tasks[0])
    except (LianheError, TypeError, ValueError) as error:
        raise wrong(("encoder", "sharing"), str(error)) from error
    return sharing


def make_head(
    table: TaskTable, width: int | Tensor, outputs: Mapping[str, int], losses: Mapping[str, str]
) -> MakeModel:
    """What makes the head of a task, on a representation and on the predictions that it reads.

    Args:
        table: of the task.
        width: of the representation.
        outputs: numbers that each task predicts, by task.
        losses: by task.
    """
    if not table.reads:
        return make_network(table, width, outputs[table.name])
    size = width if isinstance(width, int) else width.shape[1]
    if table.reader == "esmm":
        return partial(_esmm, make_network(table, size, outputs[table.name]))
    body = make_network(table, size + sum(outputs[task] for task in table.reads), outputs[table.name])
    return partial(_cascade, body, tuple(_READINGS[losses[task]] for task in table.reads))


def shared_head(sharing: Sharing, task: str, head: MakeModel) -> MakeModel:
    """What makes the head of a task in an architecture."""
    return partial(sharing.head, task, head)


def _reading(table: Encoder, inputs: int) -> nn.Module:
    if table.factory is not None:
        return Made(table.factory, {"inputs": inputs})()
    return MLP(inputs, table.hidden or [], dropout=table.dropout)


def _esmm(tower: Callable[[], nn.Module]) -> nn.Module:
    return ESMM(tower())


def _cascade(body: Callable[[], nn.Module], reading: tuple[str, ...]) -> nn.Module:
    return Cascade(body(), reading)
