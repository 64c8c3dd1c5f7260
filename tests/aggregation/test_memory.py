"""What the stateful aggregators share."""

from __future__ import annotations

import pytest
import torch

from lianhe.aggregation._memory import Memory, adam, unlearnt


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e200])
def test_adam_is_that_of_torch(decay, size):
    value = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    optimizer, ours = torch.optim.Adam([value], lr=0.02, weight_decay=decay), unlearnt(0.7)
    gradients = size * torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for gradient in gradients:
        value.grad = gradient.clone()
        optimizer.step()
        ours = adam(ours, float(gradient), 0.02, decay)
        assert ours[0] == pytest.approx(value.item(), rel=1e-11)


def test_every_row_counts_its_own_steps():
    memory = Memory()
    for names in (["a"], ["a", "b"], ["b"]):
        learnt = memory.recall("", names, unlearnt(0.0))
        memory.keep("", names, [adam(x, 1.0, 0.1) for x in learnt])
    assert [steps for *_, steps in memory.recall("", ["a", "b", "c"], unlearnt(0.0))] == [2, 2, 0]
    assert memory.rounds("") == 3
    assert memory.rounds("other") == 0
    assert memory.recall("other", ["a"], None) == [None]
