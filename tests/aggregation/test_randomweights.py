from __future__ import annotations

import torch
from tests.linalg.cases import rows

from lianhe.aggregation import RandomWeights
from lianhe.core.stack import Rows
from lianhe.core.streams import Stream


def weigh(seed: int, number: int, m: int = 4) -> torch.Tensor:
    return RandomWeights().weigh(Rows(rows(m, 5), stream=Stream(seed, number)))


def test_softmax_of_normal_numbers_from_the_stream_of_the_round():
    drawn = torch.randn(4, generator=Stream(7, 2).generator(), dtype=torch.float64).exp()
    torch.testing.assert_close(weigh(7, 2), drawn / drawn.sum())


def test_each_round_and_each_seed_has_its_own():
    assert weigh(7, 2).equal(weigh(7, 2))
    assert not torch.allclose(weigh(7, 2), weigh(7, 3))
    assert not torch.allclose(weigh(7, 2), weigh(8, 2))


def test_every_row_has_the_same_chances():
    mean = torch.stack([weigh(0, i, m=3) for i in range(2000)]).mean(0)
    torch.testing.assert_close(mean, torch.full((3,), 1 / 3, dtype=torch.float64), rtol=0, atol=0.02)
