"""Attention over a shared backbone, against the recursion of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import IMAGES, TASKS, VECTORS, built, images, make_stages
from tests.toys import seeded, table
from torch import Tensor, nn
from torch.nn import functional

from lianhe.core.errors import SpecError
from lianhe.nets import MTAN, ConvNet, stages_of


def _block(layer: nn.Module, x: Tensor, activation) -> Tensor:
    """Linear or convolution, then the normalisation of this very batch, then an activation."""
    weights, norm, _ = layer
    if x.ndim == 4:
        x = functional.conv2d(x, weights.weight, weights.bias, padding=weights.weight.shape[-1] // 2)
    else:
        x = x @ weights.weight.T + weights.bias
    over = [0, *range(2, x.ndim)]
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, variance = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    x = (x - mean) / (variance + norm.eps).sqrt()
    return activation(x * norm.weight.view(shape) + norm.bias.view(shape))


def _expected(encoder: nn.Module, backbone: list[nn.Module], task: int, x: Tensor) -> Tensor:
    """a^s = h^s(g^s([u^s, f^s(â^{s-1})])), â^s = a^s ⊙ p^s, for one task alone."""
    seen = None
    for number, stage in enumerate(backbone):
        first, *rest = stages_of(stage)
        u = first(x)
        p = nn.Sequential(*rest)(u)
        read = u
        if seen is not None:
            carried = _block(encoder.carry[number - 1], seen, torch.relu)
            if x.ndim == 4:
                carried = functional.max_pool2d(carried, 2)
            read = torch.cat([u, carried], 1)
        g, h = encoder.masks[task][number]
        seen = _block(h, _block(g, read, torch.relu), torch.sigmoid) * p
        x = p
    return seen


def _backbone(encoder: nn.Module) -> list[nn.Module]:
    return [nn.Sequential(*stages_of(stage.first), *stage.rest) for stage in encoder.stages]


@pytest.mark.parametrize(
    ("sharing", "data"), [(VECTORS["mtan"], table(7)), (IMAGES["mtan"], images(4))], ids=["vectors", "images"]
)
def test_masks_equal_the_recursion(sharing, data) -> None:
    encoder, _ = built(sharing, wrap=lambda tower: tower)
    z = encoder(data[0])
    for number, task in enumerate(TASKS):
        expected = _expected(encoder, _backbone(encoder), number, data[0])
        torch.testing.assert_close(z[task], expected)


def test_the_first_layer_of_a_stage_and_the_whole_of_it_are_told_apart() -> None:
    encoder = IMAGES["mtan"].encoder()
    weights = [[type(layer).__name__ for layer in stage.first] for stage in encoder.stages]
    assert weights == [["Conv2d", "BatchNorm2d", "ReLU"], ["MaxPool2d", "Conv2d", "BatchNorm2d", "ReLU"]]
    assert all(len(list(stage.rest.modules())) > 1 for stage in encoder.stages)
    assert all(not list(stage.rest) for stage in VECTORS["mtan"].encoder().stages)


def test_open_masks_are_hard_sharing() -> None:
    sharing = MTAN(make_stages, TASKS, features=[6, 5], norm="none")
    encoder = seeded(sharing.encoder, 0)
    with torch.no_grad():
        for masks in encoder.masks:
            for g, h in masks:
                h[0].weight.zero_()
                h[0].bias.fill_(1e3)
                assert g
    x, _ = table(5)
    expected = encoder.stages[1](encoder.stages[0](x)[1])[1]
    for z in encoder(x).values():
        torch.testing.assert_close(z, expected)


def test_maps_of_odd_sizes_are_pooled_to_fit() -> None:
    sharing = MTAN(lambda: ConvNet(1, [3, 4, 5], pool=False), TASKS, features=[3, 4, 5], images=True)
    z = sharing.encoder()(torch.randn(2, 1, 27, 21))
    assert {tuple(part.shape) for part in z.values()} == {(2, 5, 6, 5)}


def test_only_masks_are_private() -> None:
    encoder = VECTORS["mtan"].encoder()
    private = {n for parameters in encoder.private().values() for n in parameters}
    assert private == {n for n, _ in encoder.named_parameters() if n.startswith("masks.")}
    sizes = [sum(p.numel() for p in parameters.values()) for parameters in encoder.private().values()]
    # g and h with biases and normalisation: 6 → 6, 6 → 6; then 10 → 5, 5 → 5.
    assert sizes == [(36 + 18) + (36 + 18) + (50 + 15) + (25 + 15)] * 3


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="1 features for 2 stages"):
        MTAN(make_stages, TASKS, features=[6]).encoder()
    with pytest.raises(SpecError, match="features=0"):
        MTAN(make_stages, TASKS, features=[6, 0])
    with pytest.raises(SpecError, match="norm of MTAN"):
        MTAN(make_stages, TASKS, features=[6, 5], norm="layer")
