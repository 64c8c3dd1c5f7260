"""Spans in tags, and how many of them are found: the F1 of slot filling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

#: kind, first word, word after the last
Span = tuple[str, int, int]


def spans(tags: Sequence[str]) -> set[Span]:
    """Spans of tags "B-kind", "I-kind" and "O", as conlleval reads them.

    "B-" begins a span, and so does an "I-" that goes on nothing of its kind; a span ends before the next
    "B-", "O" or other kind.

    >>> sorted(spans(["B-city", "I-city", "O", "I-year", "B-year"]))
    [('city', 0, 2), ('year', 3, 4), ('year', 4, 5)]
    """
    found: set[Span] = set()
    kind, first = "", 0
    for at, tag in enumerate([*tags, "O"]):
        goes_on = tag[:2] == "I-" and tag[2:] == kind
        if kind and not goes_on:
            found.add((kind, first, at))
        if not goes_on:
            kind, first = tag[2:], at
    return found


class SpanF1(Metric):
    """F1 = 2 TP / (2 TP + FP + FN) over spans: one counts if its kind and both its ends are right.

    A metric is given the words of all sentences in a row, so it must know where sentences end.

    Args:
        tags: names of the classes.
        lengths: words of each sentence of the held-out rows, in their order.
    """

    higher_is_better = True

    def __init__(self, tags: Sequence[str], lengths: Sequence[int]) -> None:
        super().__init__()
        self.tags, self.lengths = tuple(tags), list(lengths)
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("wanted", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        self.predicted.append(probabilities.argmax(1))
        self.wanted.append(target)

    def compute(self) -> Tensor:
        ours, theirs = self._sentences(self.predicted), self._sentences(self.wanted)
        right = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
        number = sum(map(len, ours)) + sum(map(len, theirs))
        return torch.tensor(2 * right / number if number else 1.0)

    def _sentences(self, codes: list[Tensor]) -> list[set[Span]]:
        return [spans([self.tags[c] for c in s.tolist()]) for s in torch.cat(codes).split(self.lengths)]
