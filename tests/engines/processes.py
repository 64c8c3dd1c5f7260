"""Fits on two processes, for test_distributed.py: `python -m tests.engines.processes DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.toys import F64, fit, head, net, table, task_spec, tasks, weights_of

from lianhe.aggregation import DWA, MGDA, Certified, GradNorm, Mean, Median, MoDo, PCGrad, UPGrad
from lianhe.core.spec import Spec
from lianhe.engines import DistributedEngine, SharedEngine
from lianhe.participants import Task

AGGREGATORS = {
    "none": None,
    "Mean": Mean(),
    "UPGrad": UPGrad(),
    "MGDA": MGDA(),
    "PCGrad": PCGrad(),
    "DWA": DWA(2),
    "GradNorm": GradNorm(),
    "Median": Median(),
    "Certified": Certified(),
    "MoDo": MoDo(),
}


class Once(torch.autograd.Function):
    """Has a gradient, and that has none."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


class OnceOnly(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(x)


def at_one_process_only() -> Any:
    """Of "flag", only every other sample has a label: those that the first of two processes gets."""
    x, y = table(40, missing=0.2)
    y["flag"][1::2] = torch.nan
    return x, y


def nothing_for_the_second() -> Any:
    """A full batch whose labels are all at the first process."""
    x, y = table(40)
    for labels in y.values():
        labels[1::2] = torch.nan if labels.is_floating_point() else -100
    return x, y


def normalised() -> Spec:
    first = torch.nn.BatchNorm1d(4, dtype=F64)
    return task_spec(
        encoder=torch.nn.Sequential(first, net()), batch_size=None, rounds=1, aggregator=UPGrad()
    )


def normalised_head() -> Spec:
    made = torch.nn.Sequential(torch.nn.BatchNorm1d(5, dtype=F64), head(1))
    return task_spec(participants=[*tasks()[:2], Task("flag", made, "binary_cross_entropy")], rounds=3)


def cases() -> dict[str, Spec]:
    """By name, what is fitted."""
    plain = {
        f"plain {n}": task_spec(table(missing=0.2), rounds=5, batch_size=12, aggregator=a)
        for n, a in AGGREGATORS.items()
    }
    odd = {
        f"at one process {n}": task_spec(at_one_process_only(), rounds=4, batch_size=None, aggregator=a)
        for n, a in AGGREGATORS.items()
    }
    none = {
        f"nothing for the second {n}": task_spec(
            nothing_for_the_second(), encoder=encoder, rounds=3, batch_size=None, aggregator=AGGREGATORS[n]
        )
        for n, encoder in (("UPGrad", net()), ("Certified", torch.nn.Sequential(net(), OnceOnly())))
    }
    return {**plain, **odd, **none, "few labels": task_spec(table(missing=0.9), batch_size=3, rounds=12)}


def apart() -> dict[str, Spec]:
    """Cases in which two processes are not one: they normalise by their own part of the batch."""
    idle = normalised().replace(data=nothing_for_the_second(), rounds=3)
    return {"normalised": normalised(), "normalised head": normalised_head(), "normalised, one idle": idle}


def work(fabric: Any, directory: str) -> None:
    """Fit everything, and write down what came out at this process."""
    torch.set_num_threads(1)

    def keep(name: str, result: Any) -> None:
        save_file(weights_of(result), Path(directory) / f"{name}.{fabric.global_rank}.safetensors")

    for name, spec in {**cases(), **apart()}.items():
        keep(name, fit(spec, engine=DistributedEngine(fabric)))
    for n in ("UPGrad", "Certified"):
        engine = DistributedEngine(fabric, SharedEngine("sequential", accumulate=3))
        keep(f"accumulated {n}", fit(cases()[f"plain {n}"], engine=engine))


def main() -> None:
    from lightning_fabric import Fabric

    Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(work, sys.argv[1])


if __name__ == "__main__":
    main()
