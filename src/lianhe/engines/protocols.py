"""What SharedEngine asks of its participants: to take their place on a shared trunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from lianhe.core.contribution import Blocks, Request


class Batch(Protocol):
    """A round's samples, or a part of them."""

    @property
    def y(self) -> Mapping[str, Tensor]:
        """Labels by task."""

    @property
    def labelled(self) -> Mapping[str, int]:
        """How many labels are there, by task."""


class Feed(Protocol):
    """Gives the batches of tasks that read the same inputs."""

    name: str

    def batch(self, round_: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of a round, or the i-th of k parts of it."""


class Trunk(Protocol):
    """The encoder at work."""

    encoder: nn.Module
    parameters: Mapping[str, Tensor]

    def features(self, feed: Any, request: Request) -> Any:
        """Representation of a batch."""

    def precision(self) -> Any:
        """Context of mixed precision."""


class Described(Protocol):
    """The task as its user declared it."""

    @property
    def weight(self) -> float:
        """Weight among tasks."""

    @property
    def loss(self) -> Any:
        """A name, or a callable."""

    @property
    def reads(self) -> Any:
        """Other tasks whose predictions the head gets."""


@runtime_checkable
class SharedTask(Protocol):
    """A task on a shared trunk.

    Attributes:
        head: from representation to prediction.
        heads: blocks behind the representation that the loss reaches, with their trainable parameters.
        adapters: blocks inside the encoder that only this task's loss, or those of tasks that read it, reach.
    """

    name: str
    trunk: Trunk
    feed: Feed
    task: Described
    head: nn.Module
    heads: Blocks
    adapters: Blocks

    def labelled(self, request: Request) -> int:
        """How many labels the batch holds."""

    def counted(self, request: Request) -> int:
        """Over how many of the batch's labels, or samples, the loss is a mean."""

    def loss(self, z: Any, request: Request) -> Tensor:
        """Loss of the own head on a representation."""
