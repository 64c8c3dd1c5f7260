"""A head that reads the predictions of other tasks beside the representation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lianhe.core.errors import UnknownNameError

#: what a prediction is turned into before it is read
READINGS = ("softmax", "sigmoid", "none")


class Cascade(nn.Module):
    """Joins the representation with what other tasks predict: body([z, ρ(ŷ_1), ρ(ŷ_2), …]).

    For `Task(..., reads=(…))`, whose head is called with the predictions of the tasks that it reads.

    Args:
        body: from the joined features to the prediction. Features are joined along dimension 1.
        reading: ρ: "softmax" over dimension 1 (logits of classes), "sigmoid" (logits of events), or "none"
            (numbers, or logits as they are); one for all, or one for each task that is read.

    Raises:
        UnknownNameError: if there is no such reading.

    Example:
        >>> head = Cascade(nn.Linear(8 + 3, 2))
        >>> head(torch.zeros(5, 8), torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, body: nn.Module, reading: str | tuple[str, ...] = "softmax") -> None:
        super().__init__()
        self.body, self.reading = body, reading
        for name in [reading] if isinstance(reading, str) else reading:
            if name not in READINGS:
                raise UnknownNameError("reading of Cascade", str(name), READINGS)

    def forward(self, z: Tensor, *others: Tensor) -> Tensor:
        """Prediction of the task."""
        readings = [self.reading] * len(others) if isinstance(self.reading, str) else self.reading
        read = [_read(other, reading) for other, reading in zip(others, readings, strict=True)]
        prediction: Tensor = self.body(torch.cat([z, *read], 1))
        return prediction


def _read(prediction: Tensor, reading: str) -> Tensor:
    if prediction.ndim == 1:
        prediction = prediction[:, None]
    if reading == "softmax":
        return prediction.softmax(1)
    return prediction.sigmoid() if reading == "sigmoid" else prediction
