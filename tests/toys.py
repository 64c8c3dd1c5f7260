"""Small problems that the tests of core, participants and engines share: three tasks, one table, float64."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lianhe.core.aggregator import Elementwise, Weighting
from lianhe.core.result import Result
from lianhe.core.spec import Spec
from lianhe.experiment.fit import fit
from lianhe.participants import Local, Site, Task

F64 = torch.float64
MISSING = -100
CPU = torch.device("cpu")

Labels = dict[str, Tensor]


class Flat(Weighting):
    """Equal weights, whatever the participants' own; an oracle that shares no code with `Mean`."""

    needs = "losses"
    linear = True

    def weigh(self, stack):
        return torch.full((len(stack),), 1 / len(stack), dtype=F64)


class Shortest(Weighting):
    """A weighting that needs the Gramian: inverse to each row's length."""

    needs = "gramian"

    def weigh(self, stack):
        return stack.gramian().diagonal().clamp_min(1e-300).rsqrt() / len(stack)


class Largest(Elementwise):
    """Coordinate-wise maximum: needs the values."""

    def reduce(self, stack):
        return stack.values.max(0).values


def table(rows: int = 40, missing: float = 0.0, seed: int = 0) -> tuple[Tensor, Labels]:
    """Four columns; a number, one of three classes, and a bit to predict, some of them missing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=g, dtype=F64)
    y = {
        "size": x[:, 0] - 2 * x[:, 1] + 0.1 * torch.randn(rows, generator=g, dtype=F64),
        "kind": (x @ torch.randn(4, 3, generator=g, dtype=F64)).argmax(1),
        "flag": (x[:, 2] * x[:, 3] > 0).to(F64),
    }
    for labels in y.values():
        gone = torch.rand(rows, generator=g) < missing
        labels[gone] = torch.nan if labels.is_floating_point() else MISSING
    return x, y


def seeded(make: Callable[[], nn.Module], seed: int) -> Any:
    """Make a module, in float64, with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def net(dropout: float = 0.0, norm: bool = False, seed: int = 1) -> nn.Sequential:
    """Encoder from 4 columns to 5 features."""
    middle = [nn.BatchNorm1d(6)] if norm else []
    drop = [nn.Dropout(dropout)] if dropout else []
    return seeded(lambda: nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), *drop, nn.Linear(6, 5)), seed)


def head(outputs: int, dropout: float = 0.0, inputs: int = 5, seed: int = 2) -> nn.Module:
    drop = [nn.Dropout(dropout)] if dropout else []
    return seeded(lambda: nn.Sequential(*drop, nn.Linear(inputs, outputs)), seed)


LOSS = {"size": "mse", "kind": "cross_entropy", "flag": "binary_cross_entropy"}
OUTPUTS = {"size": 1, "kind": 3, "flag": 1}


def tasks(names: Iterable[str] = LOSS, **options: Any) -> list[Task]:
    """The three tasks, or some of them; `dropout` and `inputs` are the heads', all else is the tasks'."""
    of_head = {k: options.pop(k) for k in ("dropout", "inputs") if k in options}
    return [
        Task(n, head(OUTPUTS[n], seed=10 + list(LOSS).index(n), **of_head), LOSS[n], **options) for n in names
    ]


def task_spec(data: Any = None, names: Iterable[str] = LOSS, **options: Any) -> Spec:
    """A multi-task specification; options replace its fields."""
    given: dict[str, Any] = {
        "encoder": net(),
        "data": table() if data is None else data,
        "rounds": 12,
        "batch_size": 16,
        "lr": 0.05,
        "optimizer": "sgd",
        **options,
    }
    return Spec(given.pop("participants", None) or tasks(names), **given)


#: the tasks that each of three sites holds: different ones, and "flag" at one site only
COVERAGE = {"north": ("size", "kind"), "east": ("kind", "size", "flag"), "south": ("size",)}


def split(
    data: tuple[Tensor, Labels],
    coverage: Mapping[str, Sequence[str]] = COVERAGE,
    sizes: Sequence[int] = (7, 12, 21),
) -> dict[str, tuple[Tensor, Labels]]:
    """Cut a table into sites of unequal size, each with labels of the tasks that it holds."""
    x, y = data
    parts: dict[str, tuple[Tensor, Labels]] = {}
    start = 0
    for (site, held), size in zip(coverage.items(), sizes, strict=True):
        at = slice(start, start + size)
        parts[site] = (x[at], {task: y[task][at] for task in held})
        start += size
    return parts


def pooled(parts: Mapping[str, tuple[Tensor, Labels]], names: Iterable[str] = LOSS) -> tuple[Tensor, Labels]:
    """The sites' data as one table, with labels missing where a site does not hold the task."""
    x = torch.cat([part[0] for part in parts.values()])
    y: Labels = {}
    for name in names:
        like = next(labels[name] for _, labels in parts.values() if name in labels)
        blank = torch.nan if like.is_floating_point() else MISSING
        y[name] = torch.cat(
            [
                ls[name] if name in ls else torch.full((len(xs),), blank, dtype=like.dtype)
                for xs, ls in parts.values()
            ]
        )
    return x, y


def site_spec(parts: Mapping[str, Any] | None = None, **options: Any) -> Spec:
    """A federation; options replace its fields."""
    given: dict[str, Any] = {
        "tasks": tasks(),
        "encoder": net(),
        "rounds": 4,
        "local": Local(epochs=2, batch_size=5, lr=0.05),
        **options,
    }
    parts = split(table(missing=0.2)) if parts is None else parts
    return Spec(given.pop("participants", None) or [Site(n, part) for n, part in parts.items()], **given)


def weights_of(result: Result, name: str = "") -> dict[str, Tensor]:
    """Every tensor of a result's model, by name."""
    return dict(result.models[name].state_dict())


def all_weights(result: Result) -> dict[str, Tensor]:
    return {f"{who}:{name}": t for who in result.models for name, t in weights_of(result, who).items()}


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float = 1e-12) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert list(ours) == list(theirs)
    different = [n for n, t in ours.items() if not torch.equal(t, theirs[n])]
    assert not different


class Interrupted(Exception):  # noqa: N818  no error: somebody pulled the plug
    """Raised by an observer to end a fit between two rounds."""


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    with contextlib.suppress(Interrupted):
        yield
        raise AssertionError("the fit was not interrupted")


def at_round(last: int) -> Callable[[int, int, Any], None]:
    """An observer that lets `last` rounds pass and interrupts the next."""

    def observe(done: int, total: int, records: Any) -> None:
        if done > last:
            raise Interrupted

    return observe


def resumed(spec: Spec, after: int, directory: Path, every: int = 1, **options: Any) -> Result:
    """Fit until the plug is pulled in the round after `after`, then go on from the checkpoint."""
    with interrupted():
        fit(spec, checkpoint=directory, checkpoint_every=every, observer=at_round(after), **options)
    return fit(spec, checkpoint=directory, checkpoint_every=every, resume=True, **options)
