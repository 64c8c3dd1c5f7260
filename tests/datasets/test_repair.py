"""Re-pairing: same rows, same classes, no dependence left within a class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lianhe.core.errors import DataError
from lianhe.datasets import repair_within_class


@given(labels=st.lists(st.sampled_from([-100, 0, 1, 2]), min_size=1, max_size=30), seed=st.integers(0, 99))
@settings(deadline=None)
def test_rows_move_within_their_class_only(labels: list[int], seed: int) -> None:
    y, view = torch.tensor(labels), torch.arange(len(labels))
    repaired = repair_within_class(view, y, seed)
    assert sorted(repaired.tolist()) == view.tolist()
    assert torch.equal(y[repaired], y)
    assert torch.equal(repaired[y == -100], view[y == -100])
    assert torch.equal(repaired, repair_within_class(view, y, seed))


def test_correlation_within_a_class_disappears() -> None:
    y = torch.arange(4000) % 2
    view = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    repaired = repair_within_class(view, y, seed=1)
    for label in (0, 1):
        pair = torch.cat([view[y == label], repaired[y == label]], 1)
        assert abs(pair.T.corrcoef()[0, 1].item()) < 0.1


def test_another_seed_pairs_otherwise() -> None:
    view, y = torch.arange(50), torch.zeros(50, dtype=torch.int64)
    assert not torch.equal(repair_within_class(view, y, 0), repair_within_class(view, y, 1))


@pytest.mark.parametrize("y", [torch.zeros(3), torch.zeros(2, dtype=torch.int64)])
def test_refuses_labels_that_do_not_fit(y: torch.Tensor) -> None:
    with pytest.raises(DataError, match="one int64 class for each row"):
        repair_within_class(torch.zeros(3, 2), y, seed=0)
