"""Affinities: the definition, by hand; the same fit; direction kept; first order where steps are short."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests.toys import F64, net, seeded, table, task_spec
from torch import nn

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import DataError, SpecError
from lianhe.engines import SharedEngine
from lianhe.experiment.evidence import (
    Affinity,
    Probed,
    Watched,
    best_grouping,
    higher_order,
    measure_affinity,
)
from lianhe.experiment.fit import fit
from lianhe.participants import Task


def sequential():
    return SharedEngine("sequential")


@pytest.mark.parametrize("engine", [LoopEngine, sequential], ids=["loop", "shared"])
def test_look_ahead_is_the_definition(engine) -> None:
    x, y = table()
    spec = task_spec(data=(x, y), rounds=1, batch_size=None)
    probed = Probed(engine(), lr=0.3, every=1)
    fit(spec, engine=probed)
    affinity = probed.affinity()
    heads = {t.name: t.head for t in spec.participants}

    def losses(encoder):
        z = encoder(x)
        return {
            "size": nn.functional.mse_loss(heads["size"](z).squeeze(1), y["size"]),
            "kind": nn.functional.cross_entropy(heads["kind"](z), y["kind"]),
            "flag": nn.functional.binary_cross_entropy_with_logits(heads["flag"](z).squeeze(1), y["flag"]),
        }

    before = losses(spec.encoder)
    for source in before:
        gradients = torch.autograd.grad(before[source], list(spec.encoder.parameters()), retain_graph=True)
        moved = copy.deepcopy(spec.encoder)
        with torch.no_grad():
            for p, g in zip(moved.parameters(), gradients, strict=True):
                p.sub_(0.3 * g)
        after = {t: loss.detach() for t, loss in losses(moved).items()}
        for target in before:
            expected = 1 - float(after[target] / before[target].detach())
            assert affinity.look_ahead[source][target] == pytest.approx(expected, rel=1e-9)
            others = torch.autograd.grad(before[target], list(spec.encoder.parameters()), retain_graph=True)
            product = sum(float((g * h).sum()) for g, h in zip(gradients, others, strict=True))
            first = 0.3 * product / float(before[target].detach())
            assert affinity.first_order[source][target] == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("engine", [LoopEngine, sequential], ids=["loop", "shared"])
def test_the_fit_is_the_same_bit_for_bit(engine) -> None:
    """Also with dropout, running statistics and missing labels."""
    encoder = net(dropout=0.3, norm=True)
    spec = task_spec(data=table(missing=0.3), encoder=encoder, rounds=7)
    plain, probed = fit(spec, engine=engine(), seed=2), fit(spec, engine=Probed(engine(), every=2), seed=2)
    for a, b in zip(plain.model.state_dict().values(), probed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [r.value for r in plain.history] == [r.value for r in probed.history]


def test_first_order_is_the_limit_of_short_steps_and_comes_from_the_gramian_too() -> None:
    spec = task_spec(rounds=6, aggregator=Watched(every=2))
    short, long = Probed(sequential(), lr=1e-6, every=2), Probed(sequential(), lr=1.0, every=2)
    watched = fit(spec, engine=short).aggregator
    fit(spec, engine=long)
    free = Affinity.of_gramians(watched, lr=1e-6)
    assert short.affinity().looks == free.looks == 3
    off = 0.0
    for i in free.tasks:
        assert short.affinity().first_order[i] == pytest.approx(free.first_order[i], rel=1e-9)
        for j in free.tasks:
            assert short.affinity().look_ahead[i][j] == pytest.approx(
                free.first_order[i][j], rel=1e-3, abs=1e-9
            )
            first = long.affinity().first_order[i][j]
            off = max(off, abs(long.affinity().look_ahead[i][j] - first) / abs(first))
    assert off > 0.05
    assert short.affinity().agreement == pytest.approx(1.0, abs=1e-3)


def test_direction_is_kept() -> None:
    """The loss of b is far larger, so that a step for b does much to a, and one for a little to b."""
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    data = (x, {"a": x[:, 0], "b": 5 * x[:, 0]})
    heads = [Task(t, seeded(lambda: nn.Linear(4, 1), 3), "mse") for t in data[1]]
    spec = task_spec(data=data, participants=heads, encoder=seeded(lambda: nn.Linear(3, 4), 1), rounds=1)
    affinity = measure_affinity(spec.replace(lr=1e-3), every=1)
    assert affinity.look_ahead["b"]["a"] > 3 * affinity.look_ahead["a"]["b"] > 0
    pair = affinity.losses()[frozenset("ab")]
    assert pair == pytest.approx(
        {"a": 1 - affinity.look_ahead["b"]["a"], "b": 1 - affinity.look_ahead["a"]["b"]}
    )


def test_affinities_group_tasks_that_help_one_another() -> None:
    x = torch.randn(256, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = {"a": x[:, 0], "b": x[:, 0] + 0.1 * x[:, 2], "c": -x[:, 1] * 2, "d": -x[:, 1]}
    spec = task_spec(
        data=(x, y),
        participants=[Task(t, seeded(lambda: nn.Linear(3, 1), 1), "mse") for t in y],
        encoder=seeded(lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh()), 1),
        rounds=60,
        batch_size=64,
    )
    affinity = measure_affinity(spec)
    chosen = best_grouping(higher_order(affinity.losses()), 2)
    assert {frozenset(n.serves) for n in chosen.networks} == {frozenset("ab"), frozenset("cd")}
    assert affinity.table().row_count == 4


def test_a_resumed_fit_has_found_the_same(tmp_path: Path) -> None:
    spec = task_spec(rounds=9)
    whole, first, second = (Probed(sequential(), every=2) for _ in range(3))
    fit(spec, engine=whole)
    fit(spec.replace(rounds=5), engine=first, checkpoint=tmp_path, checkpoint_every=5)
    fit(spec, engine=second, checkpoint=tmp_path, resume=True)
    assert second.affinity().to_dict() == whole.affinity().to_dict()


def test_what_cannot_be_probed_is_refused() -> None:
    with pytest.raises(SpecError, match="every"):
        Probed(LoopEngine(), every=0)
    with pytest.raises(SpecError, match="no round"):
        Probed(LoopEngine()).affinity()
    alone = [Task(t, nn.Linear(5, 1).double(), "mse") for t in ("size",)]
    with pytest.raises(SpecError, match="no round"):
        measure_affinity(task_spec(participants=alone, rounds=2))
    both = [Task("size", nn.Linear(4, 1).double(), "mse"), Task("kind", nn.Linear(4, 3).double())]
    with pytest.raises(SpecError, match="share no"):
        measure_affinity(task_spec(participants=both, encoder=None, rounds=2))
    with pytest.raises(DataError, match="look_ahead"):
        Affinity(("a",), {}, {}, 1).losses()
    apart = {"a": {"a": 1.0}, "b": {"b": 1.0}}
    with pytest.raises(DataError, match="never had labels"):
        Affinity(("a", "b"), apart, apart, 1).losses()


def test_steps_whose_length_is_not_given_are_no_longer_than_a_step_says_something() -> None:
    spec = task_spec(rounds=6)
    long, short = Probed(sequential(), every=2, length=10.0), Probed(sequential(), every=2, length=1e-4)
    fit(spec, engine=long)
    fit(spec, engine=short)
    largest = max(long.affinity().first_order[t][t] for t in long.affinity().tasks)
    assert largest == pytest.approx(0.1, rel=0.2)
    assert max(short.affinity().first_order[t][t] for t in short.affinity().tasks) < 0.01
