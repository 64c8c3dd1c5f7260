"""The interface of local training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from lianhe.core.streams import Stream
from lianhe.participants.data import Batch, Source

#: mean loss of a batch; None when it holds no label
BatchLoss: TypeAlias = Callable[[Batch], Tensor | None]

#: changes gradients in place, before each local step
Adjust: TypeAlias = Callable[[Sequence[Tensor]], None]


class LocalRule(ABC):
    """Interface: moves parameters by training on own data, for one round."""

    batch_size: int | None

    @abstractmethod
    def train(
        self,
        parameters: Sequence[Tensor],
        loss: BatchLoss,
        source: Source,
        stream: Stream,
        adjust: Adjust | None = None,
    ) -> Tensor:
        """Train in place.

        Args:
            parameters: leaves of the model; their values at the start are the joint's.
            loss: of one batch.
            source: own data.
            stream: key of this participant in this round; shuffles and dropout derive from it.
            adjust: called before each step with the parameters, whose `.grad` it may change.

        Returns:
            Mean loss over the local steps, a scalar on the device.
        """
