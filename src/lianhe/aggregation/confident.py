"""Views teach each other what they are most sure of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lianhe.aggregation._checks import count, number
from lianhe.core.aggregator import Aggregator, Needs
from lianhe.core.contribution import Blocks
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Collected, Stack

#: what becomes of an example that two views would label differently
Conflict: TypeAlias = Literal["drop", "confident"]

#: the target of an example that has no label yet
UNLABELLED = -100


class Chosen(NamedTuple):
    """The pool's labels after one round.

    Args:
        target: class of each example, int64 [N]; -100 for none yet.
        teacher: row of the view that labelled it in this round, int64 [N]; -1 for none.
    """

    target: Tensor
    teacher: Tensor


class Confident(Aggregator):
    """Labels for the examples of a pool that views are most sure of: co-training's choice.

    Each view chooses among the examples without a label: all whose largest probability is at least
    `threshold`, or the `per_class` surest of each class. Each gets the label of the view that chose it,
    which no later round changes. Where views choose the same example and agree, the surest is its teacher.

    Args:
        threshold: smallest probability to choose by, in (0, 1]. Give this or `per_class`.
        per_class: how many examples a view chooses of each class: a number, or by class (a class that is not
            named gets none).
        pool_size: choose among so many candidates only, drawn anew each round (75 in the paper, which draws
            replacements of the chosen ones only); None for all.
        conflict: where views choose an example with different labels, "drop" it for this round, or let the
            most "confident" win.
        prior: relative frequencies of the classes, [C]. `per_class`, a number, is then the average, and each
            class gets its share of C * per_class, rounded, but at least 1.

    Raises:
        SpecError: if not exactly one of `threshold` and `per_class` is given, or an argument is out of range.
        AggregationError: if the stack holds no predictions on a pool.

    Example:
        >>> probabilities = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.01, 0.99]]])
        >>> target = torch.tensor([-100, -100])  # two views, two examples, no label yet
        >>> [x.tolist() for x in Confident(0.95).choose(probabilities, target, torch.Generator())]
        [[-100, 1], [-1, 1]]

    Source:
        A. Blum and T. Mitchell, "Combining labeled and unlabeled data with co-training", COLT 1998.
    """

    needs: ClassVar[Needs] = "values"
    whole: ClassVar[bool] = True

    def __init__(
        self,
        threshold: float | None = None,
        per_class: int | Mapping[int, int] | None = None,
        pool_size: int | None = None,
        conflict: Conflict = "drop",
        prior: Sequence[float] | None = None,
    ) -> None:
        if (threshold is None) == (per_class is None):
            raise SpecError(
                f"Confident: threshold={threshold!r} and per_class={per_class!r}: give exactly one of them"
            )
        if conflict not in get_args(Conflict):
            raise SpecError(f"Confident: conflict={conflict!r} must be 'drop' or 'confident'")
        self.threshold = threshold if threshold is None else _probability(threshold)
        self.per_class = per_class if per_class is None else _quota(per_class)
        self.pool_size = pool_size
        if pool_size is not None:
            count("Confident: pool_size", pool_size, 1, hint="75 in the paper; None for all")
        self.conflict = conflict
        self.prior = prior if prior is None else _prior(prior, per_class)

    def aggregate(self, stack: Stack) -> Blocks:
        """Choose new labels for the pool of a collected stack.

        Args:
            stack: of contributions with a block "pool" (`probabilities`, [N, C]; `index`, the view's number,
                []), to a joint with a block "labels" (`target`, `teacher` and `round`, int64 [N]).

        Returns:
            The new block "labels".
        """
        if not isinstance(stack, Collected) or "labels" not in stack.joint.blocks:
            raise AggregationError(_WANTS.format(names=", ".join(stack.names)))
        lacking = [
            name for name, c in zip(stack.names, stack.contributions, strict=True) if "pool" not in c.blocks
        ]
        if lacking:
            raise AggregationError(_WANTS.format(names=", ".join(lacking)))
        labels = stack.joint.blocks["labels"]
        pools = [contribution.blocks["pool"] for contribution in stack.contributions]
        chosen = self.choose(
            torch.stack([pool["probabilities"] for pool in pools]), labels["target"], stack.generator()
        )
        views = torch.stack([pool["index"] for pool in pools]).to(labels["teacher"])
        new = chosen.teacher >= 0
        now = 0 if stack.stream is None else stack.stream.round
        return {
            "labels": {
                "target": chosen.target,
                "teacher": torch.where(new, views[chosen.teacher], labels["teacher"]),
                "round": torch.where(new, now, labels["round"]),
            }
        }

    def choose(self, probabilities: Tensor, target: Tensor, generator: torch.Generator) -> Chosen:
        """Choose examples and label them; depends on nothing but its arguments.

        Args:
            probabilities: of C classes for N examples by V views, [V, N, C].
            target: labels so far, int64 [N]; -100 for none. Only examples without one are candidates.
            generator: draws the candidates where `pool_size` is given.

        Returns:
            All labels after this round, and the row of each new one's teacher.

        Raises:
            AggregationError: if shapes do not fit.
        """
        if probabilities.ndim != 3 or probabilities.shape[1:2] != target.shape:
            raise AggregationError(
                f"Confident: probabilities {list(probabilities.shape)} must be [views, examples, classes] "
                f"for {list(target.shape)} examples"
            )
        confidence, label = probabilities.max(2)
        possible = self._draw(target, generator) & ~confidence.isnan()
        confidence = torch.where(possible, confidence, -math.inf)
        wanted = possible & self._sure(confidence, label, probabilities.shape[2])
        surest, teacher = torch.where(wanted, confidence, -math.inf).max(0)
        new_label = label.gather(0, teacher[None])[0]
        chosen = surest > -math.inf
        if self.conflict == "drop":
            chosen &= ~(wanted & (label != new_label)).any(0)
        return Chosen(torch.where(chosen, new_label, target), torch.where(chosen, teacher, -1))

    def _draw(self, target: Tensor, generator: torch.Generator) -> Tensor:
        """Which examples may be chosen in this round, bool [N]."""
        candidates = target == UNLABELLED
        if self.pool_size is None or int(candidates.sum()) <= self.pool_size:
            return candidates
        draw = torch.rand(len(target), generator=generator, dtype=torch.float64).to(target.device)
        kept = draw.masked_fill(~candidates, math.inf).argsort()[: self.pool_size]
        return torch.zeros_like(candidates).index_fill_(0, kept, True)

    def _sure(self, confidence: Tensor, label: Tensor, classes: int) -> Tensor:
        """Which examples each view is sure enough of, bool [V, N]."""
        if self.threshold is not None:
            return confidence >= self.threshold
        quotas = torch.tensor(self._quotas(classes), device=label.device)
        order = confidence.argsort(dim=1, descending=True, stable=True)
        ordered = label.gather(1, order)
        rank = one_hot(ordered, classes).cumsum(1).gather(2, ordered[:, :, None])[:, :, 0]
        return torch.zeros_like(label, dtype=torch.bool).scatter_(1, order, rank <= quotas[ordered])

    def _quotas(self, classes: int) -> list[int]:
        """How many examples a view may choose of each class."""
        if isinstance(self.per_class, dict):
            if max(self.per_class) >= classes:
                raise AggregationError(
                    f"Confident: per_class={self.per_class!r}, but views know {classes} classes"
                )
            return [self.per_class.get(c, 0) for c in range(classes)]
        assert self.per_class is not None
        if self.prior is None:
            return [self.per_class] * classes
        if len(self.prior) != classes:
            raise AggregationError(
                f"Confident: prior has {len(self.prior)} classes, but views know {classes}"
            )
        return [max(1, round(self.per_class * classes * share / sum(self.prior))) for share in self.prior]


_WANTS = (
    "Confident chooses labels for a pool from what views predict on it, but {names} sent no predictions of a "
    "pool: use it with views; to choose from plain probabilities, call choose()"
)


def _probability(threshold: float) -> float:
    if number("Confident: threshold", threshold, 0, 1, hint="0.95 is usual") == 0:
        raise SpecError(f"Confident: threshold={threshold!r} must be above 0: it would choose everything")
    return float(threshold)


def _quota(per_class: int | Mapping[int, int]) -> int | dict[int, int]:
    hint = "how many examples a view chooses of each class"
    if not isinstance(per_class, Mapping):
        return count("Confident: per_class", per_class, 1, hint=hint)
    if not per_class or not all(str(label).isdecimal() for label in per_class):
        raise SpecError(f"Confident: per_class={per_class!r} must map classes 0, 1, … to numbers")
    return {int(c): count(f"Confident: per_class[{c!r}]", n, 0, hint=hint) for c, n in per_class.items()}


def _prior(prior: Sequence[float], per_class: int | Mapping[int, int] | None) -> tuple[float, ...]:
    if not isinstance(per_class, int):
        raise SpecError(
            "Confident: prior shares out per_class, a number: leave it out, or give such a number"
        )
    shares = tuple(number("Confident: prior", share, 0, hint="relative frequencies") for share in prior)
    if not sum(shares) > 0:
        raise SpecError(f"Confident: prior={prior!r} must have a positive sum")
    return shares
