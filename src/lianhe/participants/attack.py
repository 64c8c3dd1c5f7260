"""The attack: inputs of a round's batch, moved once, by the joint loss of the tasks present."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from lianhe.core.adversary import Adversary
from lianhe.core.contribution import Request
from lianhe.core.errors import SpecError
from lianhe.participants.data import Batch, Feed, Inputs, input_tensors, map_inputs


class Encodes(Protocol):
    """What an attack asks of the trunk."""

    def encode(self, x: Inputs, feed: str, request: Request) -> Any:
        """Representation of inputs."""


class Attacked(Protocol):
    """What an attack asks of a task."""

    name: str
    task: Any

    def loss_on(self, z: Any, batch: Batch, request: Request) -> Tensor:
        """Loss on a batch, from its representation."""


class Attack:
    """An adversary bound to the tasks that read one feed.

    The joint loss is the weighted mean of the losses of those tasks that contribute to the round and have a
    label in the batch. Dropout is that of the round's own forward pass. Running statistics stay untouched,
    since losses are all that is asked for.

    Args:
        adversary: what moves the inputs.
        trunk: the encoder at work.
        tasks: those that read the feed.
        cohort: names of the participants of a round.
        request: of a round, to ask for losses.
    """

    def __init__(
        self,
        adversary: Adversary,
        trunk: Encodes,
        tasks: Sequence[Attacked],
        cohort: Callable[[int], Collection[str]],
        request: Callable[[int], Request],
    ) -> None:
        self._adversary, self._trunk, self._tasks = adversary, trunk, tasks
        self._cohort, self._request = cohort, request

    @torch.enable_grad()
    def __call__(self, feed: Feed, round_: int, batch: Batch) -> Batch:
        """The batch with its inputs moved; labels stay."""
        cohort = self._cohort(round_)
        present = [task for task in self._tasks if task.name in cohort and batch.labelled[task.name]]
        if not present:
            return batch
        request = replace(self._request(round_), ask="losses")
        weights = [task.task.weight for task in present]

        def loss(inputs: Sequence[Tensor]) -> Tensor:
            z = self._trunk.encode(_with(batch.x, inputs), feed.name, request)
            losses = torch.stack([task.loss_on(z, batch, request) for task in present])
            mean: Tensor = (losses * losses.new_tensor(weights)).sum() / sum(weights)
            return mean

        generator = replace(request.stream, participant=feed.name, step="adversarial").generator()
        moved = self._adversary.perturb(input_tensors(batch.x), loss, generator)
        return replace(batch, x=_with(batch.x, [x.detach() for x in moved]))


def require_attackable(x: Inputs, adversary: Adversary) -> None:
    """Raise SpecError if an input cannot be moved a little."""
    for tensor in input_tensors(x):
        if not tensor.is_floating_point():
            raise SpecError(
                f"adversarial={adversary!r} moves inputs by small amounts, but there are inputs of "
                f"{tensor.dtype}, such as numbers of words: leave it out, or give embeddings as inputs"
            )


def _with(x: Inputs, tensors: Iterable[Tensor]) -> Inputs:
    """Inputs of the same structure, of other tensors."""
    others: Iterator[Any] = iter(tensors)
    return map_inputs(lambda _: next(others), x)
