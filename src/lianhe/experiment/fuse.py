"""`lianhe.fuse`: several trained models into one, by outputs or by weights; the candidates in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from rich.table import Table
from torch import Tensor, nn

from lianhe.aggregation import Fixed, GreedySoup, HeldOutWeights, Mean
from lianhe.core.aggregator import Aggregator, Weighting
from lianhe.core.errors import DataError, SpecError
from lianhe.core.spec import Spec
from lianhe.core.stack import Rows, unflatten
from lianhe.experiment.fit import fit
from lianhe.participants import Committee, Expert
from lianhe.participants.committee import probabilities
from lianhe.participants.view import classification

Over: TypeAlias = Literal["predictions", "parameters"]
Models: TypeAlias = Mapping[str, nn.Module] | Sequence[nn.Module]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to fuse, measured on held-out data.

    Args:
        name: of the way.
        model: the fused model; committees give probabilities, single models logits.
        accuracy: on the held-out data.
        nll: negative log likelihood there, in nats.
        inference: forward passes a prediction.
        needs: what it needs beside the models.
    """

    name: str
    model: nn.Module
    accuracy: float
    nll: float
    inference: int
    needs: str


@dataclass(frozen=True, eq=False)
class Fusion:
    """All candidates, in the order of their accuracy on data that neither fitted nor trained them.

    Args:
        candidates: best first; among equals the one with the lower negative log likelihood.
        rows: number of rows on which candidates were chosen.
    """

    candidates: tuple[Candidate, ...]
    rows: int

    @property
    def best(self) -> Candidate:
        """The first."""
        return self.candidates[0]

    @property
    def model(self) -> nn.Module:
        """The model of the best candidate."""
        return self.best.model

    def table(self) -> Table:
        """The candidates, for a terminal."""
        table = Table(title=f"Fusion, chosen on {self.rows} held-out rows")
        for column in ("candidate", "accuracy", "nll", "forward passes", "needs"):
            table.add_column(column, justify="left" if column in ("candidate", "needs") else "right")
        for c in self.candidates:
            table.add_row(c.name, f"{c.accuracy:.4f}", f"{c.nll:.4f}", str(c.inference), c.needs)
        return table


def fuse(
    models: Models, over: Over = "predictions", aggregator: Aggregator | None = None, data: object = None
) -> nn.Module:
    """Fuse trained classifiers into one model, by one aggregator.

    Over predictions: p(x) = A(p_1(x), …, p_m(x)); over parameters: θ = A(θ_1, …, θ_m).

    Args:
        models: by name, or in order; each gives logits, [n, C].
        over: "predictions" (any architectures) or "parameters" (one architecture, best from one start).
        aggregator: `Mean()` if none is given (output mean; uniform soup). One that is fitted to held-out
            labels, `HeldOutWeights`, is fitted on `data` and used with fixed weights from then on.
        data: held-out inputs, or `(x, y)`, where the aggregator needs them.

    Raises:
        SpecError: if architectures differ, or data are missing.

    Example:
        >>> a, b = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> soup = fuse([a, b], over="parameters")
        >>> bool(torch.allclose(soup.weight, (a.weight + b.weight) / 2))
        True

    Source:
        Wortsman et al., "Model soups", ICML 2022 (parameters).
    """
    named = _named(models)
    aggregator = Mean() if aggregator is None else aggregator
    experts = [Expert(name, model, over) for name, model in named.items()]
    if over == "parameters":
        return fit(Spec(experts, aggregator=aggregator, rounds=1)).model
    if isinstance(aggregator, HeldOutWeights):
        aggregator = _fixed(aggregator, named, data)
    return Committee(named, aggregator)


def fuse_candidates(
    models: Models, data: tuple[Tensor, Tensor], *, fit_on: tuple[Tensor, Tensor] | None = None
) -> Fusion:
    """Try the ways to fuse on held-out data, and return the table with the winner.

    Candidates: the best single model, the output mean, output weights fitted to held-out labels, and, if the
    models have one architecture, the uniform and the greedy soup.

    Args:
        models: by name, or in order; each gives logits, [n, C].
        data: held-out `(x, y)` on which candidates are measured and chosen: report a test on other rows.
        fit_on: held-out `(x, y)` for what is fitted (weights, greedy soup); None takes the first half of
            `data` for this, and measures on the second.

    Raises:
        DataError: if there are too few rows.
    """
    named = _named(models)
    fit_on, choose_on = (fit_on, data) if fit_on is not None else _halves(data)
    x, y = fit_on
    ways: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
        "best single": (lambda: _best_single(named, fit_on), 1, "labels"),
        "output mean": (lambda: fuse(named), len(named), "nothing"),
        "output weighted": (
            lambda: fuse(named, aggregator=HeldOutWeights(y), data=(x, y)),
            len(named),
            "labels",
        ),
    }
    if _one_architecture(named):
        ways["uniform soup"] = (lambda: fuse(named, "parameters"), 1, "nothing")
        ways["greedy soup"] = (lambda: _greedy(named, fit_on), 1, "labels")
    found = [_measured(name, make(), choose_on, cost, needs) for name, (make, cost, needs) in ways.items()]
    return Fusion(tuple(sorted(found, key=lambda c: (-c.accuracy, c.nll))), len(choose_on[1]))


def _named(models: Models) -> dict[str, nn.Module]:
    named = dict(models) if isinstance(models, Mapping) else {str(i): m for i, m in enumerate(models)}
    if not named:
        raise SpecError("models is empty: give at least one trained model")
    return named


def _fixed(aggregator: Weighting, named: Mapping[str, nn.Module], data: object) -> Fixed:
    """Weights on held-out predictions, fixed for all others."""
    if not isinstance(data, tuple):
        raise SpecError("data is missing: HeldOutWeights is fitted on held-out rows, data=(x, y)")
    rows = torch.stack([probabilities(m, data[0]).flatten() for m in named.values()])
    weights = aggregator.weigh(Rows(rows, tuple(named)))
    return Fixed(dict(zip(named, weights.tolist(), strict=True)))


def _halves(data: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    x, y = data
    half = len(y) // 2
    if half < 1:
        raise DataError(
            f"data has {len(y)} rows: one half is fitted on, the other chosen on; give at least two"
        )
    return (x[:half], y[:half]), (x[half:], y[half:])


def _accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return float((probabilities(model, data[0]).argmax(1) == data[1]).double().mean())


def _best_single(named: Mapping[str, nn.Module], data: tuple[Tensor, Tensor]) -> nn.Module:
    return max(named.values(), key=lambda model: _accuracy(model, data))


def _greedy(named: Mapping[str, nn.Module], data: tuple[Tensor, Tensor]) -> nn.Module:
    trial = fuse(named, "parameters")
    layout = {"model": dict(trial.named_parameters())}

    @torch.no_grad()
    def score(vector: Tensor) -> float:
        for name, tensor in unflatten(vector, layout)["model"].items():
            layout["model"][name].copy_(tensor)
        return _accuracy(trial, data)

    return fuse(named, "parameters", GreedySoup(score))


def _one_architecture(named: Mapping[str, nn.Module]) -> bool:
    shapes = [{n: t.shape for n, t in model.state_dict().items()} for model in named.values()]
    return all(s == shapes[0] for s in shapes) and len(shapes) > 1


def _measured(
    name: str, model: nn.Module, data: tuple[Tensor, Tensor], inference: int, needs: str
) -> Candidate:
    with torch.no_grad():
        p = model(data[0]) if isinstance(model, Committee) else probabilities(model, data[0])
    values = {m.name: m.value for m in classification(p, data[1])}
    return Candidate(name, model, values["accuracy"], values["loss"], inference, needs)
