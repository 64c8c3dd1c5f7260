from __future__ import annotations

import pytest
import torch
import torchjd.aggregation as oracle
from tests.aggregation.common import as_rows, names
from tests.aggregation.oracles import SIZES
from tests.linalg.cases import rows

from lianhe.aggregation import GradDrop
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("leaking", [False, True])
def test_the_same_as_torchjd_from_the_same_draws(m, leaking):
    leak = torch.rand(m, generator=torch.Generator().manual_seed(m)) if leaking else None
    for seed in range(10):
        matrix = rows(m, 50, seed).float()
        torch.manual_seed(seed)
        ours = GradDrop(0.0 if leak is None else leak.tolist())(matrix)
        torch.manual_seed(seed)
        torch.testing.assert_close(ours, oracle.GradDrop(leak=leak)(matrix), rtol=1e-4, atol=1e-5)


def test_in_expectation_it_is_the_sum():
    matrix = rows(5, 20, seed=3)
    mean = torch.stack([GradDrop()(as_rows(matrix, seed=i)) for i in range(4000)]).mean(0)
    spread = matrix.abs().sum(0)
    assert ((mean - matrix.sum(0)).abs() / spread).max() < 0.04


def test_what_comes_out_is_all_of_one_sign_or_the_other():
    matrix = rows(6, 300, seed=4)
    positive, negative = matrix.clamp(min=0).sum(0), matrix.clamp(max=0).sum(0)
    result = GradDrop()(as_rows(matrix, seed=0))
    assert torch.where(result > 0, result == positive, result == negative).all()
    assert 0.3 < float((result > 0).double().mean()) < 0.7


def test_leaks_by_name_go_with_their_rows():
    matrix, leak = rows(3, 40, seed=5), {"site0": 1.0, "site1": 0.0, "site2": 0.5, "absent": 0.1}
    result, dry = (GradDrop(x)(as_rows(matrix, seed=1)) for x in (leak, 0.0))
    dropped = torch.where(dry > 0, matrix.clamp(max=0), matrix.clamp(min=0))
    torch.testing.assert_close(result - dry, dropped[0] + 0.5 * dropped[2])
    torch.testing.assert_close(GradDrop(1)(as_rows(matrix, seed=1)), matrix.sum(0))
    with pytest.raises(AggregationError, match="no number for 'site2'"):
        GradDrop(dict.fromkeys(names(2), 0.1))(as_rows(matrix))


def test_every_round_draws_anew():
    matrix = rows(3, 40, seed=6)
    assert not GradDrop()(as_rows(matrix, seed=1)).equal(GradDrop()(as_rows(matrix, seed=2)))
