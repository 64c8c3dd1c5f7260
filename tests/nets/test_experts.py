"""Experts side by side, and what gates make of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lianhe.nets.experts import Experts, Gate, beside, mix


def test_outputs_are_stacked_in_order() -> None:
    experts = Experts(lambda: nn.Linear(4, 3), 2)
    x = torch.randn(5, 4)
    torch.testing.assert_close(experts(x)[:, 0], experts.experts[0](x))
    torch.testing.assert_close(experts(x)[:, 1], experts.experts[1](x))


@pytest.mark.parametrize("shape", [(5, 3, 2), (5, 3, 2, 4, 4), (5, 3)])
def test_mixtures_of_any_shape(shape) -> None:
    outputs, weights = torch.randn(shape), torch.rand(5, 3)
    expected = sum(weights[:, i].view(-1, *[1] * (len(shape) - 2)) * outputs[:, i] for i in range(3))
    torch.testing.assert_close(mix(weights, outputs), expected)
    torch.testing.assert_close(mix(weights[0], outputs), mix(weights[:1].expand(5, 3), outputs))


def test_groups_of_experts_side_by_side() -> None:
    a, b = ({"h": torch.full((2, n, 3), float(n))} for n in (1, 2))
    assert beside(a, b)["h"][0, :, 0].tolist() == [1, 2, 2]


def test_a_gate_flattens_images_and_its_weights_sum_to_one() -> None:
    gate = Gate(3, inputs=16)
    x = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(gate(x, torch.ones(5, 3, 2)), torch.ones(5, 2))
    weights = gate(x, torch.eye(3).expand(5, 3, 3))
    torch.testing.assert_close(weights, (x.flatten(1) @ gate.logits[1].weight.T).softmax(1))
