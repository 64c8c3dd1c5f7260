"""A small convolutional encoder, and a feature pyramid on top of its stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError, UnknownNameError

#: names of normalisations
NORMS = ("batch", "group", "none")


class ConvNet(nn.Sequential):
    """Stages of 3 x 3 convolutions, normalisation and ReLU; each stage after the first halves the image.

    It is a sequence of its stages, so that `CrossStitch`, `MTAN`, `Stages` and `Pyramid` can work between
    them. With `pool` the last part is the mean over pixels.

    Args:
        inputs: channels of the image; images are [n, inputs, height, width].
        channels: of each stage.
        depth: convolutions a stage.
        norm: "batch", "group" (8 groups or fewer; every image for itself), or "none".
        pool: give [n, channels[-1]]; else the map of the last stage, [n, channels[-1], h, w].

    Raises:
        SpecError: if a number is not positive, or the normalisation has no such name.

    Example:
        >>> import torch
        >>> ConvNet(1, [8, 16])(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 16])
        >>> ConvNet(1, [8, 16], pool=False)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 16, 14, 14])
    """

    def __init__(
        self,
        inputs: int = 1,
        channels: Sequence[int] = (32, 64),
        depth: int = 1,
        norm: str = "batch",
        pool: bool = True,
    ) -> None:
        for name, value in (("inputs", inputs), ("depth", depth), *(("channels", c) for c in channels)):
            require_whole(f"ConvNet: {name}", value, 1)
        if norm not in NORMS:
            raise UnknownNameError("norm of ConvNet", str(norm), NORMS)
        self.channels = tuple(channels)
        stages = [
            _stage(fan_in, fan_out, depth, norm, halve=i > 0)
            for i, (fan_in, fan_out) in enumerate(itertools.pairwise([inputs, *channels]))
        ]
        super().__init__(*stages, *([MeanPixel()] if pool else []))


class MeanPixel(nn.Module):
    """Mean over pixels: [n, C, h, w] to [n, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        return x.mean((2, 3))


class Pyramid(nn.Module):
    """A feature pyramid: what deep stages know, laid over the fine maps of early ones.

    p_S = lateral_S(z_S);  p_s = lateral_s(z_s) + upsampled(p_{s+1});  map = smooth(p_1), with z_s the output
    of stage s, a 1 x 1 convolution as lateral, a 3 x 3 one as smooth.

    The result is a mapping: "map" [n, features, H, W], at the resolution of the first stage, for segmentation
    and the like (`Pick("map", nn.Conv2d(features, classes, 1))`), and "pooled" [n, channels[-1]], for labels
    of the whole image.

    Args:
        stages: modules that give maps, each from the one before: `ConvNet(..., pool=False)`.
        channels: of each stage's map.
        features: channels of the pyramid's map.

    Raises:
        SpecError: if there are not as many channels as stages.

    Example:
        >>> import torch
        >>> encoder = Pyramid(ConvNet(1, [8, 16], pool=False), [8, 16], features=4)
        >>> {name: tuple(z.shape) for name, z in encoder(torch.zeros(2, 1, 28, 28)).items()}
        {'map': (2, 4, 28, 28), 'pooled': (2, 16)}

    Source:
        T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
    """

    def __init__(
        self, stages: Sequence[nn.Module] | nn.Sequential, channels: Sequence[int], features: int = 32
    ) -> None:
        super().__init__()
        if len(stages) != len(channels) or not channels:
            raise SpecError(f"Pyramid: {len(stages)} stages and {len(channels)} channels: give one for each")
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(c, features, 1) for c in channels)
        self.smooth = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The map and the pooled features."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        top = self.lateral[-1](maps[-1])
        for z, lateral in zip(reversed(maps[:-1]), reversed(self.lateral[:-1]), strict=True):
            top = lateral(z) + F.interpolate(top, size=z.shape[2:], mode="nearest")
        return {"map": self.smooth(top), "pooled": maps[-1].mean((2, 3))}


def _stage(inputs: int, outputs: int, depth: int, norm: str, halve: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if halve else []
    for i in range(depth):
        layers += [
            nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=norm == "none"),
            *_norm(norm, outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _norm(norm: str, channels: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "group":
        groups = max(g for g in range(1, 9) if channels % g == 0)
        return [nn.GroupNorm(groups, channels)]
    return []
