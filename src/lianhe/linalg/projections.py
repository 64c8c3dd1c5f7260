"""Combinations of rows with chosen projections on each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import ROUNDING


def with_projections(gramian: Tensor, projections: Tensor, rtol: float = 1e-6) -> Tensor:
    """Find the weights of a combination of rows whose projection on each row is as given.

    w with g_i·Jᵀw / ||g_i|| = p_i. Let S = diag(1/||g_i||), so that C = S G S are the rows' cosines; then
    w = S C⁺ p: the shortest vector in the span of the rows that comes as near to p as any.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        projections: p, [m].
        rtol: eigenvalues of C up to this share of the largest count as zero. 1e-6 is above what rounding
            makes of a zero in float32; rows that differ by less are one direction.

    Returns:
        w, [m]; 0 for rows that are 0.

    Example:
        >>> G = torch.tensor([[1.0, 1.0], [1.0, 4.0]], dtype=torch.float64)
        >>> w = with_projections(G, torch.ones(2, dtype=torch.float64))
        >>> (G @ w / G.diagonal().sqrt()).round(decimals=6).tolist()
        [1.0, 1.0]

    Source:
        R. Penrose, "On best approximate solutions of linear matrix equations", Mathematical Proceedings of
        the Cambridge Philosophical Society 52, 1956.
    """
    cosines, scale = _cosines(gramian)
    values, vectors = torch.linalg.eigh(cosines)
    kept = vectors[:, values > rtol * values[-1]] if values[-1] > 0 else vectors[:, :0]
    found: Tensor = kept @ ((kept.T @ projections) / values[len(values) - kept.shape[1] :])
    return found * scale


def rank(gramian: Tensor, rtol: float = 1e-6) -> int:
    """Count the directions that rows span, whatever the rows' lengths.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        rtol: as in `with_projections`.

    Example:
        >>> rank(torch.tensor([[1.0, 1e8], [1e8, 1e16]], dtype=torch.float64))
        1
    """
    values = torch.linalg.eigvalsh(_cosines(gramian)[0])
    return int((values > max(rtol, ROUNDING * len(values)) * values[-1].clamp(min=0)).sum())


def _cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines between rows, with 0 for rows that are 0; and 1 over the rows' lengths, 0 for these."""
    diagonal = gramian.diagonal()
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 0.0)
    return gramian * scale * scale[:, None], scale
