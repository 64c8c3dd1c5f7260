"""Trials of co-training: few labels, many views, and the baselines that must stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lianhe.core.aggregator import Aggregator
from lianhe.core.errors import DataError
from lianhe.core.schedule import Schedule
from lianhe.core.spec import Spec
from lianhe.core.streams import Stream
from lianhe.experiment.trial import Part, Trial, without_pool
from lianhe.participants import View
from lianhe.participants.local import LocalRule
from lianhe.participants.view import FUSED


@dataclass(frozen=True, eq=False)
class ViewTrials:
    """A function from seed to trial: draw labelled examples, pool and test rows; train views and baselines.

    Alternatives: "solo" (each view alone and the mean of views, labelled examples only), "concatenated" (one
    model on all views, labelled examples only), "self-training" (the same, teaching itself on the pool).

    Args:
        views: by name, [n, d_v].
        y: classes, [n].
        labels_per_class: labelled examples of each class.
        model: from number of features to a model that gives logits.
        aggregator: which pseudo-labels are chosen.
        local: how models are fitted.
        rounds: rounds of co-training.
        test: share of the rows that is held out.
        schedule: who contributes when.
    """

    views: Mapping[str, Tensor]
    y: Tensor
    labels_per_class: int
    model: Callable[[int], nn.Module]
    aggregator: Aggregator
    local: LocalRule
    rounds: int = 30
    test: float = 0.25
    schedule: Schedule | None = None

    def __call__(self, seed: int) -> Trial:
        """Draw the rows of one seed, standardise by the training rows, and set up what is trained."""
        labelled, pool, test = self._draw(Stream(seed, 0, "", "views"))
        scaled = {name: _standardised(x, torch.cat([labelled, pool])) for name, x in self.views.items()}
        joined = torch.cat(list(scaled.values()), 1)
        joint = self._spec(scaled, labelled, pool)
        one = self._spec({FUSED: joined}, labelled, pool)
        rows = ({name: x[test] for name, x in scaled.items()}, self.y[test])
        rows_joined = ({FUSED: joined[test]}, self.y[test])
        others = {
            "solo": [Part(without_pool(joint), rows)],
            "concatenated": [Part(without_pool(one), rows_joined, _ONE)],
            "self-training": [Part(one, rows_joined, _ONE)],
        }
        return Trial(Part(joint, rows), others, len(test) / (len(labelled) + len(pool)))

    def _spec(self, views: Mapping[str, Tensor], labelled: Tensor, pool: Tensor) -> Spec:
        members = [self._view(name, x, labelled, pool) for name, x in views.items()]
        return Spec(
            members, aggregator=self.aggregator, local=self.local, rounds=self.rounds, schedule=self.schedule
        )

    def _view(self, name: str, x: Tensor, labelled: Tensor, pool: Tensor) -> View:
        width = x.shape[1]
        return View(name, lambda: self.model(width), (x[labelled], self.y[labelled]), x[pool])

    def _draw(self, stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
        order = torch.randperm(len(self.y), generator=stream.generator())
        held_out = round(self.test * len(order))
        test, train = order[:held_out], order[held_out:]
        rank = torch.zeros(len(train), dtype=torch.long)
        for c in self.y.unique().tolist():
            of_class = (self.y[train] == c).nonzero().flatten()
            if len(of_class) < self.labels_per_class:
                raise DataError(
                    f"labels_per_class={self.labels_per_class}: class {c} has {len(of_class)} rows to train"
                )
            rank[of_class] = torch.arange(len(of_class))
        few = rank < self.labels_per_class
        return train[few], train[~few], test


#: a lone view is both "the view" and "the committee": it is reported once
_ONE: Mapping[str, str] = {FUSED: FUSED}


def _standardised(x: Tensor, rows: Tensor) -> Tensor:
    std, mean = torch.std_mean(x[rows], 0)
    return (x - mean) / std.where(std > 0, 1.0)
