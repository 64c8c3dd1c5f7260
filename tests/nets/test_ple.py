"""Progressive layered extraction, against a loop over the levels of the paper."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import TASKS, VECTORS, built
from tests.toys import OUTPUTS, assert_same, table
from torch import Tensor, nn

from lianhe.core.errors import SpecError
from lianhe.nets import CGC, MLP, PLE, Pick


def _mixed(gate: nn.Module, x: Tensor, outputs: list[Tensor]) -> Tensor:
    (weight,) = gate.parameters()
    exponents = (x @ weight.T).exp()
    return sum(exponents[:, [i]] / exponents.sum(1, keepdim=True) * out for i, out in enumerate(outputs))


def _predictions(encoder: nn.Module, heads: dict[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """All levels, task by task, whoever holds the parts."""
    inputs, common = dict.fromkeys(TASKS, x), x
    for number, level in enumerate(encoder.levels):
        own = {t: [e(inputs[t]) for e in level.own[i].experts] for i, t in enumerate(TASKS)}
        pool = [e(common) for e in level.common.experts]
        last_but_one = number == len(encoder.levels) - 1
        gates = {t: heads[t].gate if last_but_one else level.gates[i] for i, t in enumerate(TASKS)}
        everything = [out for t in TASKS for out in own[t]] + pool
        common_next = _mixed(level.gate, common, everything)
        inputs = {t: _mixed(gates[t], inputs[t], own[t] + pool) for t in TASKS}
        common = common_next
    pool = [e(common) for e in encoder.last.experts]
    result = {}
    for t in TASKS:
        last = heads[t].last
        own = [e(inputs[t]) for e in last.experts.experts]
        result[t] = last.tower(_mixed(last.gate, inputs[t], own + pool))
    return result


@pytest.mark.parametrize("levels", ["ple two", "ple three"])
def test_levels_equal_the_loop(levels) -> None:
    encoder, heads = built(VECTORS[levels])
    x, _ = table(6)
    z = encoder(x)
    for task, expected in _predictions(encoder, heads, x).items():
        torch.testing.assert_close(heads[task](z), expected)


def test_one_level_is_customised_gate_control() -> None:
    one = built(VECTORS["ple one"], seed=3)
    cgc = built(CGC(lambda: MLP(4, [5]), experts=2, inputs=4), seed=3)
    assert_same(one[0].state_dict(), cgc[0].state_dict())
    x, _ = table(6)
    for task in TASKS:
        assert torch.equal(one[1][task](one[0](x)), cgc[1][task](cgc[0](x)))


def test_experts_below_the_last_level_are_sized_for_what_they_read() -> None:
    sizes: list[int] = []

    def make(inputs: int) -> nn.Module:
        sizes.append(inputs)
        return nn.Linear(inputs, 5)

    sharing = PLE(make, ["a", "b"], inputs=4, features=5, levels=2, experts=2, shared=3)
    sharing.encoder()
    assert sorted(sizes) == [4] * (2 * 2 + 3) + [5] * 3
    sizes.clear()
    sharing.head("a")
    assert sizes == [5, 5]


def test_inputs_may_be_mappings() -> None:
    def make(size: int) -> nn.Module:
        return Pick("x", nn.Linear(4, 5)) if size == 4 else nn.Linear(5, 5)

    for levels in (1, 2, 3):
        sharing = PLE(make, TASKS, 4, 5, levels, make_gate=lambda n: Pick("x", nn.Linear(4, n)))
        encoder = sharing.encoder()
        heads = sharing.heads({t: nn.Linear(5, OUTPUTS[t]) for t in TASKS})
        z = encoder({"x": torch.zeros(2, 4)})
        assert {t: h(z).shape for t, h in heads.items()} == {t: (2, OUTPUTS[t]) for t in TASKS}


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(SpecError, match="levels=0"):
        PLE(lambda n: nn.Linear(n, 5), ["a"], 4, 5, levels=0)
