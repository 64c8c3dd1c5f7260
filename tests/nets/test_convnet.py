"""Convolutional stages and the feature pyramid."""

import pytest
import torch
from tests.toys import CPU, F64, Spec, assert_close, seeded, weights_of
from torch import nn
from torch.nn import functional

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.streams import Stream
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import ConvNet, Pick, Pyramid
from lianhe.participants import Task
from lianhe.participants.model import fresh


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_shapes(norm) -> None:
    net = ConvNet(3, [4, 6, 10], depth=2, norm=norm)
    assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 10)
    maps = ConvNet(3, [4, 6, 10], norm=norm, pool=False)
    assert len(maps) == 3
    assert maps(torch.zeros(2, 3, 28, 28)).shape == (2, 10, 7, 7)


def test_a_stage_is_convolution_norm_and_relu() -> None:
    net = seeded(lambda: ConvNet(1, [2, 3], norm="none"), 0)
    x = torch.randn(2, 1, 6, 6, dtype=F64)
    first, second = net[0][0], net[1][1]
    z = functional.conv2d(x, first.weight, first.bias, padding=1).clamp_min(0)
    z = functional.max_pool2d(z, 2)
    z = functional.conv2d(z, second.weight, second.bias, padding=1).clamp_min(0)
    torch.testing.assert_close(net(x), z.mean((2, 3)))


def test_a_pyramid_adds_deep_maps_to_fine_ones() -> None:
    pyramid = seeded(lambda: Pyramid(ConvNet(1, [2, 3, 5], norm="none", pool=False), [2, 3, 5], 4), 1)
    x = torch.randn(2, 1, 9, 9, dtype=F64)  # odd: 9, 4, 2 pixels
    a = pyramid.stages[0](x)
    b = pyramid.stages[1](a)
    c = pyramid.stages[2](b)
    up = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3])  # nearest of 4 for 9
    at_b = pyramid.lateral[1](b) + pyramid.lateral[2](c).repeat_interleave(2, 2).repeat_interleave(2, 3)
    at_a = pyramid.lateral[0](a) + at_b[:, :, up][:, :, :, up]
    z = pyramid(x)
    torch.testing.assert_close(z["map"], pyramid.smooth(at_a))
    torch.testing.assert_close(z["pooled"], c.mean((2, 3)))


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(SpecError, match="depth=0"):
        ConvNet(1, [4], depth=0)
    with pytest.raises(SpecError, match="did you mean 'batch'"):
        ConvNet(1, [4], norm="batsh")
    with pytest.raises(SpecError, match="2 stages and 1 channels"):
        Pyramid(ConvNet(1, [4, 4], pool=False), [4])


def test_weights_can_be_drawn_again() -> None:
    pyramid = Pyramid(ConvNet(1, [2, 3], pool=False), [2, 3], 4)
    one, other = (fresh(pyramid, Stream(seed, 0, "encoder"), CPU, True) for seed in (0, 1))
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert not torch.equal(a, b) or name.endswith(("1.weight", "1.bias", "2.weight", "2.bias")), name


def test_classification_and_segmentation_in_one_fit() -> None:
    x = torch.randn(6, 1, 8, 8, dtype=F64)
    y = {"bright": (x.mean((1, 2, 3)) > 0).long(), "where": (x[:, 0] > 0.5).long()}
    encoder = seeded(lambda: Pyramid(ConvNet(1, [2, 3], pool=False), [2, 3], 4), 2)
    heads = {
        "bright": Pick("pooled", seeded(lambda: nn.Linear(3, 2), 3)),
        "where": Pick("map", seeded(lambda: nn.Conv2d(4, 2, 1), 4)),
    }
    spec = Spec([Task(n, h) for n, h in heads.items()], encoder=encoder, data=(x, y), rounds=4, batch_size=3)
    shared, loop = (fit(spec, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))
