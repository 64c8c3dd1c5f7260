"""Encoders of many kinds, recurrent, normalised, in half precision, compiled: the engine equals its twin."""

from __future__ import annotations

from collections.abc import Callable
from shutil import which

import pytest
import torch
import torch._functorch.config as functorch
from tests.toys import assert_close, fit, seeded, table, tasks, weights_of
from torch import Tensor, nn

from lianhe.aggregation import Certified, Median, Sum, UPGrad
from lianhe.core.engine import LoopEngine
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.participants import Task

# Each needs another face of the stack: losses, products, the Gramian, the rows.
AGGREGATORS = [Sum(), Certified(), UPGrad(), Median()]
METHODS = ["sequential", "vmapped"]


class Recurrent(nn.Module):
    """The four columns as a sequence of four numbers; features are the last state."""

    def __init__(self, kind: type[nn.Module], **options: bool) -> None:
        super().__init__()
        self.cell = kind(1, 5, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x[:, :, None])
        return states[:, -1, :5]


class Last(nn.Module):
    """As above, and the sequence of states beside the last one: a representation of two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(1, 5, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        states, last = self.cell(x[:, :, None])
        return {"tokens": states, "pooled": last[-1]}


class Pooled(nn.Module):
    def __init__(self, key: str, outputs: int) -> None:
        super().__init__()
        self.key, self.linear = key, nn.Linear(5, outputs)

    def forward(self, z: dict[str, Tensor]) -> Tensor:
        part = z[self.key]
        return self.linear(part if part.ndim == 2 else part.mean(1))


class Images(nn.Sequential):
    """The four columns as an image of 2 x 2, normalised by batch or by group."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 2, 2)),
            nn.Conv2d(1, 4, 2, padding=1),
            norm,
            nn.ReLU(),
            nn.Flatten(),
            _five(36),
        )


def _five(inputs: int) -> nn.Module:
    return nn.Linear(inputs, 5)


def norms(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), _five(6))


ENCODERS = {
    "gru": lambda: Recurrent(nn.GRU),
    "gru both ways": lambda: Recurrent(nn.GRU, bidirectional=True),
    "lstm": lambda: Recurrent(nn.LSTM),
    "rnn": lambda: Recurrent(nn.RNN),
    "layer norm": lambda: norms(nn.LayerNorm(6)),
    "rms norm": lambda: norms(nn.RMSNorm(6)),
    "batch norm": lambda: norms(nn.BatchNorm1d(6)),
    "batch norm without statistics": lambda: norms(nn.BatchNorm1d(6, track_running_stats=False)),
    "batch norm of images": lambda: Images(nn.BatchNorm2d(4)),
    "group norm": lambda: Images(nn.GroupNorm(2, 4)),
    "instance norm": lambda: Images(nn.InstanceNorm2d(4, affine=True)),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), _five(6)
    ),
}


def spec(encoder: nn.Module, **options: object) -> Spec:
    given = {"data": table(48, missing=0.2), "rounds": 4, "batch_size": 16, "lr": 0.05, "optimizer": "sgd"}
    return Spec(tasks(), encoder=encoder, **{**given, **options})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=repr)
@pytest.mark.parametrize("kind", ENCODERS)
def test_equals_the_loop(kind: str, aggregator: object, method: str) -> None:
    of = spec(seeded(ENCODERS[kind], 1), aggregator=aggregator)
    start = weights_of(fit(of.replace(rounds=1, lr=1e-300), engine=LoopEngine()))
    ours, theirs = fit(of, engine=SharedEngine(method)), fit(of, engine=LoopEngine())
    assert_close(weights_of(ours), weights_of(theirs), 1e-10)
    moved = [name for name, tensor in weights_of(ours).items() if not torch.equal(tensor, start[name])]
    assert any(name.startswith("encoder.") for name in moved)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_counts_once_in_running_statistics(method: str) -> None:
    """However many tasks look at it, and by whatever engine."""
    x, _ = table(48)
    encoder = nn.Sequential(nn.BatchNorm1d(4, momentum=0.5), _five(4)).double()
    of = spec(encoder, data=table(48), batch_size=None, rounds=2, aggregator=UPGrad())
    mean = x.mean(0)
    for engine in (SharedEngine(method), LoopEngine()):
        statistics = weights_of(fit(of, engine=engine))
        torch.testing.assert_close(statistics["encoder.0.running_mean"], 0.75 * mean)
        assert int(statistics["encoder.0.num_batches_tracked"]) == 2


@pytest.mark.parametrize("method", METHODS)
def test_states_of_tokens_and_of_the_sequence(method: str) -> None:
    """Heads that read different parts of what a recurrent encoder gives."""
    x, y = table(48, missing=0.2)
    reading = [
        Task("size", seeded(lambda: Pooled("tokens", 1), 3), "mse"),
        Task("kind", seeded(lambda: Pooled("pooled", 3), 4), "cross_entropy"),
    ]
    given = {"data": (x, {t.name: y[t.name] for t in reading}), "rounds": 4, "batch_size": 16, "lr": 0.05}
    of = Spec(reading, encoder=seeded(Last, 1), aggregator=UPGrad(), **given)
    ours, theirs = (fit(of, engine=engine) for engine in (SharedEngine(method), LoopEngine()))
    assert_close(weights_of(ours), weights_of(theirs), 1e-10)


@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=repr)
@pytest.mark.parametrize("kind", ["gru", "layer norm", "batch norm", "group norm"])
def test_half_precision(kind: str, aggregator: object) -> None:
    """Under autocast, the same forward pass; sums of gradients differ by their order and rounding alone."""
    x, y = table(48, missing=0.2)
    data = (
        x.float(),
        {name: labels.float() if labels.is_floating_point() else labels for name, labels in y.items()},
    )
    heads = [Task(t.name, t.head.float(), t.loss) for t in tasks()]
    of = Spec(
        heads,
        encoder=seeded(ENCODERS[kind], 1).float(),
        data=data,
        aggregator=aggregator,
        rounds=4,
        batch_size=16,
        lr=0.05,
        optimizer="sgd",
        autocast=torch.bfloat16,
    )
    ours, theirs = (weights_of(fit(of, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(ours, theirs, 2e-2)
    full = weights_of(fit(of.replace(autocast=None)))
    assert not all(torch.equal(tensor, full[name]) for name, tensor in ours.items())
    assert all(tensor.dtype != torch.bfloat16 for tensor in ours.values())


def compiled(backend: str) -> Callable[[], nn.Module]:
    return lambda: torch.compile(seeded(ENCODERS["layer norm"], 1), backend=backend)


BACKENDS = [
    "eager",
    "aot_eager",
    pytest.param("inductor", marks=pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")),
]


@pytest.fixture
def fresh_compiler():
    """Nothing is compiled yet, and torch's setting is as at the start."""
    with functorch.patch(donated_buffer=True):
        torch.compiler.reset()
        yield
    torch.compiler.reset()


def plain_names(result) -> dict[str, Tensor]:
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in weights_of(result).items()}


# Inductor itself uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=repr)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_encoder(backend: str, aggregator: object, method: str) -> None:
    """A compiled backward pass gives buffers away after one use; the gradients of tasks need them again."""
    of = spec(compiled(backend), aggregator=aggregator)
    theirs = weights_of(fit(of.replace(encoder=seeded(ENCODERS["layer norm"], 1)), engine=LoopEngine()))
    assert_close(plain_names(fit(of, engine=SharedEngine(method))), theirs, 1e-10)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_compiled_for_one_backward_pass_is_compiled_again(backend: str) -> None:
    """The loop takes one backward pass a forward pass, so its code may give all buffers away."""
    of = spec(compiled(backend), aggregator=UPGrad())
    theirs = plain_names(fit(of, engine=LoopEngine()))
    for engine in (SharedEngine(), SharedEngine("dual"), SharedEngine(accumulate=2)):
        assert_close(plain_names(fit(of, engine=engine)), theirs, 1e-10)
