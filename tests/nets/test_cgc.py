"""Customised gate control, against the sums of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import TASKS, VECTORS, built
from tests.toys import table
from torch import nn

from lianhe.core.errors import SpecError
from lianhe.nets import CGC


def test_a_task_mixes_its_own_experts_and_the_shared_ones() -> None:
    encoder, heads = built(VECTORS["cgc"])
    x, _ = table(6)
    for task in TASKS:
        head = heads[task]
        experts = [*head.experts.experts, *encoder.experts.experts]
        assert len(experts) == 2 + 3
        (gate,) = head.gate.parameters()
        weights = (x @ gate.T).exp()
        weights = weights / weights.sum(1, keepdim=True)
        expected = sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(experts))
        torch.testing.assert_close(head(encoder(x)), head.tower(expected))


def test_experts_of_a_task_are_no_other_tasks() -> None:
    _, heads = built(VECTORS["cgc"])
    parameters = [id(p) for head in heads.values() for p in head.parameters()]
    assert len(parameters) == len(set(parameters))


def test_a_closed_gate_leaves_the_tasks_apart() -> None:
    """Where gates choose own experts alone, no task teaches the shared ones."""
    sharing = CGC(lambda: nn.Linear(4, 5), inputs=4)
    encoder, head = sharing.encoder(), sharing.head("a")
    x = torch.ones(3, 4)
    with torch.no_grad():
        head.gate.logits[1].weight.copy_(torch.tensor([[50.0], [-50.0]]).expand(2, 4))
    z = head(encoder(x))
    torch.testing.assert_close(z, head.experts.experts[0](x))
    z.sum().backward()
    assert all((p.grad == 0).all() for p in encoder.parameters())


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(SpecError, match="experts=0"):
        CGC(lambda: nn.Linear(4, 5), experts=0, inputs=4).head("a")
    with pytest.raises(SpecError, match="experts=-1"):
        CGC(lambda: nn.Linear(4, 5), shared=-1, inputs=4).encoder()
