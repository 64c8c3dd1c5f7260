"""Steps of the same training by different engines: functions that take one step each time they are called."""

from __future__ import annotations

import importlib.util
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lianhe as lh
from cases.problems import LR, Problem
from lianhe.core.fit import _Run

Step = Callable[[], Any]


def plain(problem: Problem) -> Step:
    """The floor: sum of the losses, one backward pass."""
    encoder, heads = problem.model()
    optimizer = torch.optim.SGD([*encoder.parameters(), *(p for h in heads for p in h.parameters())], lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        z = encoder(problem.x)
        sum(F.cross_entropy(head(z), y) for head, y in zip(heads, problem.y, strict=True)).backward()
        optimizer.step()

    return step


def spec(problem: Problem, aggregator: lh.Aggregator | None) -> lh.Spec:
    """What lianhe trains."""
    encoder, heads = problem.model()
    names = [f"t{i}" for i in range(problem.tasks)]
    tasks = [lh.Task(name, head) for name, head in zip(names, heads, strict=True)]
    data = problem.x, dict(zip(names, problem.y, strict=True))
    return lh.Spec(
        tasks,
        encoder=encoder,
        data=data,
        batch_size=None,
        aggregator=aggregator,
        rounds=10**9,
        optimizer="sgd",
        lr=LR,
    )


def lianhe(problem: Problem, aggregator: lh.Aggregator | None, **engine: Any) -> Step:
    """A whole round of lianhe.fit: cohort, batch, losses read and recorded, aggregation, step."""
    run = _Run(spec(problem, aggregator), lh.SharedEngine(**engine), 0, None)

    def step() -> None:
        run.advance()
        run.ledger.records.clear()

    step.run = run  # type: ignore[attr-defined]
    return step


def torchjd(problem: Problem, aggregator: Any, chunk: int | None) -> Step:
    """TorchJD's mtl_backward, in the quicker of its two ways from rows to a Gramian."""
    from torchjd.autojac import jac_to_grad, mtl_backward

    encoder, heads = problem.model()
    shared = list(encoder.parameters())
    optimizer = torch.optim.SGD([*shared, *(p for h in heads for p in h.parameters())], lr=LR)

    def step() -> None:
        optimizer.zero_grad()
        z = encoder(problem.x)
        losses = [F.cross_entropy(head(z), y) for head, y in zip(heads, problem.y, strict=True)]
        mtl_backward(losses, features=z, parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator, optimize_gramian_computation=True)
        optimizer.step()

    return step


def autogram(problem: Problem, weighting: Any) -> Step:
    """TorchJD's autogram engine."""
    from torchjd.autogram import Engine

    encoder, heads = problem.model()
    optimizer = torch.optim.SGD([*encoder.parameters(), *(p for h in heads for p in h.parameters())], lr=LR)
    engine = Engine(encoder, batch_dim=None)

    def step() -> None:
        optimizer.zero_grad()
        z = encoder(problem.x)
        losses = torch.stack([F.cross_entropy(head(z), y) for head, y in zip(heads, problem.y, strict=True)])
        losses.backward(weighting(engine.compute_gramian(losses)))
        optimizer.step()

    return step


def libmtl(problem: Problem, method: str) -> Step:
    """LibMTL's weighting, on a model that has what it asks for."""
    encoder, heads = problem.model()

    class Model(_weighting(method)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.heads = encoder, nn.ModuleList(heads)
            self.task_num, self.device, self.rep_grad = problem.tasks, torch.device("cpu"), False
            self.task_name = [str(i) for i in range(problem.tasks)]

        def get_share_params(self) -> Any:
            return self.encoder.parameters()

        def zero_grad_share_params(self) -> None:
            self.encoder.zero_grad(set_to_none=False)

        def losses(self) -> Tensor:
            z = self.encoder(problem.x)
            return torch.stack(
                [F.cross_entropy(head(z), y) for head, y in zip(self.heads, problem.y, strict=True)]
            )

    model = Model()
    model.init_param()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    random.seed(0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        model.backward(model.losses())
        optimizer.step()

    return step


def _weighting(method: str) -> Any:
    """A class of LibMTL.weighting, without the package's models, which ask for a torchvision of long ago."""
    found = importlib.util.find_spec("LibMTL")
    assert found is not None
    package = types.ModuleType("LibMTL")
    package.__path__ = list(found.submodule_search_locations or [])  # type: ignore[attr-defined]
    package.__spec__ = found
    sys.modules.setdefault("LibMTL", package)
    return getattr(importlib.import_module("LibMTL.weighting"), method)


def has_libmtl() -> bool:
    """Whether LibMTL is installed: it is no dependency, not even of the tests."""
    return importlib.util.find_spec("LibMTL") is not None


def upgrad() -> Any:
    """TorchJD's UPGrad."""
    from torchjd.aggregation import UPGrad

    return UPGrad()


def upgrad_weighting() -> Any:
    """TorchJD's weighting of UPGrad, for autogram."""
    from torchjd.aggregation import UPGradWeighting

    return UPGradWeighting()
