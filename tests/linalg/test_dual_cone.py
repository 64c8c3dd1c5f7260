from __future__ import annotations

import pytest
import torch
from scipy.optimize import nnls
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import gramian, project_on_dual_cone


@pytest.mark.parametrize("name", [*CASES, *EASY])
def test_optimality(name):
    G = gramian((CASES | EASY)[name])
    m = len(G)
    lower = torch.eye(m, dtype=torch.float64) / m
    v = project_on_dual_cone(G, lower)
    lengths = G.diagonal().sqrt()
    size = (v * lengths).sum(1, keepdim=True)
    gain = v @ G
    assert (v >= lower).all()
    assert (gain >= -1e-12 * size * lengths).all()
    assert (((v - lower) * gain).abs() <= 1e-12 * size * size).all()


@pytest.mark.parametrize(("m", "n"), [(2, 3), (5, 6), (12, 15), (30, 60)])
def test_as_scipy_solves_it(m, n):
    J, lower = rows(m, n, seed=m), rows(4, m, seed=1)
    expected = [u + torch.from_numpy(nnls(J.T.numpy(), -(u @ J).numpy())[0]) for u in lower]
    torch.testing.assert_close(
        project_on_dual_cone(gramian(J), lower), torch.stack(expected), rtol=1e-8, atol=1e-9
    )


def test_it_is_a_projection():
    J, u = rows(6, 8, seed=7), rows(1, 6, seed=8)[0]
    projected = project_on_dual_cone(gramian(J), u) @ J
    torch.testing.assert_close(
        projected @ (u @ J - projected), torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert (J @ projected >= -1e-12).all()
    inside = J.T @ torch.linalg.solve(gramian(J), torch.ones(6, dtype=torch.float64))  # J inside = 1 > 0
    assert (projected - u @ J).norm() < (inside - u @ J).norm()


def test_nothing_moves_without_conflict():
    J = rows(5, 9, seed=2).abs()
    lower = rows(3, 5, seed=3).abs()
    assert project_on_dual_cone(gramian(J), lower).equal(lower)


def test_shapes_are_kept():
    G, u = gramian(rows(4, 5, seed=1)), rows(6, 4, seed=2)
    together = project_on_dual_cone(G, u)
    assert project_on_dual_cone(G, u[0]).shape == (4,)
    assert project_on_dual_cone(G, u.view(2, 3, 4)).equal(together.view(2, 3, 4))
    torch.testing.assert_close(project_on_dual_cone(G, u[0]), together[0])
