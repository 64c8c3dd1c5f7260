"""How large a model is."""

from __future__ import annotations

from tests.nets.cases import TASKS, VECTORS
from torch import nn

from lianhe.nets import LoRA, parameter_count


def test_counting_parameters() -> None:
    sharing = VECTORS["mmoe"]
    of_expert = 4 * 6 + 6 + 6 * 5 + 5
    assert parameter_count(sharing.encoder()) == 3 * of_expert
    assert parameter_count(sharing.head("kind", nn.Linear(5, 3))) == 3 * 4 + 5 * 3 + 3
    frozen = LoRA(lambda: nn.Linear(4, 5), TASKS, rank=2, freeze=True).encoder()
    assert parameter_count(frozen) == 25 + 3 * 18
    assert parameter_count(frozen, frozen=False) == 3 * 18
