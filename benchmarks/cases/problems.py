"""The two models that steps are measured on, each with T linear heads."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

CLASSES = 10
LR = 1e-3


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def cnn() -> nn.Module:
    """A small residual network for images of 3 x 32 x 32; representation [n, 64]."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        Residual(32),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        Residual(64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def mlp(width: int = 512) -> nn.Module:
    """256 inputs, two hidden layers; representation [n, width]."""
    return nn.Sequential(nn.Linear(256, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


@dataclass
class Problem:
    """A model, its heads and one batch, the same for every engine.

    Args:
        net: "CNN" or "MLP".
        tasks: T.
    """

    net: str
    tasks: int
    x: Tensor = field(init=False)
    y: list[Tensor] = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        images = self.net == "CNN"
        self.x = torch.randn(64, 3, 32, 32) if images else torch.randn(256, 256)
        self.width = 64 if images else 512
        self.y = [torch.randint(CLASSES, (len(self.x),)) for _ in range(self.tasks)]

    def model(self) -> tuple[nn.Module, list[nn.Linear]]:
        """Encoder and heads, with the same first weights each time."""
        torch.manual_seed(1)
        encoder = cnn() if self.net == "CNN" else mlp()
        return encoder, [nn.Linear(self.width, CLASSES) for _ in range(self.tasks)]
