"""Products with the Jacobian of the tasks, by all ways there are, against plain autograd."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, assert_close, fit, net, seeded, table, task_spec, tasks, weights_of
from torch import nn

from lianhe.aggregation import Certified, DualProj, UPGrad
from lianhe.core.contribution import Request
from lianhe.core.engine import LoopEngine
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.engines import SharedEngine
from lianhe.engines.trunk import Chunked, Jacobian, one_by_one
from lianhe.linalg import flatten
from lianhe.participants import Task


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(1, 5, batch_first=True)

    def forward(self, x):
        return self.cell(x[:, :, None])[0][:, -1]


class Attending(nn.Module):
    """The four columns as four tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 5)

    def forward(self, x):
        tokens = self.embed(x[:, :, None])
        return self.out((tokens + self.attention(tokens, tokens, tokens)[0]).mean(1))


class Levels(nn.Module):
    """A representation of several tensors, of which no task reads all."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        low = self.net[:-1](x)
        return {"low": low, "high": [self.net[-1](low), None]}


def images(*middle):
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2, padding=1), *middle, nn.Flatten(), nn.Linear(36, 5)
    )


ENCODERS = {
    "mlp": net,
    "conv": lambda: images(nn.ReLU()),
    "batch norm": lambda: images(nn.BatchNorm2d(4), nn.ReLU()),
    "group norm": lambda: images(nn.GroupNorm(2, 4), nn.ReLU()),
    "layer norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 5)),
    "dropout": lambda: net(dropout=0.4),
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
    "attention": Attending,
}


class Reads(nn.Module):
    def __init__(self, where, inputs, outputs):
        super().__init__()
        self.where, self.linear = where, nn.Linear(inputs, outputs)

    def forward(self, z):
        return self.linear(self.where(z))


def of_levels():
    """The first reads both tensors, the second one of them, the third the other."""
    where = {
        "size": (lambda z: torch.cat([z["low"], z["high"][0]], 1), 11, 1),
        "kind": (lambda z: z["low"], 6, 3),
        "flag": (lambda z: z["high"][0], 5, 1),
    }
    return [
        Task(t.name, seeded(lambda n=t.name: Reads(*where[n]), 7), t.loss, weight=t.weight) for t in tasks()
    ]


def own_data():
    x, y = table(60, missing=0.2)
    cuts = {"size": slice(0, 30), "kind": slice(20, 60), "flag": slice(5, 18)}
    return [Task(t.name, t.head, t.loss, data=(x[cuts[t.name]], y[t.name][cuts[t.name]])) for t in tasks()]


def mixed():
    """Two tasks on one data set, the third, which stands between them, on another."""
    x, y = table(60, missing=0.2)
    first, second = (x[:30], {n: v[:30] for n, v in y.items()}), (x[30:], {n: v[30:] for n, v in y.items()})
    return [Task(t.name, t.head, t.loss, data=second if t.name == "kind" else first) for t in tasks()]


PROBLEMS = {
    **{name: {"encoder": seeded(make, 1)} for name, make in ENCODERS.items()},
    "levels": {"encoder": Levels(), "participants": of_levels()},
    "own data": {"participants": own_data(), "data": None},
    "some share data": {"participants": mixed(), "data": None},
}


def stack_of(name, engine=None, **options):
    """The stack of a first round, and the rows that plain autograd gives, one task at a time."""
    spec = task_spec(**{"data": table(missing=0.2), **PROBLEMS[name], **options})
    problem = spec.problem(0)
    request = Request(Stream(0, 0), problem.joint)
    loop = LoopEngine().collect(spec.problem(0).live, request)
    rows = torch.stack([flatten({"encoder": c.blocks["encoder"]}) for c in loop.contributions])
    return (engine or SharedEngine("sequential")).collect(problem.live, request), rows


NEAR = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize(
    "fill",
    [one_by_one, Chunked(1), Chunked(2), Chunked(3), Chunked(50)],
    ids=["one by one", "1", "2", "3", "50"],
)
@pytest.mark.parametrize("name", PROBLEMS)
def test_rows_by_any_filler(name, fill):
    with untouched_global_state():
        stack, expected = stack_of(name)
        jacobian = Jacobian(stack._backward[0], stack.parameters, 3, fill)
        torch.testing.assert_close(jacobian.rows(), expected, **NEAR)
        torch.testing.assert_close(jacobian.rows(), expected, **NEAR)  # and once more
        last = dict([list(stack.parameters.items())[-1]])
        columns = next(iter(last.values())).numel()
        torch.testing.assert_close(jacobian.rows(last), expected[:, -columns:], **NEAR)


@pytest.mark.parametrize("name", PROBLEMS)
def test_pull_and_push_are_products_with_the_rows(name):
    with untouched_global_state():
        stack, rows = stack_of(name)
        weights = torch.tensor([0.3, -2.0, 1.5], dtype=F64)
        pulled = stack.jacobian.pull(weights)
        torch.testing.assert_close(torch.cat([p.reshape(-1) for p in pulled]), weights @ rows, **NEAR)
        direction = [
            torch.randn(p.shape, dtype=F64, generator=torch.Generator().manual_seed(i))
            for i, p in enumerate(stack.parameters.values())
        ]
        stack.jacobian.pull(torch.ones(3, dtype=F64), push=True)
        for scale in (1.0, -3.0):
            moved = stack.jacobian.push([scale * d for d in direction])
            expected = scale * rows @ torch.cat([d.reshape(-1) for d in direction])
            torch.testing.assert_close(moved, expected, **NEAR)


@pytest.mark.parametrize("name", PROBLEMS)
def test_products_and_what_is_combined_from_them(name, monkeypatch):
    """A direction that products have been asked for is put together from what they left behind."""
    with untouched_global_state():
        stack, rows = stack_of(name)
        trunk = stack.trunk()
        wanted = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
        torch.testing.assert_close(trunk.products(wanted), rows @ rows.T @ wanted, **NEAR)
        unit = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
        torch.testing.assert_close(trunk.products(unit), rows @ rows[2], **NEAR)

        def flat(weights):
            return flatten({"encoder": trunk.combine(weights)["encoder"]})

        other = torch.tensor([0.2, 1.5, 0.3], dtype=F64)
        torch.testing.assert_close(flat(other), other @ rows, **NEAR)  # not of these: a pass of its own
        monkeypatch.setattr(Jacobian, "pull", None)  # from here on there is none
        for weights in (wanted, wanted + 4 * unit, wanted - 0.3 * unit):
            torch.testing.assert_close(flat(weights), weights @ rows, **NEAR)
        assert "values" not in vars(trunk)


@pytest.mark.parametrize("name", [n for n in PROBLEMS if n != "gru"])
def test_certified_on_products_is_its_twin_on_rows(name):
    options = {**PROBLEMS[name], "rounds": 6, "lr": 0.2}
    options = {"data": table(missing=0.3), **options}
    certified = fit(task_spec(**options, aggregator=Certified()), engine=SharedEngine())
    twin = fit(task_spec(**options, aggregator=DualProj()), engine=LoopEngine())
    assert_close(weights_of(certified), weights_of(twin), 1e-9)
    assert "needed surgery" in certified.findings[-1]


# ------------------------------------------------------------------------ layers that allow less


class Once(torch.autograd.Function):
    """Has a gradient, and that has none."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


class Alone(torch.autograd.Function):
    """Looks at numbers, which nothing vectorised has."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (2.0 if float(gradient.sum()) < 1e9 else 0.0)


class Applies(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


def test_without_second_derivative_products_come_from_the_rows():
    with untouched_global_state():
        stack, rows = stack_of("mlp", encoder=nn.Sequential(net(), Applies(Once)))
        trunk, weights = stack.trunk(), torch.tensor([0.2, 0.5, 0.3], dtype=F64)
        torch.testing.assert_close(trunk.products(weights), rows @ rows.T @ weights, **NEAR)
        assert "values" in vars(trunk)
        torch.testing.assert_close(flatten(trunk.combine(weights)), weights @ rows, **NEAR)


def test_what_cannot_be_vectorised_is_done_one_by_one_and_said():
    encoder = nn.Sequential(net(), Applies(Alone))
    with untouched_global_state():
        engine = SharedEngine("vmapped", chunk=2)
        stack, rows = stack_of("mlp", engine, encoder=encoder)
        torch.testing.assert_close(stack.trunk().values, rows, **NEAR)
    assert any(told.startswith("vmapped 2 is not possible here: ") for told in engine.findings())
    spec = task_spec(encoder=encoder, aggregator=UPGrad(), rounds=6)
    ours, theirs = (weights_of(fit(spec, engine=e)) for e in (SharedEngine("vmapped"), LoopEngine()))
    assert_close(ours, theirs)


def test_a_second_derivative_that_misses_a_branch_is_noticed():
    """Beside such a layer, a residual path is differentiable: what is found is no error, but too little."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            z = self.net(x)
            return z + Once.apply(z)

    with untouched_global_state():
        stack, rows = stack_of("mlp", encoder=Residual())
        weights = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
        torch.testing.assert_close(stack.trunk().products(weights), rows @ rows.T @ weights, **NEAR)


# ------------------------------------------------------------------------ weights that are used twice


class Tied(nn.Module):
    """One matrix, in two layers or by hand."""

    def __init__(self, by_hand):
        super().__init__()
        self.first, self.second = nn.Linear(40, 40), nn.Linear(40, 40)
        self.out, self.by_hand = nn.Linear(40, 5), by_hand
        if not by_hand:
            self.second.weight = self.first.weight

    def forward(self, x):
        x = self.first(x.repeat(1, 10)).tanh()
        x = nn.functional.linear(x, self.first.weight) if self.by_hand else self.second(x)
        return self.out(x.tanh())


@pytest.mark.parametrize("method", ["sequential", "vmapped", "dual"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_weight_may_be_used_twice(by_hand, method):
    spec = task_spec(encoder=seeded(lambda: Tied(by_hand), 1), aggregator=UPGrad(), rounds=4)
    ours, theirs = (weights_of(fit(spec, engine=e)) for e in (SharedEngine(method), LoopEngine()))
    assert_close(ours, theirs)


def doubled(encoder):
    """An encoder whose first layer has a hook that changes what it gives."""
    encoder[0].register_forward_hook(lambda layer, x, out: 2 * out)
    return encoder


class Swapped(nn.Module):
    """A layer with another weight in its place, made of its own."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        weight = {"0.weight": 3 * self.net[0].weight}
        return torch.func.functional_call(self.net, weight, (x,))


@pytest.mark.parametrize("encoder", [doubled(net()), Swapped()], ids=["hook", "functional call"])
@pytest.mark.parametrize("method", ["sequential", "dual"])
def test_layers_that_others_have_a_hand_in(encoder, method):
    spec = task_spec(encoder=encoder, aggregator=UPGrad(), rounds=4, batch_size=3)
    ours, theirs = (weights_of(fit(spec, engine=e)) for e in (SharedEngine(method), LoopEngine()))
    assert_close(ours, theirs)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("aggregator", [UPGrad(), Certified()], ids=repr)
def test_the_dual_form_is_the_loop(name, aggregator):
    options = {"data": table(missing=0.2), **PROBLEMS[name], "rounds": 3, "batch_size": 3}
    if "norm" in name:
        options["batch_size"] = 6
    spec = task_spec(**options, aggregator=aggregator)
    ours, theirs = (weights_of(fit(spec, engine=e)) for e in (SharedEngine("dual"), LoopEngine()))
    assert_close(ours, theirs, 1e-10)
