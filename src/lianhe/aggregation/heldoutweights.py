"""A mixture of experts' predictions, fitted on held-out labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack
from lianhe.linalg import nonnegative_qp

#: a probability below this counts as this, so that a confident mistake does not veto
_LEAST = 1e-12


class HeldOutWeights(Weighting):
    """Mixture of predictions with the weights that make held-out labels most likely.

    w = argmin {-Σ_x log Σ_i w_i P_i(y_x | x) : w >= 0, Σ w = 1}, a convex problem. At the solution
    mean_x P_i(y_x|x) / P_w(y_x|x) <= 1 for every i, with equality where w_i > 0. Use `weigh` to get w for
    held-out predictions, and `Fixed` to apply it to others. Weights of the rows are not used.

    Args:
        labels: y, int64 [N], on which no expert was trained; -100 for none. Rows are the probabilities of C
            classes for the same N examples, flattened, [N*C].

    Raises:
        SpecError: if the labels are not whole numbers, or none is known.
        AggregationError: if the rows do not fit the labels, or are not probabilities.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> labels = torch.tensor([0, 1, 1])
        >>> good, bad = [0.9, 0.1, 0.3, 0.7, 0.2, 0.8], [0.5, 0.5, 0.6, 0.4, 0.7, 0.3]
        >>> HeldOutWeights(labels).weigh(Rows(torch.tensor([good, bad]))).tolist()
        [1.0, 0.0]

    Source:
        The linear opinion pool with fitted weights. A. P. Dempster et al., J. R. Stat. Soc. B 39, 1977, give
        the first iterations (EM), Y. Kim et al., "A fast algorithm for maximum likelihood estimation of
        mixture proportions using sequential quadratic programming", J. Comput. Graph. Stat. 29, 2020, the
        others.
    """

    needs: ClassVar[Needs] = "values"

    def __init__(self, labels: Tensor) -> None:
        if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.dtype != torch.int64:
            raise SpecError(f"HeldOutWeights: labels={labels!r} must be an int64 tensor [N]")
        if not (labels >= 0).any() or ((labels < 0) & (labels != -100)).any():
            raise SpecError(
                "HeldOutWeights: labels must be classes >= 0, or -100 for none, and some must be known"
            )
        self._labels = labels

    def weigh(self, stack: Stack) -> Tensor:
        return mixture_weights(self._of_labels(stack))

    def _of_labels(self, stack: Stack) -> Tensor:
        """Probability that each row gives to each known label, [m, n]."""
        values, known = stack.values, self._labels >= 0
        classes, rest = divmod(values.shape[1], len(known))
        if rest or classes <= int(self._labels.max()):
            raise AggregationError(
                f"HeldOutWeights: rows of {values.shape[1]} numbers (of {', '.join(stack.names)}) are not "
                f"probabilities of at least {int(self._labels.max()) + 1} classes for {len(known)} labels"
            )
        grid = values.detach().view(len(values), len(known), classes)[:, known.to(values.device)]
        labels = self._labels[known].to(values.device).expand(len(values), -1)
        picked = grid.gather(2, labels[:, :, None])[:, :, 0].to("cpu", torch.float64)
        if not ((picked >= 0) & (picked <= 1 + 1e-3)).all():
            raise AggregationError(
                f"HeldOutWeights: rows ({', '.join(stack.names)}) must be probabilities: apply softmax first"
            )
        return picked


def mixture_weights(likelihoods: Tensor) -> Tensor:
    """Fit the proportions of a mixture.

    A few steps of EM, which cannot fail, then sequential quadratic programming, which is exact: the
    constraint Σ w = 1 is met by minimising -mean log (Pᵀw) + Σ w over w >= 0 instead.

    Args:
        likelihoods: P, of n observations under m components, [m, n], float64.

    Returns:
        w, [m].

    Example:
        >>> mixture_weights(torch.eye(2, dtype=torch.float64)[:, [0, 1, 1, 1]]).tolist()
        [0.25, 0.75]
    """
    P = likelihoods.clamp(min=_LEAST)
    m, n = P.shape
    w = torch.full((m,), 1 / m, dtype=torch.float64)
    for _ in range(10):
        w = w * (P / (w @ P)).mean(1)
    for _ in range(100):
        ratio = P / (w @ P)
        slope = 1 - ratio.mean(1)
        if slope.min() > -1e-12:
            break
        hessian = ratio @ ratio.T / n
        target = nonnegative_qp(hessian, (slope - hessian @ w)[None], w[None] > 0)[0]
        w = _walk(P, w, target)
    return w


def _walk(P: Tensor, w: Tensor, target: Tensor) -> Tensor:
    """Go from w towards the target, halving the way until the likelihood does not fall."""
    start, share = _loss(P, w), 1.0
    while share > 1e-9:
        moved = w + share * (target - w)
        if _loss(P, moved) <= start + 1e-15:
            return moved / moved.sum()
        share /= 2
    return w


def _loss(P: Tensor, w: Tensor) -> Tensor:
    return w.sum() - (w @ P).log().mean()
