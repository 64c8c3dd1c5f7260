"""Matrices that solvers find easy, hard and nasty; the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

SIZES = (1, 2, 3, 8, 40)


def rows(m: int, n: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Normal numbers, [m, n], float64; a shift makes the rows agree."""
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def nasty(m: int) -> dict[str, Tensor]:
    """Matrices [m, n] with singular or badly scaled Gramians."""
    full, spread = rows(m, m + 5, seed=m), torch.linspace(-8, 8, m, dtype=torch.float64)
    twins = full.clone()
    twins[::2] = full[0]
    zero = full.clone()
    zero[m // 2] = 0
    opposite = full.clone()
    opposite[m // 2 :] = -full[: m - m // 2]
    return {
        "badly scaled": full * 10 ** spread[:, None],
        "badly scaled, singular": rows(m, max(1, m // 2), seed=m) * 10 ** spread.flip(0)[:, None],
        "huge": full * 1e8,
        "tiny": full * 1e-8,
        "more rows than columns": rows(m, max(1, m // 2), seed=m),
        "one column": rows(m, 1, seed=m),
        "one column, agreeing": rows(m, 1, seed=m).abs() + 0.1,
        "repeated rows": twins,
        "opposite rows": opposite,
        "nearly parallel": full[:1] + 1e-6 * full,
        "a row of zeros": zero,
        "all zeros": torch.zeros(m, 3, dtype=torch.float64),
    }


CASES = {f"{name}, m={m}": matrix for m in SIZES for name, matrix in nasty(m).items()}
EASY = {
    f"{m}x{n}, shift {s}": rows(m, n, seed=n, shift=s) for m in SIZES for n in (m, 50) for s in (0.0, 0.3)
}
