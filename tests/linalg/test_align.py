from __future__ import annotations

import pytest
import torch
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import align, gramian


@pytest.mark.parametrize("level", ["min", "median", "mean"])
@pytest.mark.parametrize("name", [n for n in [*EASY, *CASES] if "zero" not in n and "badly" not in n])
def test_all_singular_values_become_the_chosen_one(name, level):
    J = (EASY | CASES)[name]
    r = int(torch.linalg.matrix_rank(J / J.norm(dim=1, keepdim=True), rtol=1e-3))
    before, after = (torch.linalg.svdvals(x)[:r] for x in (J, align(gramian(J), level) @ J))
    squared = {"min": before[-1] ** 2, "median": before[r // 2] ** 2, "mean": (before**2).mean()}[level]
    torch.testing.assert_close(after, squared.sqrt().expand(r), rtol=1e-5, atol=0)


def test_no_orthogonal_rows_of_this_length_are_nearer():
    """Against random rotations of the answer."""
    J = rows(4, 6, seed=1)
    sigma = torch.linalg.svdvals(J)[-1]
    mixed = align(gramian(J)) @ J
    for seed in range(50):
        turn = torch.linalg.qr(rows(6, 6, seed) * 0.1 + torch.eye(6, dtype=torch.float64))[0]
        assert (mixed / sigma - J / sigma).norm() <= (mixed @ turn / sigma - J / sigma).norm()


def test_short_rows_are_not_lost():
    J = rows(3, 5, seed=2) * torch.tensor([[1e-2], [1.0], [1e3]], dtype=torch.float64)
    for matrix in (J, J.float()):
        length = torch.linalg.svdvals(align(gramian(matrix)) @ matrix.double())
        torch.testing.assert_close(length, torch.linalg.svdvals(J)[-1:].expand(3), rtol=1e-2, atol=0)


def test_zeros_are_left_alone():
    assert align(torch.zeros(2, 2, dtype=torch.float64)).equal(torch.eye(2, dtype=torch.float64))
