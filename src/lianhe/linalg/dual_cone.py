"""The projection onto the cone of directions that worsen no row."""

from __future__ import annotations

from torch import Tensor

from lianhe.linalg.nonnegative import nonnegative_qp


def project_on_dual_cone(gramian: Tensor, lower: Tensor) -> Tensor:
    """Project combinations of rows onto the dual cone of the rows.

    argmin vᵀGv over v >= u. Jᵀv is then the projection of Jᵀu onto {d : J d >= 0}: it conflicts with no row,
    and v_i > u_i only for rows i that it is orthogonal to.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        lower: u, [m], or k of them, [k, m]; solved together.

    Returns:
        v, of the shape of `lower`.

    Example:
        >>> import torch
        >>> G = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
        >>> project_on_dual_cone(G, torch.eye(2, dtype=torch.float64)).round(decimals=6).tolist()
        [[1.0, 0.5], [0.5, 1.0]]

    Source:
        D. Lopez-Paz and M. Ranzato, "Gradient episodic memory for continual learning", NIPS 2017;
        P. Quinton and V. Rey, "Jacobian descent for multi-objective optimization", 2024, proposition 1.
    """
    rows = lower.reshape(-1, len(gramian))
    return (rows + nonnegative_qp(gramian, rows @ gramian)).view_as(lower)
