"""Every sharing architecture on the three tasks of tests.toys, and on images; and what all must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from tests.toys import F64, LOSS, OUTPUTS, seeded, table
from torch import Tensor, nn

from lianhe.core.spec import Spec
from lianhe.nets import (
    CGC,
    MLP,
    MTAN,
    PLE,
    ConvNet,
    CrossStitch,
    DSelectK,
    LoRA,
    MeanPixel,
    MMoE,
    Pick,
    Sharing,
    Stages,
)
from lianhe.participants import Task
from lianhe.participants.losses import mean_loss

TASKS = tuple(LOSS)


def expert() -> nn.Module:
    return MLP(4, [6, 5])


def make_stages() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 5), nn.Tanh())]


def maps(outputs: int = 5) -> nn.Module:
    return ConvNet(1, [3, outputs], norm="none", pool=False)


class Deep(Sharing):
    """Tasks at different depths, as an architecture like the others."""

    depth: ClassVar = dict(zip(TASKS, (0, 0, 1), strict=True))

    def encoder(self) -> nn.Module:
        return Stages([nn.Linear(4, 5), nn.Linear(5, 5)], self.depth)

    def head(self, task: str, tower: Any = None) -> nn.Module:
        return Pick(self.depth[task], tower)


#: on vectors of 4 columns; every one gives 5 features
VECTORS: dict[str, Sharing] = {
    "mmoe": MMoE(expert, experts=3, inputs=4),
    "mmoe one": MMoE(expert, experts=1, inputs=4),
    "cgc": CGC(expert, experts=2, shared=3, inputs=4),
    "ple one": PLE(lambda n: MLP(n, [5]), TASKS, 4, 5, levels=1, experts=2),
    "ple two": PLE(lambda n: MLP(n, [5]), TASKS, 4, 5, levels=2, experts=2),
    "ple three": PLE(lambda n: MLP(n, [5]), TASKS, 4, 5, levels=3, shared=2),
    "dselectk": DSelectK(expert, experts=4, k=2),
    "dselectk by example": DSelectK(expert, experts=3, k=2, inputs=4),
    "crossstitch": CrossStitch(make_stages, TASKS),
    "crossstitch by channel": CrossStitch(make_stages, TASKS, channels=[6, 5]),
    "mtan": MTAN(make_stages, TASKS, features=[6, 5]),
    "lora": LoRA(lambda: MLP(4, [6, 5]), TASKS, rank=2),
    "lora frozen": LoRA(lambda: MLP(4, [6, 5]), TASKS, rank=2, freeze=True),
    "stages": Deep(),
}

#: on images [n, 1, 8, 8]; every one gives maps of 5 channels
IMAGES: dict[str, Sharing] = {
    "mmoe": MMoE(maps, experts=2, inputs=64),
    "cgc": CGC(maps, inputs=64),
    "ple": PLE(lambda n: maps() if n == 64 else nn.Conv2d(5, 5, 3, padding=1), TASKS, 64, 80),
    "dselectk": DSelectK(maps, experts=3, k=2, inputs=64),
    "crossstitch": CrossStitch(maps, TASKS),
    "mtan": MTAN(lambda: ConvNet(1, [3, 5], depth=2, pool=False), TASKS, features=[3, 5], images=True),
    "lora": LoRA(maps, TASKS, rank=2),
}


def pooled(tower: nn.Module) -> nn.Module:
    """A tower on maps."""
    return nn.Sequential(MeanPixel(), tower)


def tower(task: str) -> nn.Module:
    return nn.Linear(5, OUTPUTS[task])


def built(
    sharing: Sharing, seed: int = 0, wrap: Callable[[nn.Module], nn.Module] = lambda t: t
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Encoder and heads in float64, every parameter away from the special value that it begins with."""
    encoder = seeded(sharing.encoder, seed)
    heads = {t: seeded(lambda t=t: sharing.head(t, wrap(tower(t))), seed + i) for i, t in enumerate(TASKS, 1)}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in [p for module in [encoder, *heads.values()] for p in module.parameters()]:
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=F64), alpha=0.1)
    return encoder, heads


def images(rows: int = 12) -> tuple[Tensor, dict[str, Tensor]]:
    """Images of one channel, and the labels of `table`."""
    x = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=F64)
    return x, table(rows)[1]


def spec(sharing: Sharing, data: Any = None, wrap: Any = lambda t: t, **options: Any) -> Spec:
    """A specification of an architecture; options replace its fields."""
    encoder, heads = built(sharing, wrap=wrap)
    given = {"rounds": 6, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", **options}
    data = table(missing=0.2) if data is None else data
    return Spec([Task(t, h, LOSS[t]) for t, h in heads.items()], encoder=encoder, data=data, **given)


def losses(encoder: nn.Module, heads: dict[str, nn.Module], data: Any) -> dict[str, Tensor]:
    """Loss of every task."""
    x, y = data
    z = encoder(x)
    return {t: mean_loss(LOSS[t], t)(head(z), y[t], True) for t, head in heads.items()}


def reached(encoder: nn.Module, heads: dict[str, nn.Module], data: Any) -> dict[str, set[str]]:
    """By parameter, "encoder:…" or "<task>:…", tasks whose loss has a gradient on it that is not zero."""
    modules = {"encoder": encoder, **heads}
    names = [f"{who}:{n}" for who, m in modules.items() for n, p in m.named_parameters() if p.requires_grad]
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    found: dict[str, set[str]] = {name: set() for name in names}
    for task, loss in losses(encoder, heads, data).items():
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None and bool(gradient.abs().max() > 0):
                found[name].add(task)
    return found
